// What a worker thread runs; router.ts starts it where the configuration has several workers.

import { runWorker } from "./router.ts";

runWorker();

// What a thread of the router runs; live-router.ts starts it: the path monitor, or a worker where there are several.

import { workerData } from "node:worker_threads";
import { runMonitor, runWorker } from "./live-router.ts";

if ((workerData as { role?: string }).role === "monitor") runMonitor();
else runWorker();

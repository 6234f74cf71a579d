import { hostSuite } from "./host-suite.ts";

hostSuite("two-routers");

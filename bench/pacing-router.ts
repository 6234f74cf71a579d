// The router of the pacing bench: `waymark run` without its control side, with the port's mode and the pacer's patience
// from the command line. Prints "ready".
//
//   pacing-router.js CONFIG immediate|timeout PATIENCE_US

import { readFileSync } from "node:fs";
import { SystemRandom } from "../lib/base/random.ts";
import { parseConfig } from "../lib/control/config.ts";
import { warmUp } from "../lib/control/warm-up.ts";
import { pace } from "../lib/engine/pace.ts";
import { openWire } from "../lib/io/device-port.ts";
import { LivePort } from "../lib/io/live-port.ts";
import { NativeClock } from "../lib/io/native-clock.ts";
import { buildRouter } from "../lib/router.ts";

const [path, mode, patienceUs] = process.argv.slice(2);
const { config } = parseConfig(readFileSync(path, "utf8"), path);
if (config === null) throw new Error(`${path} is wrong`);
const wire = openWire().map((end, row) => new LivePort({ name: `lan${row}`, device: "", end }));
await warmUp(buildRouter, wire, new NativeClock());
const ports = config.interfaces.map(
  ({ name, device }) => new LivePort({ name, device, immediate: mode === "immediate", timeoutMs: 1 }),
);
const clock = new NativeClock();
const router = buildRouter(config, ports, { clock, random: new SystemRandom(), acceptAnyMac: false });
pace(router.engine, ports, clock, Number(patienceUs));
console.log("ready");

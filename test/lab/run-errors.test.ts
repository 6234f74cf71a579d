// `waymark run` where it cannot run: one message that says what is wrong, no stack, exit 1.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { type Lab, MAIN, type Outcome, openLab } from "./lab.ts";
import { labTest, missing } from "./lab-test.ts";

const MESSAGE_LINES_MAX = 3;
const RUN_SECONDS_MAX = "20";
/** Root's right to read any file, so that the program itself can be loaded wherever it lies; no other right. */
const READ_ONLY = "+dac_read_search";

let lab: Lab;

test.before(async () => {
  if (missing === undefined) lab = await openLab("two-routers");
});
test.after.always(async () => {
  await lab?.close();
});

/** Run west's router behind `wrapper`, with west's configuration or another. */
async function runWest(wrapper: string[], configPath = lab.routers[0].configPath): Promise<Outcome> {
  const command = [RUN_SECONDS_MAX, ...wrapper, process.execPath, MAIN, "run", "-c", configPath];
  return await lab.run("west", "timeout", ...command);
}

function refusedWith(t: ExecutionContext, { code, stderr }: Outcome, message: RegExp): void {
  t.is(code, 1, stderr);
  t.regex(stderr, message);
  t.notRegex(stderr, /^\s+at /m, "a stack is for programmers");
  t.true(stderr.trim().split("\n").length <= MESSAGE_LINES_MAX, stderr);
}

labTest("A device that does not exist is refused by its name", async (t) => {
  const configPath = join(lab.directory, "no-device.yaml");
  writeFileSync(configPath, readFileSync(lab.routers[0].configPath, "utf8").replace("device: wan0", "device: wan7"));
  refusedWith(t, await runWest([], configPath), /wan7/);
});

labTest("A start without root is refused and says what it needs", async (t) => {
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const outcome = await runWest([...nobody, `--inh-caps=${READ_ONLY}`, `--ambient-caps=${READ_ONLY}`]);
  refusedWith(t, outcome, /root|CAP_NET_/);
});

labTest("A start without nft is refused and names it", async (t) => {
  const empty = join(lab.directory, "empty");
  mkdirSync(empty);
  refusedWith(t, await runWest(["env", `PATH=${empty}`]), /nft/);
});

labTest("The loopback device is refused, or the guard would keep the host from itself", async (t) => {
  const configPath = join(lab.directory, "loopback.yaml");
  writeFileSync(configPath, readFileSync(lab.routers[0].configPath, "utf8").replace("device: wan0", "device: lo"));
  refusedWith(t, await runWest([], configPath), /lo is the loopback device/);
});

labTest("A refused start leaves no guard behind", async (t) => {
  t.is((await lab.run("west", "nft", "list", "tables")).stdout, "");
});

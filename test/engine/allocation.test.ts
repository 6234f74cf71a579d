import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import test from "ava";

const GATE = fileURLToPath(new URL("../../bench/allocation.js", import.meta.url));

test("forwarding an established session leaves no garbage: at most one byte a packet over two million packets", (t) => {
  const { status, stderr } = spawnSync(process.execPath, [GATE], { encoding: "utf8" });
  t.is(status, 0, stderr);
});

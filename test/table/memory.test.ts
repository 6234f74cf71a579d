// What a session costs, by the account in lib/table/README.md, by the memory a router takes when it is built, and by
// what the process holds when sessions are open.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import test from "ava";
import { IngressRouter } from "../../bench/ingress-router.ts";
import { textOf } from "../house/source.ts";

const CAPACITY = fileURLToPath(new URL("../../bench/macro/session-capacity.js", import.meta.url));
const account = [...textOf("lib/table/README.md").matchAll(/^\| ([^|]+) \| [^|]* \| (\d+) \|$/gm)];
const sum = Number(account.find(([, where]) => where === "sum")?.[2]);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes in buffers that something still refers to. */
function arrayBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

test("the account of a session's bytes adds up", (t) => {
  const rows = account.filter(([, where]) => where !== "sum");
  t.true(rows.length >= 8);
  t.is(
    rows.reduce((total, [, , bytes]) => total + Number(bytes), 0),
    sum,
  );
});

test.serial(
  "a router takes the account's bytes for each session it may have, and a second protocol's port pair",
  (t) => {
    // Memory that the addon gives is not counted; without it tables lie in ordinary buffers of the same size.
    process.env.WAYMARK_ADDON = "none";
    const kept: unknown[] = [];
    const taken = (sessions: number) => {
      const before = arrayBytes();
      kept.push(new IngressRouter(sessions));
      return arrayBytes() - before;
    };
    taken(16);
    const few = 1 << 16;
    const bytes = (taken(few * 2) - taken(few)) / few;
    t.true(Math.abs(bytes - (sum + 8)) < 2, `${bytes} bytes a session`);
    t.is(kept.length, 3);
  },
);

test.serial("an open session holds what the account says, and not a hundred bytes more", async (t) => {
  t.timeout(300_000);
  // The whole process is asked, so whatever a session leaves on the heap counts too; what is left of noise is that of
  // two processes, a few megabytes of these sixty.
  const held = async (sessions: number) => {
    const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", CAPACITY, String(sessions)]);
    const figures = stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    return figures.find(({ mode }) => mode.endsWith("opened again")).median * 1024 * 1024;
  };
  // Garbage is not held. The process around the sessions takes some megabytes more or less each time: the middle of three.
  const middle = async (sessions: number) => {
    const runs = [await held(sessions), await held(sessions), await held(sessions)];
    return runs.sort((a, b) => a - b)[1];
  };
  const [few, many] = [await middle(30_000), await middle(230_000)];
  const bytes = (many - few) / 200_000;
  t.true(bytes > sum * 0.7 && bytes < sum + 50, `${bytes} bytes a session`);
});

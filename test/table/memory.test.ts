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
  // Twice: buffers are given back in the background, and the next collection waits for that.
  collectGarbage();
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

test.serial("an open session holds what the account says, and not thirty bytes more", async (t) => {
  t.timeout(600_000);
  // The whole process is asked, so whatever a session leaves on the heap counts too. The process around the sessions
  // takes some megabytes more or less each time: three bytes a session when they are shared by a million of them.
  const held = async (sessions: number) => {
    const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", CAPACITY, String(sessions)]);
    const figures = stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    return figures.find(({ mode }) => mode.endsWith("opened again")).median * 1024 * 1024;
  };
  const [few, many] = [30_000, 1_000_000];
  const bytes = ((await held(many)) - (await held(few))) / (many - few);
  t.true(bytes > sum * 0.9 && bytes < sum + 30, `${bytes} bytes a session`);
});

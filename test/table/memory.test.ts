// What a session costs, by the account in lib/table/README.md, by the memory a router takes when it is built, and by
// what the process holds when sessions are open.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";
import { IngressRouter } from "../../bench/ingress-router.ts";
import { textOf } from "../house/source.ts";

const CAPACITY = fileURLToPath(new URL("../../bench/macro/session-capacity.js", import.meta.url));
const account = [...textOf("lib/table/README.md").matchAll(/^\| ([^|]+) \| [^|]* \| (\d+) \|$/gm)];
const sum = Number(account.find(([, where]) => where === "sum")?.[2]);

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
      const before = process.memoryUsage().arrayBuffers;
      kept.push(new IngressRouter(sessions));
      return process.memoryUsage().arrayBuffers - before;
    };
    taken(16);
    const few = 1 << 16;
    const bytes = (taken(few * 2) - taken(few)) / few;
    t.true(Math.abs(bytes - (sum + 8)) < 8, `${bytes} bytes a session`);
    t.is(kept.length, 3);
  },
);

test.serial("an open session holds what the account says, and not a hundred bytes more", async (t) => {
  t.timeout(300_000);
  // The whole process is asked, so whatever a session leaves on the heap counts too; what is left of noise is that of
  // two processes, a few megabytes of these sixty.
  const held = async (sessions: number) => {
    const { stdout } = await promisify(execFile)(process.execPath, [CAPACITY, String(sessions)]);
    const figures = stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line));
    return figures.find(({ mode }) => mode.endsWith("opened again")).median * 1024 * 1024;
  };
  const [few, many] = [await held(30_000), await held(230_000)];
  const bytes = (many - few) / 200_000;
  t.true(bytes > sum * 0.7 && bytes < sum + 90, `${bytes} bytes a session`);
});

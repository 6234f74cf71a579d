// The house stands: a file imports only from floors below its own (lib/README.md has the map).

import test from "ava";
import { filesUnder, importsOf, libFiles, roomOf, textOf } from "./source.ts";

const FLOORS = [
  ["base"],
  ["wire"],
  ["table", "io", "crypto"],
  ["peer", "ipv6"],
  ["session"],
  ["engine"],
  ["monitor"],
  ["control"],
  ["worker"],
  ["router.ts"],
  ["live-router.ts", "offline-router.ts"],
  ["thread.ts", "cli"],
  ["index.ts"],
];

const floorOf = (path: string) => FLOORS.findIndex((rooms) => rooms.includes(roomOf(path)));

/** Every import from one file of lib/ to another room of lib/. */
const imports = libFiles.flatMap((from) =>
  importsOf(from)
    .filter((to) => to.startsWith("lib/"))
    .map((to) => ({ from, to })),
);
const show = ({ from, to }: { from: string; to: string }) => `${from} imports ${to}`;

test("every file of lib has a floor", (t) => {
  t.deepEqual(
    libFiles.filter((path) => floorOf(path) < 0),
    [],
  );
  t.true(imports.length > 200);
});

test("imports point down: never up, never across to another room of the same floor", (t) => {
  const wrong = imports.filter(({ from, to }) => roomOf(from) !== roomOf(to) && floorOf(to) >= floorOf(from));
  t.deepEqual(wrong.map(show), []);
});

test("no import leads round in a circle, types apart", (t) => {
  const below = new Map(libFiles.map((path) => [path, importsOf(path, false).filter((to) => to.startsWith("lib/"))]));
  const done = new Set<string>();
  const visit = (path: string, above: readonly string[]): void => {
    if (above.includes(path)) t.fail([...above.slice(above.indexOf(path)), path].join(" → "));
    else if (!done.has(path)) for (const to of below.get(path) ?? []) visit(to, [...above, path]);
    done.add(path);
  };
  for (const path of libFiles) visit(path, []);
  t.is(done.size, libFiles.length);
});

test("the engine knows ports, not what is behind them", (t) => {
  const fromEngine = imports.filter(({ from, to }) => roomOf(from) === "engine" && roomOf(to) === "io");
  t.deepEqual([...new Set(fromEngine.map(({ to }) => to))], ["lib/io/port.ts"]);
});

test("only router.ts chooses ports; what needs no network has those of captures and memory", (t) => {
  const concrete = imports.filter(({ from, to }) => roomOf(from) !== "io" && /^lib\/io\/.*-port\.ts$/.test(to));
  t.deepEqual(concrete.filter(({ from }) => from !== "lib/router.ts").map(show), [
    "lib/control/explain.ts imports lib/io/memory-port.ts",
    "lib/index.ts imports lib/io/memory-port.ts",
    "lib/offline-router.ts imports lib/io/answering-port.ts",
    "lib/offline-router.ts imports lib/io/memory-port.ts",
    "lib/offline-router.ts imports lib/io/replay-port.ts",
  ]);
  t.true(concrete.some(({ to }) => to.endsWith("live-port.ts")));
});

test("lib needs nothing that an installation without development tools lacks", (t) => {
  const { dependencies } = JSON.parse(textOf("package.json")) as { dependencies: Record<string, string> };
  const outside = libFiles.flatMap((from) =>
    importsOf(from)
      .filter((to) => !to.startsWith("lib/") && !to.startsWith("node:") && !(to in dependencies))
      .map((to) => show({ from, to })),
  );
  t.deepEqual(outside, []);
});

test("lib does not know its tests: no import of them, no switch for them", (t) => {
  const aware = libFiles.filter((path) => /process\.env\.(NODE_ENV|CI|AVA\w*)\b/.test(textOf(path)));
  t.deepEqual(aware, []);
  t.true(filesUnder("test").length > 0);
});

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { createLog, LineWriter } from "../../lib/base/log.ts";
import { logOutput } from "../../lib/io/log-output.ts";

const LOG = new URL("../../lib/base/log.js", import.meta.url).href;
const OUTPUT = new URL("../../lib/io/log-output.js", import.meta.url).href;
/** How a process of its own begins. */
const BEGINNING = `
  const { createLog } = await import(${JSON.stringify(LOG)});
  const { logOutput } = await import(${JSON.stringify(OUTPUT)});
  const log = createLog("info", logOutput(2));`;
const READ = constants.O_RDONLY | constants.O_NONBLOCK;
const WRITE = constants.O_WRONLY | constants.O_NONBLOCK;
const TRIES_MAX = 500;
const FILL = "x".repeat(60);

for (const end of ["", "process.exit(0);"]) {
  const how = end === "" ? "by itself" : "by exit()";
  test(`Where no line can be written the process goes on, and ends ${how}`, (t) => {
    const program = `${BEGINNING}
      log.info("one");
      await new Promise((done) => setTimeout(done, 300));
      log.info("two");
      process.stdout.write("went on");
      ${end}`;
    const { status, signal, stdout } = spawnSync("sh", ["-c", 'exec "$0" "$@" 2> /dev/full', ...node(program)], {
      encoding: "utf8",
      timeout: 30_000,
    });
    t.deepEqual({ status, signal, stdout }, { status: 0, signal: null, stdout: "went on" });
  });
}

test("The last lines before exit() are written, in their order", (t) => {
  const program = `${BEGINNING}
    for (let number = 0; number < 3; number++) log.info({ number });
    process.exit(0);`;
  const [command, ...args] = node(program);
  const { stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 30_000 });
  t.deepEqual(numbers(stderr), [0, 1, 2]);
});

for (const what of ["socket", "pipe"] as const) {
  test(`Nobody reads the ${what}: the process goes on, and ends`, async (t) => {
    const program = `${BEGINNING}
      for (let number = 0; number < 30_000; number++) log.info({ number }, ${JSON.stringify(FILL)});
      process.stdout.write("went on");
      setTimeout(() => process.exit(0), 300);`;
    const [command, ...args] = node(program);
    await withFifo(async ({ path }) => {
      // Open both ways, it has a reader who reads nothing.
      const fd = openSync(path, constants.O_RDWR);
      const child = spawn(command, args, { stdio: ["ignore", "pipe", what === "pipe" ? fd : "pipe"] });
      closeSync(fd);
      const [stdout] = (await once(child.stdout!, "data")) as [Buffer];
      t.is(stdout.toString(), "went on");
      const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
      t.deepEqual(await once(child, "exit"), [0, null]);
      clearTimeout(late);
    });
  });
}

test("Lines of the level and above are JSON with a time", async (t) => {
  await withFifo(async ({ writer, read }) => {
    const log = createLog("warn", logOutput(writer));
    log.info("not this");
    log.warn({ peer: "east" }, "this");
    const text = await read("this");
    t.like(JSON.parse(text), { level: 40, peer: "east", msg: "this" });
    t.regex(text, /"time":"\d{4}-\d\d-\d\dT[\d:.]+Z"/);
  });
});

test("Nobody reads for a while: lines wait, up to a megabyte, and what is lost is told with its number", async (t) => {
  await withFifo(async ({ writer, read }) => {
    const lines = new LineWriter(logOutput(writer));
    const count = 30_000;
    const began = performance.now();
    for (let number = 0; number < count; number++) lines.write(line(number));
    await sleep(200);
    t.true(performance.now() - began < 60_000, "never waits for the reader");
    // What waits goes first; the line that tells goes before the next one.
    let text = await read(null);
    lines.write(line(count));
    text += await read(`"number":${count}}`);
    const told = check(t, text, count + 1);
    t.true(told > 10_000 && told < count - 10_000, `${told}`);
  });
});

test("A reader that went away and came back finds whole lines, and the number of those between", async (t) => {
  await withFifo(async ({ writer, read, leave, come }) => {
    const lines = new LineWriter(logOutput(writer));
    lines.write(line(0));
    t.is(await read(`"number":0}`), line(0));
    leave();
    for (let number = 1; number <= 3; number++) {
      lines.write(line(number));
      await sleep(50);
    }
    come();
    lines.write(line(4));
    const text = line(0) + (await read(`"number":4}`));
    t.is(check(t, text, 5), 3);
  });
});

test("A line that was cut is ended before the next one", async (t) => {
  await withFifo(async ({ writer, read, leave, come }) => {
    const lines = new LineWriter(logOutput(writer));
    // More than a FIFO holds, and longer than what it takes whole or not at all: the rest waits for its reader, which leaves.
    const count = 100;
    for (let number = 0; number < count; number++) lines.write(line(number, FILL.repeat(100)));
    await sleep(200);
    leave();
    await sleep(500);
    come();
    let text = await read(null);
    t.false(text.endsWith("\n"), "cut");
    lines.write(line(count));
    text += await read(`"number":${count}}`);
    const all = text.split("\n");
    const cut = all.findIndex((one) => !isJson(one));
    const whole = all.filter(isJson).join("\n");
    t.is(check(t, whole, count + 1), count - cut);
    t.is(all.length - whole.split("\n").length, 1);
  });
});

test("What waits at the end is written as far as it can be, without waiting for a reader", async (t) => {
  await withFifo(async ({ writer, read }) => {
    const lines = new LineWriter(logOutput(writer));
    for (let number = 0; number < 10; number++) lines.write(line(number));
    lines.flush();
    t.is(check(t, await read(`"number":9}`), 10), 0);
    for (let number = 0; number < 5000; number++) lines.write(line(number));
    await sleep(100);
    lines.flush();
    t.true((await read(null)).startsWith(line(0)));
  });
});

/** A process that runs `program`. */
function node(program: string): [command: string, ...args: string[]] {
  return [process.execPath, "--input-type=module", "-e", program];
}

function line(number: number, fill = FILL): string {
  return `{"fill":"${fill}","number":${number}}\n`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return text === "";
  }
}

function numbers(text: string): number[] {
  const parsed = text
    .split("\n")
    .filter(Boolean)
    .map((one) => JSON.parse(one) as { number?: number });
  return parsed.flatMap(({ number }) => (number === undefined ? [] : [number]));
}

/** Whole lines, numbers in order, and each of `count` either there or counted as lost. Returns how many are lost. */
function check(t: ExecutionContext, text: string, count: number): number {
  const lost = text.split("\n").filter((one) => one.includes("lines of this log were lost"));
  const told = lost.reduce((sum, one) => sum + (JSON.parse(one) as { lines: number }).lines, 0);
  const there = numbers(text);
  t.deepEqual(
    there,
    there.toSorted((a, b) => a - b),
  );
  t.is(new Set(there).size + told, count);
  return told;
}

interface Fifo {
  path: string;
  writer: number;
  /** What comes until `mark` has, null = until nothing comes any more. */
  read(mark: string | null): Promise<string>;
  leave(): void;
  come(): void;
}

async function withFifo(body: (fifo: Fifo) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "waymark-log-"));
  const path = join(directory, "log");
  execFileSync("mkfifo", [path]);
  let reader = openSync(path, READ);
  const writer = openSync(path, WRITE);
  const some = (): string => {
    const bytes = Buffer.alloc(1 << 16);
    try {
      return bytes.toString("latin1", 0, readSync(reader, bytes));
    } catch {
      return "";
    }
  };
  const read = async (mark: string | null) => {
    let text = "";
    for (let tries = 0, quiet = 0; tries < TRIES_MAX && quiet < 50; tries++) {
      const more = some();
      text += more;
      if (mark !== null && text.includes(mark)) return text;
      quiet = more === "" && mark === null ? quiet + 1 : 0;
      if (more === "") await sleep(20);
    }
    return text;
  };
  try {
    await body({
      path,
      writer,
      read,
      leave: () => closeSync(reader),
      come: () => {
        reader = openSync(path, READ);
      },
    });
  } finally {
    closeSync(reader);
    closeSync(writer);
    rmSync(directory, { recursive: true });
  }
}

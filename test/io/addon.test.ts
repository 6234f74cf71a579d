import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import test from "ava";
import { LivePort } from "../../lib/io/live-port.ts";
import { native } from "../../lib/io/native.ts";
import { noProgram, noRoot } from "./skip.ts";

const rootTest = noRoot() === undefined ? test : test.skip;
const livePort = new URL("../../lib/io/live-port.js", import.meta.url).href;
const nativeModule = new URL("../../lib/io/native.js", import.meta.url).href;

/** Run `script` in a Node process of its own, with `open()` for a port on loopback. */
function runNode(script: string, nodeArguments: string[] = [], wrapper: string[] = []) {
  const source = `import { LivePort } from "${livePort}";
    const open = () => new LivePort({ name: "lo0", device: "lo", bufferBytes: 1 << 20 });
    ${script}`;
  const command = [...wrapper, process.execPath, ...nodeArguments, "--input-type=module", "-e", source];
  return spawnSync(command[0], command.slice(1), { encoding: "utf8", timeout: 30_000 });
}

function open(device: string, filter?: string): LivePort {
  return new LivePort({ name: "port", device, ...(filter === undefined ? {} : { filter }) });
}

test("a device that does not exist is ENODEV and the sentence says where to look", (t) => {
  for (const device of ["nosuch0", "a-name-longer-than-the-kernel-takes", ""]) {
    const error = t.throws(() => open(device), { code: "ENODEV" });
    t.regex(error.message, /ip link/);
  }
});

rootTest("a filter that libpcap does not understand is EFILTER and quotes it", (t) => {
  const error = t.throws(() => open("lo", "ip and and"), { code: "EFILTER" });
  t.regex(error.message, /"ip and and".*pcap-filter/);
});

rootTest("a device that is not Ethernet is ELINKTYPE", (t) => {
  t.throws(() => native().portOpen("any", "", 65_535, 1 << 20, 1, true, false), { code: "ELINKTYPE" });
});

const setprivTest = (noRoot() ?? noProgram("setpriv")) === undefined ? test : test.skip;

setprivTest("a process without CAP_NET_RAW gets EPERM and is told what it needs", (t) => {
  const { stdout } = runNode(
    "try { open(); } catch (error) { console.log(error.code, error.message); }",
    [],
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
  );
  t.regex(stdout, /^EPERM .*CAP_NET_RAW/);
});

test("interface facts of loopback are those of the kernel", (t) => {
  const mac = new Uint8Array(6).fill(1);
  const { mtu, up, running, ethernet } = native().interfaceInfo("lo", mac);
  t.deepEqual(
    { mtu, running, ethernet, mac: [...mac] },
    { mtu: 65_536, running: up, ethernet: false, mac: Array(6).fill(0) },
  );
});

rootTest("an offload that the device cannot switch is reported as unsupported, not thrown", (t) => {
  t.is(native().offload("lo", "lro", 1), -1);
  t.throws(() => native().offload("nosuch0", "gro", -1), { code: "ENODEV" });
});

test("wrong arguments are errors, never crashes", (t) => {
  const addon = native() as unknown as Record<string, (...given: unknown[]) => unknown>;
  const reader = addon.writerOpen("/dev/null", 1, 65_535);
  for (const name of Object.keys(addon).filter((key) => typeof addon[key] === "function")) {
    for (const given of [
      [],
      [-1],
      [{}, 1],
      Array(5).fill(null),
      Array(6).fill(reader),
      Array(7).fill(reader),
      Array(8).fill(-1),
    ]) {
      t.throws(() => addon[name](...given), { code: "EINVAL" }, `${name}(${given.length})`);
    }
  }
});

rootTest("rows outside the bytes are counted as errors and never read", (t) => {
  const port = native().portOpen("lo", "", 65_535, 1 << 20, 1, true, false);
  const totals = new Float64Array(7);
  const offset = Int32Array.of(-1, 0, 90, 0, 0x7fffffff);
  const length = Int32Array.of(60, -1, 60, 0, 0x7fffffff);
  t.is(native().portTx(port, new Uint8Array(100), offset, length, 0, 5), 0);
  t.throws(() => native().portTx(port, new Uint8Array(100), offset, length, 0, 6), { code: "EINVAL" });
  native().portStats(port, totals);
  t.is(totals[6], 5);
  native().portClose(port);
  t.is(native().portTx(port, new Uint8Array(100), offset, length, 0, 5), 0);
});

rootTest("a worker that watches a port can be terminated, again and again", async (t) => {
  const source = `import("${livePort}").then(({ LivePort }) => {
    const port = new LivePort({ name: "lo0", device: "lo", bufferBytes: 1 << 20 });
    port.onReadable(() => {});
    require("node:worker_threads").parentPort.postMessage("open");
  });`;
  for (let round = 0; round < 3; round++) {
    const workers = [new Worker(source, { eval: true }), new Worker(source, { eval: true })];
    const opened = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
    t.deepEqual(await Promise.all(opened), ["open", "open"]);
    t.deepEqual(await Promise.all(workers.map((worker) => worker.terminate())), [1, 1]);
  }
});

rootTest("a process that watches a port exits with its own code", (t) => {
  const { status, stderr } = runNode("open().onReadable(() => {}); setTimeout(() => process.exit(5), 10);");
  t.deepEqual([status, stderr], [5, ""]);
});

rootTest("a port closed from elsewhere while it is watched lets the process end by itself", (t) => {
  const { status, stderr } = runNode(
    "const port = open(); port.onReadable(() => {}); setTimeout(() => port.close(), 10);",
  );
  t.deepEqual([status, stderr], [0, ""]);
});

rootTest("a handle that is never closed is freed when nothing refers to it", (t) => {
  const { stdout, stderr } = runNode(
    `import { native } from "${nativeModule}";
    import { readdirSync } from "node:fs";
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    for (let i = 0; i < 20; i++) native().portOpen("lo", "", 1500, 1 << 20, 1, true, false);
    const opened = descriptors() - before;
    await new Promise((resolve) => setTimeout(resolve, 10));
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(opened >= 20, descriptors() - before);`,
    ["--expose-gc"],
  );
  t.is(stderr, "");
  t.is(stdout.trim(), "true 0");
});

test("a missing addon is ENATIVE and the sentence says how to build it", (t) => {
  const script = `import { native } from "${nativeModule}";
    try { native(); } catch (error) { console.log(error.code, error.message); }`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    env: { ...process.env, WAYMARK_ADDON: "/nonexistent/waymark.node" },
  });
  t.regex(stdout, /^ENATIVE .*make build/);
});

test("the addon is found from the package root", (t) => {
  t.true(existsSync(new URL("../../../build/Release/waymark.node", import.meta.url)));
  t.is(native().headroom, 512);
});

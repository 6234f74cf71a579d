import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import test from "ava";
import { AfPacketPort } from "../../lib/io/afpacket-port.ts";
import { LivePort } from "../../lib/io/live-port.ts";
import { native } from "../../lib/io/native.ts";
import { noProgram, noRoot } from "./skip.ts";

const rootTest = noRoot() === undefined ? test : test.skip;
const modules = {
  LivePort: new URL("../../lib/io/live-port.js", import.meta.url).href,
  AfPacketPort: new URL("../../lib/io/afpacket-port.js", import.meta.url).href,
};
type Kind = keyof typeof modules;
const kinds = Object.keys(modules) as Kind[];
const nativeModule = new URL("../../lib/io/native.js", import.meta.url).href;

/** Run `script` in a Node process of its own, with `open()` for a port on loopback. */
function runNode(kind: Kind, script: string, nodeArguments: string[] = [], wrapper: string[] = []) {
  const source = `import { ${kind} } from "${modules[kind]}";
    const open = () => new ${kind}({ name: "lo0", device: "lo", bufferBytes: 1 << 20 });
    ${script}`;
  const command = [...wrapper, process.execPath, ...nodeArguments, "--input-type=module", "-e", source];
  return spawnSync(command[0], command.slice(1), { encoding: "utf8", timeout: 120_000 });
}

function open(kind: Kind, device: string, filter?: string): LivePort | AfPacketPort {
  const options = { name: "port", device, ...(filter === undefined ? {} : { filter }) };
  return kind === "LivePort" ? new LivePort(options) : new AfPacketPort(options);
}

test("a device that does not exist is ENODEV and the sentence says where to look", (t) => {
  for (const kind of kinds) {
    for (const device of ["nosuch0", "a-name-longer-than-the-kernel-takes", ""]) {
      const error = t.throws(() => open(kind, device), { code: "ENODEV" });
      t.regex(error.message, /ip link/);
    }
  }
});

rootTest("packetOpen itself finds a device that does not exist", (t) => {
  for (const device of ["nosuch0", "a-name-longer-than-the-kernel-takes"]) {
    t.throws(() => native().packetOpen(device, "", 1500, 1500, 1 << 20, false), { code: "ENODEV" });
  }
});

rootTest("a filter that libpcap does not understand is EFILTER and quotes it", (t) => {
  for (const kind of kinds) {
    const error = t.throws(() => open(kind, "lo", "ip and and"), { code: "EFILTER" });
    t.regex(error.message, /"ip and and".*pcap-filter/);
  }
});

rootTest("a handle of one kind of port does nothing that only the other can, and crashes nothing", (t) => {
  const port = native().portOpen("lo", "", 65_535, 1 << 20, 1, true, false);
  const column = Int32Array.of(0);
  const stopped = new Int32Array(2);
  const sent = native().portTxOffload(port, new Uint8Array(9), column, column, column, column, 0, 1, stopped);
  t.deepEqual([sent, ...stopped], [0, 1, 0]);
  t.throws(
    () => native().portTxOffload(port, new Uint8Array(9), column, column, column, new Int32Array(0), 0, 1, stopped),
    { code: "EINVAL" },
  );
  t.throws(
    () => native().portTxOffload(port, new Uint8Array(9), column, column, column, column, 0, 1, new Int32Array(1)),
    { code: "EINVAL" },
  );
  native().portClose(port);
});

rootTest("a device that is not Ethernet is ELINKTYPE", (t) => {
  t.throws(() => native().portOpen("any", "", 65_535, 1 << 20, 1, true, false), { code: "ELINKTYPE" });
});

const setprivTest = (noRoot() ?? noProgram("setpriv")) === undefined ? test : test.skip;

setprivTest("a process without CAP_NET_RAW gets EPERM and is told what it needs", (t) => {
  for (const kind of kinds) {
    const { stdout } = runNode(
      kind,
      "try { open(); } catch (error) { console.log(error.code, error.message); }",
      [],
      ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
    );
    t.regex(stdout, /^EPERM .*CAP_NET_RAW/);
  }
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
  const takeNothing = ["yield", "pairOpen"];
  for (const name of Object.keys(addon).filter(
    (key) => typeof addon[key] === "function" && !takeNothing.includes(key),
  )) {
    for (const given of [
      [],
      [-1],
      [{}, 1],
      Array(5).fill(null),
      Array(6).fill(reader),
      Array(7).fill(reader),
      Array(8).fill(-1),
      Array(9).fill(reader),
    ]) {
      t.throws(() => addon[name](...given), { code: "EINVAL" }, `${name}(${given.length})`);
    }
  }
});

rootTest("rows outside the bytes are counted as errors and never read", (t) => {
  const offset = Int32Array.of(-1, 0, 90, 0, 0x7fffffff);
  const length = Int32Array.of(60, -1, 60, 0, 0x7fffffff);
  for (const port of [
    native().portOpen("lo", "", 65_535, 1 << 20, 1, true, false),
    native().packetOpen("lo", "", 65_536, 65_536, 1 << 20, false),
  ]) {
    const totals = new Float64Array(9);
    t.is(native().portTx(port, new Uint8Array(100), offset, length, 0, 5), 0);
    t.throws(() => native().portTx(port, new Uint8Array(100), offset, length, 0, 6), { code: "EINVAL" });
    const flags = new Int32Array(5).fill(7);
    const sizes = new Int32Array(5).fill(9);
    t.is(native().portTxOffload(port, new Uint8Array(100), offset, length, flags, sizes, 0, 5, new Int32Array(2)), 0);
    native().portStats(port, totals);
    t.is(totals[6], 10);
    native().portClose(port);
    t.is(native().portTx(port, new Uint8Array(100), offset, length, 0, 5), 0);
  }
});

rootTest("frames that end inside their headers are sent as they are or refused, and never read past their end", (t) => {
  const port = native().packetOpen("lo", "", 1500, 1500, 1 << 20, false);
  // An IPv4 TCP header with options, in memory that ends with the frame.
  const whole = new Uint8Array(74);
  whole.set([8, 0, 0x4f], 12);
  whole[23] = 6;
  for (let size = 1; size <= whole.length; size++) {
    for (const protocol of [6, 17, 132]) {
      const bytes = whole.slice(0, size);
      bytes[23] = protocol;
      const one = (value: number) => Int32Array.of(value);
      native().portTxOffload(port, bytes, one(0), one(size), one(7), one(1), 0, 1, new Int32Array(2));
    }
  }
  native().portClose(port);
  t.pass();
});

rootTest("a worker that watches a port can be terminated, again and again", async (t) => {
  const source = (kind: Kind) => `import("${modules[kind]}").then(({ ${kind} }) => {
    const port = new ${kind}({ name: "lo0", device: "lo", bufferBytes: 1 << 20 });
    port.onReadable(() => {});
    require("node:worker_threads").parentPort.postMessage("open");
  });`;
  for (let round = 0; round < 3; round++) {
    const workers = kinds.map((kind) => new Worker(source(kind), { eval: true }));
    const opened = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
    t.deepEqual(await Promise.all(opened), ["open", "open"]);
    t.deepEqual(await Promise.all(workers.map((worker) => worker.terminate())), [1, 1]);
  }
});

rootTest("a process that watches a port exits with its own code", (t) => {
  for (const kind of kinds) {
    const { status, stderr } = runNode(kind, "open().onReadable(() => {}); setTimeout(() => process.exit(5), 10);");
    t.deepEqual([status, stderr], [5, ""]);
  }
});

rootTest("a port closed from elsewhere while it is watched lets the process end by itself", (t) => {
  for (const kind of kinds) {
    const { status, stderr } = runNode(
      kind,
      "const port = open(); port.onReadable(() => {}); setTimeout(() => port.close(), 10);",
    );
    t.deepEqual([status, stderr], [0, ""]);
  }
});

rootTest("a handle that is never closed is freed when nothing refers to it", (t) => {
  const { stdout, stderr } = runNode(
    "LivePort",
    `import { native } from "${nativeModule}";
    import { readdirSync } from "node:fs";
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const before = descriptors();
    for (let i = 0; i < 10; i++) native().portOpen("lo", "", 1500, 1 << 20, 1, true, false);
    for (let i = 0; i < 10; i++) native().packetOpen("lo", "", 1500, 1500, 1 << 20, false);
    const opened = descriptors() - before;
    for (let round = 0; round < 500 && descriptors() > before; round++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      globalThis.gc();
    }
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
  t.is(native().tailroom, 64);
});

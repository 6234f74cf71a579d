// What anybody who may open the control socket can send to it: any bytes.

import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeededRandom } from "../../../lib/base/random.ts";
import { AdminSocket } from "../../../lib/control/admin-socket.ts";
import { answer } from "../../../lib/control/snapshot.ts";
import { fuzzed } from "../fuzzed.ts";
import type { Target } from "../fuzzer.ts";
import { LAN, originals } from "../originals.ts";

const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "latin1"));
const RESOURCES = "sessions peers paths services tenants interfaces neighbors counters workers".split(" ");

const path = join(mkdtempSync(join(tmpdir(), "waymark-fuzz-")), "admin.sock");
const world = fuzzed();
for (const { at, frame } of originals(new SeededRandom(1))) if (at === LAN) world.arrive(at, frame);
const socket = new AdminSocket(path, (resource) => answer(world.router, resource));
await socket.listen();

async function ask(bytes: Uint8Array): Promise<string> {
  const client = connect(path);
  const chunks: Buffer[] = [];
  client.on("data", (chunk: Buffer) => chunks.push(chunk));
  client.on("error", () => {});
  client.end(bytes);
  await once(client, "close");
  return Buffer.concat(chunks).toString("latin1");
}

async function run(bytes: Uint8Array): Promise<string> {
  const said = await ask(bytes);
  if (said === "") return "no answer";
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(said)?.[1];
  if (status === undefined) throw new Error(`an answer that is none: ${said.slice(0, 100)}`);
  if (!["200", "400", "404", "405", "408", "413", "431", "500"].includes(status) && status[0] !== "1")
    throw new Error(`status ${status}`);
  if (status === "500") throw new Error(said);
  if (status === "200" && !said.includes("chunked") && !said.startsWith("HEAD")) {
    const body = said.slice(said.indexOf("\r\n\r\n") + 4);
    if (body !== "") JSON.parse(body);
  }
  return `status ${status}`;
}

export const target: Target = {
  runs: 500,
  lengthMax: 6000,
  seeds: [
    ...RESOURCES.map((resource) => bytesOf(`GET /${resource} HTTP/1.1\r\nHost: router\r\n\r\n`)),
    bytesOf("POST /sessions HTTP/1.1\r\nHost: router\r\nContent-Length: 3\r\n\r\nabc"),
    bytesOf("GET /sessions?x=1&x=2#%zz HTTP/1.0\r\n\r\n"),
    bytesOf(
      "GET http://router:99999/peers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    bytesOf(`GET /${"x".repeat(5000)} HTTP/1.1\r\nHost: router\r\n\r\n`),
  ],
  tokens: [
    "GET ",
    "HEAD ",
    "CONNECT ",
    "OPTIONS * ",
    "Upgrade: x\r\nConnection: upgrade\r\n",
    "Expect: 100-continue\r\n",
    "\r\n\r\n",
    "//",
    "%00",
    "..",
    "__proto__",
    "Content-Length: -1\r\n",
    ...RESOURCES,
  ].map(bytesOf),
  run,
};

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { AdminSocket, AdminSocketError, askRouter } from "../../lib/control/admin-socket.ts";

const directory = mkdtempSync(join(tmpdir(), "waymark-admin-"));
let sockets = 0;
/** A busy machine needs as long for what takes milliseconds. */
const PATIENCE_MS = 30_000;
const newPath = () => join(directory, `${sockets++}.sock`);
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

/** Bytes to the socket as they are; resolves to everything that comes back. */
async function send(path: string, bytes: string): Promise<string> {
  const socket = connect(path);
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.on("error", () => {});
  socket.end(bytes);
  await once(socket, "close");
  return answer;
}

test.serial("A router answers, and is gone with its file after close", async (t) => {
  const path = newPath();
  const seen: string[] = [];
  const socket = new AdminSocket(path, (resource, query) => {
    seen.push(`${resource}?${query}`);
    return resource === "sessions" ? { sessions: [] } : undefined;
  });
  await socket.listen();
  t.deepEqual(await askRouter(path, "sessions"), { sessions: [] });
  await t.throwsAsync(askRouter(path, "secrets"), { message: "this router has no secrets to show" });
  t.deepEqual(seen, ["sessions?", "secrets?"]);
  await socket.close();
  await socket.close();
  t.false(existsSync(path));
  await t.throwsAsync(askRouter(path, "sessions"), {
    instanceOf: AdminSocketError,
    message: /^no router listens at .*: is it running\?/,
  });
});

test.serial("The socket is the owner's alone from its first moment", async (t) => {
  const path = newPath();
  const mask = process.umask(0);
  try {
    const socket = new AdminSocket(path, () => ({}));
    const listening = socket.listen();
    // Microtasks only: the event that resolves listen() cannot have come yet.
    for (let i = 0; i < 50 && !existsSync(path); i++) await Promise.resolve();
    t.is(statSync(path).mode & 0o777, 0o600, "before listen has resolved");
    await listening;
    t.is(statSync(path).mode & 0o777, 0o600);
    t.is(process.umask(), 0, "the mask is put back");
    await socket.close();
  } finally {
    process.umask(mask);
  }
});

test.serial("A dead router's socket file is replaced", async (t) => {
  const path = newPath();
  const dead = spawn(process.execPath, [
    "-e",
    `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
  ]);
  await once(dead, "exit");
  t.true(existsSync(path));
  await t.throwsAsync(askRouter(path, "peers"), { message: /^no router listens at/ });
  const socket = new AdminSocket(path, () => ({ peers: [] }));
  await socket.listen();
  t.deepEqual(await askRouter(path, "peers"), { peers: [] });
  await socket.close();
});

test.serial("A live router's socket is refused and goes on answering", async (t) => {
  const path = newPath();
  const first = new AdminSocket(path, () => ({ first: true }));
  await first.listen();
  await t.throwsAsync(new AdminSocket(path, () => ({})).listen(), {
    instanceOf: AdminSocketError,
    message: `another router listens at ${path}: stop it, or set control.socket to another path`,
  });
  t.deepEqual(await askRouter(path, "x"), { first: true });
  await first.close();
});

test.serial("A path that is no socket, or whose directory is not there, is refused and left alone", async (t) => {
  const path = newPath();
  writeFileSync(path, "precious");
  await t.throwsAsync(new AdminSocket(path, () => ({})).listen(), { message: /is there and is not a socket/ });
  t.is(statSync(path).size, 8);
  await t.throwsAsync(new AdminSocket(join(directory, "none/w.sock"), () => ({})).listen(), {
    message: /^the directory of .* does not exist/,
  });
});

test.serial("Bad input gets a 4xx with JSON, and the next client its answer", async (t) => {
  const path = newPath();
  const socket = new AdminSocket(path, (resource) => {
    if (resource === "broken") throw new Error("a mistake of ours");
    return resource === "" || resource.includes("/") ? undefined : { ok: resource };
  });
  await socket.listen();
  const head = (answer: string) => answer.split("\r\n")[0];
  t.is(
    head(await send(path, "POST /sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")),
    "HTTP/1.1 405 Method Not Allowed",
  );
  t.is(head(await send(path, "GET // HTTP/1.1\r\nhost: x\r\n\r\n")), "HTTP/1.1 400 Bad Request");
  t.is(head(await send(path, "\x00\xff\x16\x03\x01 nonsense\r\n\r\n")), "HTTP/1.1 400 Bad Request");
  t.is(
    head(await send(path, `GET / HTTP/1.1\r\nhost: x\r\nbig: ${"x".repeat(100_000)}\r\n\r\n`)),
    "HTTP/1.1 400 Bad Request",
  );
  t.is(head(await send(path, "GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n")), "HTTP/1.1 404 Not Found");
  t.is(head(await send(path, "GET /broken HTTP/1.1\r\nhost: x\r\n\r\n")), "HTTP/1.1 500 Internal Server Error");
  t.regex(
    await send(path, "DELETE /sessions HTTP/1.1\r\nhost: x\r\n\r\n"),
    /\r\n\r\n\{"error":"only GET is answered here"\}\n$/,
  );
  await send(path, "CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n");
  await send(path, "GET /sessions HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
  await send(path, "");
  await t.throwsAsync(askRouter(path, "broken"), { message: "the router could not answer: a mistake of ours" });
  t.deepEqual(await askRouter(path, "peers"), { ok: "peers" });
  await socket.close();
});

test.serial("Close ends a client that never finishes its request", async (t) => {
  const path = newPath();
  const socket = new AdminSocket(path, () => ({}));
  await socket.listen();
  const idle = connect(path);
  idle.on("error", () => {});
  await once(idle, "connect");
  idle.write("GET /ses");
  const closed = new Promise((resolve) => idle.once("close", resolve));
  await socket.close();
  await closed;
  t.pass();
});

const ask = (protocol: string) => `GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: ${protocol}\r\n\r\n`;

/** A client that asks, and keeps its side open whatever the router does. Resolves once it has its answer. */
async function staying(path: string, bytes: string): Promise<Socket> {
  const client = connect({ path, allowHalfOpen: true });
  client.on("error", () => {});
  client.write(bytes);
  const refused = once(client, "end").then(() => Promise.reject(new Error("no answer")));
  await Promise.race([once(client, "data"), refused]);
  return client;
}

const STAYING: [string, string][] = [
  ["whose stream the other protocol has", ask("ours")],
  ["whose stream the other protocol has ended", ask("ours-ended")],
  ["that was refused another protocol", ask("other")],
];

for (const [who, bytes] of STAYING)
  test.serial(`Close ends a client ${who} and that keeps its side open`, async (t) => {
    const path = newPath();
    const protocol = bytes.includes("ended") ? "ours-ended" : "ours";
    const take = (stream: Duplex) => {
      stream.resume();
      if (protocol === "ours-ended") stream.end();
    };
    const socket = new AdminSocket(path, () => ({}), { protocol, take });
    await socket.listen();
    const client = await staying(path, bytes);
    t.is(await Promise.race([socket.close().then(() => "closed"), sleep(PATIENCE_MS, "waits")]), "closed");
    client.destroy();
  });

test.serial("A connection of another protocol goes on after release, and ends with close", async (t) => {
  const path = newPath();
  let taken: Duplex | undefined;
  const take = (stream: Duplex) => {
    taken = stream;
  };
  const socket = new AdminSocket(path, () => ({}), { protocol: "ours", take });
  await socket.listen();
  const client = await staying(path, ask("ours"));
  socket.release();
  t.false(existsSync(path));
  taken!.write("still here");
  const [said] = await once(client, "data");
  t.is(String(said), "still here");
  const ended = once(client, "end");
  await socket.close();
  await ended;
  client.destroy();
});

for (const [what, bytes] of [
  ["were refused another protocol", ask("other")],
  ["have sent nonsense", "nonsense\r\n\r\n"],
])
  test.serial(`Clients that ${what} and keep their side open do not keep others out`, async (t) => {
    const path = newPath();
    const socket = new AdminSocket(path, () => ({ ok: true }), { protocol: "ours", take: () => {} });
    await socket.listen();
    const clients: Socket[] = [];
    for (let n = 0; n < 40; n++) clients.push(await staying(path, bytes));
    t.deepEqual(await askRouter(path, "peers"), { ok: true });
    for (const client of clients) client.destroy();
    await socket.close();
  });

test.serial("Something else behind the socket is told apart from a router", async (t) => {
  const path = newPath();
  const other = createServer((socket) =>
    socket
      .on("error", () => {})
      .resume()
      .end("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>"),
  );
  await new Promise<void>((resolve) => other.listen(path, resolve));
  await t.throwsAsync(askRouter(path, "peers"), {
    message: `what listens at ${path} does not answer as a waymark router does`,
  });
  await new Promise((resolve) => other.close(resolve));
});

test.serial(
  "An answer may be a promise, or pieces that are still being fetched; what breaks off is not taken for whole",
  async (t) => {
    const path = newPath();
    const socket = new AdminSocket(path, async (resource) => {
      if (resource === "broken") throw new Error("a worker is gone");
      if (resource !== "pieces" && resource !== "half") return undefined;
      return (async function* () {
        yield '{"pieces":[1';
        await new Promise((resolve) => setImmediate(resolve));
        if (resource === "half") throw new Error("a worker is gone");
        yield ",2]}";
      })();
    });
    await socket.listen();
    t.deepEqual(await askRouter(path, "pieces"), { pieces: [1, 2] });
    await t.throwsAsync(askRouter(path, "nothing"), { message: "this router has no nothing to show" });
    await t.throwsAsync(askRouter(path, "broken"), { message: "the router could not answer: a worker is gone" });
    await t.throwsAsync(askRouter(path, "half"), { instanceOf: AdminSocketError });
    t.deepEqual(await askRouter(path, "pieces"), { pieces: [1, 2] }, "the next client is answered");
    await socket.close();
  },
);

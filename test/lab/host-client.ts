// What runs on a lab host as a client: one conversation, then one JSON line and exit 0, or a sentence and exit 1.
//
//   host-client.js parallel ADDRESS PORT COUNT BYTES     COUNT connections open at once, each echoes BYTES
//   host-client.js udp ADDRESS PORT SIZE...              one socket a size, three exchanges each
//   host-client.js streams ADDRESS PORT COUNT DATAGRAMS  COUNT sockets, numbered datagrams, some under way at any time
//   host-client.js datagrams ADDRESS PORT MS             numbered datagrams, one every MS until standard input ends;
//                                                        which did not come back, and how many came twice
//   host-client.js greeting ADDRESS PORT                 the server speaks first, then echoes
//   host-client.js half-close ADDRESS PORT BYTES         send, shut down, read the answer to its end
//   host-client.js connect ADDRESS PORT                  connect and close; a refusal is an outcome, not an error
//
// Two go on until standard input ends, and write a JSON line ten times a second before the last one:
//
//   host-client.js paced ADDRESS PORT UDP-PORT           one TCP connection and one UDP socket, each says a little every 5 ms;
//                                                        the lines: when answers came, {"tcp": [ms, ...], "udp": [ms, ...]}
//   host-client.js steady ADDRESS PORT COUNT BYTES       COUNT connections, each echoes BYTES every 200 ms; the lines:
//                                                        {"latest": the last arrival of the connection that is furthest behind}

import { createHash, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, isIPv6, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ANSWER_BYTES, GREETING, repeat } from "./host-talk.ts";

const UDP_ANSWER_MS_MAX = 5_000;
/** Datagrams of a socket under way at once: at first they all wait for the same neighbor, and 8 may. */
const STREAM_WINDOW = 4;
/** A copy may come so long after the last was sent. */
const UNDER_WAY_MS = 1000;
/** What has not come back so long after that is lost. */
const LATE_MS = 10_000;
/** Between what a paced conversation says. */
const PACE_MS = 5;

const [command, address, portText, ...rest] = process.argv.slice(2);
const port = Number(portText);
const numbers = rest.map(Number);

const udpSocket = () => createSocket(isIPv6(address) ? "udp6" : "udp4");

async function open(): Promise<Socket> {
  const socket = connect({ host: address, port, allowHalfOpen: true });
  await once(socket, "connect");
  return socket;
}

async function readToEnd(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of socket) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Send `data`, shut down, and require the same bytes back. */
async function echo(socket: Socket, data: Buffer): Promise<void> {
  socket.end(data);
  const got = await readToEnd(socket);
  if (!got.equals(data)) throw new Error(`echo differs: ${got.length} bytes`);
}

async function parallel(count: number, bytes: number): Promise<object> {
  const sockets = await Promise.all(Array.from({ length: count }, open));
  await Promise.all(sockets.map((socket) => echo(socket, randomBytes(bytes))));
  return { completed: sockets.length };
}

async function udp(sizes: number[]): Promise<object> {
  const answered: number[] = [];
  const sockets: ReturnType<typeof udpSocket>[] = [];
  for (const size of sizes) {
    const socket = udpSocket();
    sockets.push(socket);
    for (let exchange = 0; exchange < 3; exchange++) {
      const data = randomBytes(size);
      socket.send(data, port, address);
      const [answer] = await once(socket, "message", { signal: AbortSignal.timeout(UDP_ANSWER_MS_MAX) });
      if (!data.equals(answer)) throw new Error(`UDP answer to ${size} bytes differs`);
    }
    answered.push(size);
  }
  // Not before, or the next might get the same port, and its session.
  for (const socket of sockets) socket.close();
  return { answered };
}

/** Every datagram of every socket must come back, in order. */
async function streams(count: number, datagrams: number): Promise<object> {
  const one = async () => {
    const socket = udpSocket();
    let sent = 0;
    let received = 0;
    const send = () => {
      if (sent < datagrams) socket.send(String(sent++), port, address);
    };
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`datagram ${received} was not answered`)), UDP_ANSWER_MS_MAX);
      socket.on("message", (message) => {
        if (String(message) !== String(received)) reject(new Error(`${message} came where ${received} was due`));
        timer.refresh();
        if (++received < datagrams) return send();
        clearTimeout(timer);
        resolve();
      });
      for (let n = 0; n < STREAM_WINDOW; n++) send();
    });
    socket.close();
  };
  await Promise.all(Array.from({ length: count }, one));
  return { streams: count };
}

async function datagrams(everyMs: number): Promise<object> {
  const socket = udpSocket();
  const came: number[] = [];
  socket.on("message", (message) => came[Number(String(message))]++);
  let isOver = false;
  process.stdin.resume().once("end", () => (isOver = true));
  while (!isOver) {
    // Never in bunches: what waits in a socket here for want of a processor is not what is looked at.
    came.push(0);
    socket.send(String(came.length - 1), port, address);
    await sleep(everyMs);
  }
  await sleep(UNDER_WAY_MS);
  for (const deadline = Date.now() + LATE_MS; came.includes(0) && Date.now() < deadline; ) await sleep(PACE_MS);
  socket.close();
  const lost = [...came.keys()].filter((n) => came[n] === 0);
  return { sent: came.length, lost, twice: came.filter((times) => times > 1).length };
}

async function greeting(): Promise<object> {
  const socket = await open();
  const [first] = await once(socket, "data");
  if (String(first) !== GREETING) throw new Error(`greeting differs: ${first}`);
  await echo(socket, randomBytes(1_000));
  return { greeted: true };
}

async function halfClose(bytes: number): Promise<object> {
  const socket = await open();
  const question = randomBytes(bytes);
  socket.end(question);
  const answer = await readToEnd(socket);
  const expected = repeat(createHash("sha256").update(question).digest(), ANSWER_BYTES);
  if (!answer.equals(expected)) throw new Error(`answer differs: ${answer.length} bytes`);
  return { read: answer.length };
}

async function connectOnce(): Promise<object> {
  const start = Date.now();
  try {
    const socket = await open();
    socket.end();
    return { connected: true, ms: Date.now() - start };
  } catch (error) {
    return { connected: false, code: (error as NodeJS.ErrnoException).code, ms: Date.now() - start };
  }
}

/** What connection `n` of steady says: byte after byte of one block, over and over, from a place of its own. */
const block = randomBytes(1 << 16);
const blocks = Buffer.concat([block, block]);
function said(n: number, from: number, to: number): Buffer {
  const start = (from + n * 641) % block.length;
  return blocks.subarray(start, start + to - from);
}

/** Open a connection that says `bytes` every `everyMs`, and require each byte back. `end` resolves to how many they were. */
async function openSteady(n: number, bytes: number, everyMs: number, arrived: (ms: number) => void) {
  const socket = await open();
  socket.setNoDelay(true);
  let [sent, got] = [0, 0];
  const broken = new Promise<never>((_, reject) => {
    socket.on("error", (error) => reject(new Error(`connection ${n}, ${got} of ${sent} bytes: ${error.message}`)));
    socket.on("data", (data) => {
      if (!data.equals(said(n, got, got + data.length))) reject(new Error(`connection ${n}: echo differs at ${got}`));
      got += data.length;
      arrived(Date.now());
    });
  });
  broken.catch(() => {});
  const timer = setInterval(() => {
    if (socket.writable) socket.write(said(n, sent, (sent += bytes)));
  }, everyMs);
  const end = async (): Promise<number> => {
    clearInterval(timer);
    const ended = once(socket, "end");
    socket.end();
    await Promise.race([ended, broken]);
    if (got !== sent) throw new Error(`connection ${n}: ${got} of ${sent} bytes came back`);
    return got;
  };
  return { broken, end };
}

/** Write a line every 100 ms until standard input ends, or the conversation breaks. */
async function untilTold(broken: Promise<never>, line: () => object): Promise<void> {
  const timer = setInterval(() => console.log(JSON.stringify(line())), 100);
  await Promise.race([once(process.stdin.resume(), "end"), broken]);
  clearInterval(timer);
  console.log(JSON.stringify(line()));
}

async function steady(count: number, bytes: number): Promise<object> {
  const latest = new Array<number>(count).fill(Date.now());
  const connections = await Promise.all(
    latest.map(async (_, n) => {
      await sleep(Math.floor(n / 10) * 10);
      return await openSteady(n, bytes, 200, (ms) => {
        latest[n] = ms;
      });
    }),
  );
  await untilTold(Promise.race(connections.map(({ broken }) => broken)), () => ({ latest: Math.min(...latest) }));
  const echoed = await Promise.all(connections.map(({ end }) => end()));
  return { completed: echoed.length, bytes: echoed.reduce((sum, one) => sum + one, 0) };
}

async function paced(udpPort: number): Promise<object> {
  let tcp: number[] = [];
  let udp: number[] = [];
  const connection = await openSteady(0, 32, PACE_MS, (ms) => tcp.push(ms));
  const socket = udpSocket();
  const seen = new Set<string>();
  let [sent, twice] = [0, 0];
  socket.on("message", (message) => {
    udp.push(Date.now());
    if (seen.has(String(message))) twice++;
    seen.add(String(message));
  });
  const timer = setInterval(() => socket.send(String(sent++), udpPort, address), PACE_MS);
  await untilTold(connection.broken, () => {
    const line = { tcp, udp };
    [tcp, udp] = [[], []];
    return line;
  });
  clearInterval(timer);
  const bytes = await connection.end();
  // The last ones may be on their way, or wait in the socket: that the connection has ended says nothing of them.
  for (const deadline = Date.now() + LATE_MS; seen.size < sent && Date.now() < deadline; ) await sleep(PACE_MS);
  return { bytes, datagrams: sent, lost: sent - seen.size, twice };
}

const conversations: Record<string, () => Promise<object>> = {
  parallel: () => parallel(numbers[0], numbers[1]),
  udp: () => udp(numbers),
  streams: () => streams(numbers[0], numbers[1]),
  datagrams: () => datagrams(numbers[0]),
  greeting,
  "half-close": () => halfClose(numbers[0]),
  connect: connectOnce,
  paced: () => paced(numbers[0]),
  steady: () => steady(numbers[0], numbers[1]),
};

console.log(JSON.stringify(await conversations[command]()));
process.exit(0);

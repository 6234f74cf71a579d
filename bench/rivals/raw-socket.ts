// The job by the npm package `raw-socket`, which has no frames: it receives the IP packets the kernel delivers to this
// machine and sends what the kernel then routes. So a policy rule of the bench has everything from the LAN delivered
// here, the kernel's routing and neighbor tables write the MAC addresses, and the kernel mends the header checksum once
// more. Its documented way, one packet a wakeup and a queue for sending, delivers nothing at all beyond 150,000 packets
// a second; bypassed here: up to a batch a wakeup, and sent at once. Takes the arguments of reference/forward.c.

import { createRequire } from "node:module";
import { forwardPacket, RING_BYTES, SNAPLEN, takeEnds } from "./job.ts";

interface Wrap {
  recv(buffer: Buffer, take: (buffer: Buffer, length: number) => void): void;
  send(buffer: Buffer, offset: number, length: number, address: string, done: () => void): void;
  on(event: "recvReady", listener: () => void): void;
  removeAllListeners(event: "recvReady"): void;
}
interface RawSocket {
  readonly wrap: Wrap;
  setOption(level: number, option: number, value: Buffer, length: number): void;
}
const raw = createRequire(import.meta.url)("raw-socket") as {
  createSocket(options: { protocol: number; bufferSize: number }): RawSocket;
  SocketLevel: { IPPROTO_IP: number; SOL_SOCKET: number };
  SocketOption: { IP_HDRINCL: number; SO_RCVBUF: number };
};

const UDP = 17;
/** Packets a wakeup at most: an empty socket throws, so the fewer wakeups the better. */
const BATCH = 64;
/** Where an IPv4 header has the destination. */
const DESTINATION = 16;

const { flows } = takeEnds(process.argv.slice(2));
const socket = raw.createSocket({ protocol: UDP, bufferSize: SNAPLEN });
const { SocketLevel, SocketOption } = raw;
const int = (value: number) => Buffer.from(Int32Array.of(value).buffer);
socket.setOption(SocketLevel.IPPROTO_IP, SocketOption.IP_HDRINCL, int(1), 4);
socket.setOption(SocketLevel.SOL_SOCKET, SocketOption.SO_RCVBUF, int(RING_BYTES), 4);

const packet = Buffer.alloc(SNAPLEN);
const addresses = new Map<number, string>();
const sent = () => {};

function take(_packet: Buffer, length: number): void {
  if (forwardPacket(flows, 0, packet, 0, length) === undefined) return;
  const destination = packet.readInt32BE(DESTINATION);
  let address = addresses.get(destination);
  if (address === undefined) {
    address = packet.subarray(DESTINATION, DESTINATION + 4).join(".");
    addresses.set(destination, address);
  }
  socket.wrap.send(packet, 0, length, address, sent);
}

socket.wrap.removeAllListeners("recvReady");
socket.wrap.on("recvReady", () => {
  try {
    for (let i = 0; i < BATCH; i++) socket.wrap.recv(packet, take);
  } catch {
    // The socket is empty, or a packet could not be sent: lost, and the sink's count says so.
  }
});
console.log("ready");

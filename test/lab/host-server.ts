// What runs on a lab host as a server: plain Node sockets on the host's own kernel. Says "ready" on standard error when
// all listen.
//
//   8080  HTTP: GET /file.bin is file.bin of the working directory
//   7000  TCP echo                           7001  TCP, speaks first: a greeting, then echo
//   7002  UDP echo                           7003  TCP, answers only after the client has shut down its half:
//                                                  the SHA-256 of what it got, over and over, ANSWER_BYTES in all

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Socket } from "node:net";
import { ANSWER_BYTES, GREETING, repeat } from "./host-talk.ts";

const http = createHttpServer((_request, response) => {
  createReadStream("file.bin").pipe(response);
});

function tcp(port: number, serve: (socket: Socket) => void): Promise<unknown> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    serve(socket);
  });
  return once(server.listen(port), "listening");
}

const udp = [createSocket("udp4"), createSocket({ type: "udp6", ipv6Only: true })];
for (const socket of udp) {
  socket.on("message", (message, from) => socket.send(message, from.port, from.address));
  socket.bind(7002);
}

await Promise.all([
  once(http.listen(8080), "listening"),
  ...udp.map((socket) => once(socket, "listening")),
  tcp(7000, (socket) => socket.pipe(socket)),
  tcp(7001, (socket) => {
    socket.write(GREETING);
    socket.pipe(socket);
  }),
  tcp(7003, (socket) => {
    const hash = createHash("sha256");
    socket.on("data", (data) => hash.update(data));
    socket.on("end", () => socket.end(repeat(hash.digest(), ANSWER_BYTES)));
  }),
]);
console.error("ready");

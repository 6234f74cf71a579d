// Protocols without ports between raw sockets of real hosts: on the wire they are UDP, at the far end what they were, with
// the type of service that they had, both ways.

import { setTimeout as sleep } from "node:timers/promises";
import type { SessionsAnswer } from "../../lib/control/show.ts";
import { readCapture, UDP } from "./capture.ts";
import { type Lab, type LabOptions, openLab, SERVER, type Shape } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { shown } from "./watched.ts";

const PROTOCOLS = [47, 50, 132, 253];

/** Sends back each packet of these protocols, its payload reversed, with the type of service that it came with. */
const ANSWER = `import select, socket, sys
sockets = []
for protocol in map(int, sys.argv[1:]):
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
print("ready", flush=True)
while True:
    for s in select.select(sockets, [], [])[0]:
        packet, peer = s.recvfrom(65535)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, packet[1])
        s.sendto(packet[20:][::-1], peer)
`;

/** Sends packets of every size in every protocol and prints those that did not come back as they must. */
const ASK = `import os, socket, sys
wrong = []
count = 0
for protocol in map(int, sys.argv[1:]):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    s.settimeout(20)
    earlier = []
    for n, size in enumerate([8, 100, 1400, 1472, 1480, 9, 31]):
        tos = (0x2a + 37 * n) & 255
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        # What has a cookie of ours in front must come through all the same.
        data = (bytes.fromhex("4c48dbc6ddf6670c") if size == 100 else b"") + os.urandom(size)
        for attempt in range(3):
            try:
                s.sendto(data, ("${SERVER}", 0))
                packet = s.recv(65535)
                # What was sent again may have been answered twice.
                while packet[20:] in earlier: packet = s.recv(65535)
            except OSError as error:
                print(protocol, size, attempt, error, file=sys.stderr)
                continue
            if packet[9] != protocol or packet[20:] != data[::-1] or packet[1] != tos:
                wrong.append((protocol, size, packet[1], tos, len(packet)))
            count += 1
            break
        earlier.append(data[::-1])
print(count, wrong)
`;

const NETS: [string, Shape, LabOptions][] = [
  ["two routers", "two-routers", {}],
  ["three routers", "three-routers", {}],
  ["two routers, signed and encrypted", "two-routers", { protection: { sign: "every-packet", adaptive: false } }],
];

async function opened(shape: Shape, options: LabOptions): Promise<Lab> {
  const lab = await openLab(shape, { ...options, transports: "icmp, gre, esp, sctp, ip/253" });
  if (options.protection !== undefined) await lab.waymark("west", "keys", "generate", "--file", "keys");
  await lab.startRouters();
  return lab;
}

for (const [name, shape, options] of NETS) {
  labTest(
    `${name}: raw GRE, ESP, SCTP and protocol 253 are answered, and are nothing but UDP on the wire`,
    async (t) => {
      const lab = await opened(shape, options);
      try {
        const numbers = PROTOCOLS.map(String);
        const server = lab.spawn("server", "python3", ["-c", ANSWER, ...numbers], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        let said = "";
        server.stdout!.setEncoding("utf8").on("data", (text: string) => (said += text));
        for (let n = 0; n < 3000 && !said.includes("ready"); n++) await sleep(20);
        await lab.startCaptures();
        const asked = await lab.run("client", "python3", "-c", ASK, ...numbers);
        await lab.stopCaptures();
        t.is(asked.stdout.trim(), `${PROTOCOLS.length * 7} []`, asked.stderr);
        for (const wire of lab.wires) {
          const packets = await readCapture(lab.capturePath(wire.name));
          t.true(packets.length > 0);
          t.deepEqual(
            [...new Set(packets.map(({ protocol }) => protocol))].filter((protocol) => protocol !== 0),
            [UDP],
          );
        }
        for (const router of lab.routers) {
          const { sessions } = await shown<SessionsAnswer>(lab, router.name, "sessions");
          t.is(sessions.length, PROTOCOLS.length);
        }
      } finally {
        await lab.close();
      }
    },
  );
}

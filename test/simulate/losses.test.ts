// A session must come to stand whatever happens to its first packets: each of the first four on every hop, in each
// direction, lost, repeated or overtaken (protocol sheet 4.4, 11.1 item 4). And then everything at once, by chance.

import test from "ava";
import { SeededRandom } from "../../lib/base/random.ts";
import { TcpClient, tcpServer, UdpClient, udpServer } from "./endpoints.ts";
import { FAULTS, hit, spoil } from "./faults.ts";
import { CLIENT, dropsOf, packetsOn, SERVER, type TwoRouters, threeRouters, twoRouters } from "./topologies.ts";
import type { Link } from "./world.ts";

const ENDS = { source: CLIENT, destination: SERVER, sourcePort: 40000, destinationPort: 7 };
const REQUESTS = ["one", "two", "three", "four", "five"];
/** Long enough that what comes 20 ms late comes before the last packets. */
const PAUSE_MS = 15;
const ANSWERS = REQUESTS.map((request) => request.toUpperCase());

interface Conversation {
  readonly answers: readonly string[];
  readonly done: () => boolean;
}

/** Begin the conversation; both ends repeat what is not answered. */
function converse(net: TwoRouters, protocol: string): Conversation {
  if (protocol === "TCP") {
    const client = new TcpClient(net.world, net.client, ENDS, REQUESTS, PAUSE_MS);
    net.client.onPacket = (packet) => client.receive(packet);
    net.server.onPacket = tcpServer(net.world, net.server);
    return { answers: client.answers, done: () => client.state === "closed" };
  }
  const client = new UdpClient(net.world, net.client, ENDS, REQUESTS, PAUSE_MS);
  net.client.onPacket = (packet) => client.receive(packet);
  net.server.onPacket = udpServer(net.world, net.server);
  return { answers: client.answers, done: () => client.answers.length === REQUESTS.length };
}

const TOPOLOGIES: { name: string; build: () => TwoRouters; hops: string[] }[] = [
  { name: "two routers", build: twoRouters, hops: ["wan"] },
  { name: "a chain of three", build: threeRouters, hops: ["wan", "wan2"] },
];

for (const protocol of ["TCP", "UDP"]) {
  for (const { name, build, hops } of TOPOLOGIES) {
    for (const fault of FAULTS) {
      test(`${protocol} through ${name} establishes with any of the first four packets of a hop ${fault}`, (t) => {
        for (const hop of hops) {
          for (const end of [0, 1]) {
            for (const position of [1, 2, 3, 4]) {
              const net = build();
              const link = net.world.links.get(hop)!;
              const from = link.ends[end].owner;
              hit(link, from, position, fault);
              const { answers, done } = converse(net, protocol);
              const where = `${hop} from ${from}, packet ${position} ${fault}`;
              const isDone = net.world.runUntil(done, 5000);
              net.world.run(50);
              // Metadata has stopped both ways, and no router refused anything on the way there.
              const endless = lastMetadata(net, hops);
              const drops = [...net.world.routers.values()].map(dropsOf);
              const isQuiet = endless.length === 0 && drops.every((each) => Object.keys(each).length === 0);
              if (!isDone || !isQuiet) t.log(net.world.diagram(), endless, drops);
              t.true(isDone && isQuiet, where);
              t.deepEqual(answers, ANSWERS, where);
            }
          }
        }
      });
    }
  }

  test(`${protocol} completes on links that lose, repeat and delay one frame in ten, from fifty seeds`, (t) => {
    for (let seed = 1; seed <= 50; seed++) {
      const net = seed % 2 === 0 ? twoRouters({ seed }) : threeRouters({ seed });
      spoil(net.world, new SeededRandom(seed), 0.1);
      const { answers, done } = converse(net, protocol);
      const isDone = net.world.runUntil(done, 60_000);
      if (!isDone) t.log(net.world.diagram());
      t.true(isDone, `seed ${seed}`);
      t.deepEqual(answers, ANSWERS, `seed ${seed}`);
      for (const link of net.world.links.values())
        t.true(
          packetsOn(link).every(({ checksumsRight }) => checksumsRight),
          `seed ${seed}`,
        );
    }
  });
}

/** The hops and directions on which the last packet still had metadata. */
function lastMetadata(net: TwoRouters, hops: string[]): string[] {
  return hops.flatMap((hop) => {
    const link = net.world.links.get(hop) as Link;
    return link.ends
      .filter(({ owner }) => packetsOn(link, owner).at(-1)?.hasMetadata ?? true)
      .map(({ owner }) => `${hop} from ${owner}`);
  });
}

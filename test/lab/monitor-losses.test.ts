// What comes to a path monitor's thread and is dropped there: a stranger on the wire sends what looks like BFD, and the router
// says so where an operator looks.

import { setTimeout as sleep } from "node:timers/promises";
import type { CountersAnswer, DropsAnswer } from "../../lib/control/show.ts";
import { type LabOptions, openLab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { bfdText, FAST, pathsUp, shown, until } from "./watched.ts";

const FRAMES = 12;
/** A BFD control packet, state down, of session 1: RFC 5880, 4.1. */
const BFD = "20400318000000010000000000030d4000030d4000000000";
const REPORTED_MS = 1200;

for (const [kind, family, options] of [
  ["over IPv4", 4, {}],
  ["over IPv6", 6, { wires: [6] }],
  ["with two workers", 4, { workers: { west: 2 } }],
] as const satisfies [string, 4 | 6, LabOptions][]) {
  labTest(`BFD from a stranger ${kind} is in show counters, show drops and explain --drop`, async (t) => {
    const lab = await openLab("two-routers", { extra: bfdText(FAST), ...options });
    try {
      const [wire] = lab.wires;
      const [west] = wire.addresses;
      const stranger = west.replace(/1$/, "9");
      lab.addStation("station", wire, stranger);
      await lab.startRouters();
      await pathsUp(lab);
      const drops = async () => (await shown<DropsAnswer>(lab, "west", "drops")).drops;
      const ofMonitor = async () =>
        Object.entries(await shown<CountersAnswer>(lab, "west", "counters")).filter(([name]) =>
          name.startsWith("monitor."),
        );
      t.deepEqual(await ofMonitor(), [["monitor.rx-kernel-drops", 0]]);
      const sent = await lab.run(
        "station",
        process.execPath,
        "-e",
        `
        const socket = require("node:dgram").createSocket("udp${family}");
        let left = ${FRAMES};
        const send = () => left-- > 0 ? socket.send(Buffer.from("${BFD}", "hex"), 3784, "${west}", () => setTimeout(send, 20)) : socket.close();
        send();`,
      );
      t.is(sent.code, 0, sent.stderr);
      await until("the monitor has said so", async () => {
        const said = await ofMonitor();
        return said.some(([name, count]) => name === "monitor.drop.not-a-peer" && count === FRAMES)
          ? undefined
          : JSON.stringify(said);
      });
      await sleep(REPORTED_MS);
      t.deepEqual(
        await ofMonitor(),
        [
          ["monitor.drop.not-a-peer", FRAMES],
          ["monitor.rx-kernel-drops", 0],
        ],
        "and says it once",
      );
      const drop = (await drops()).find(({ reason }) => reason === "not-a-peer");
      t.is(drop?.count, FRAMES);
      t.is(drop?.sample?.interface, "wan0");
      const named = (address: string) => (family === 6 ? `[${address}]` : address);
      const from = drop?.sample?.packet.indexOf(`udp ${named(stranger)}:`);
      t.true(from === 0 && drop?.sample?.packet.includes(`> ${named(west)}:3784 `), drop?.sample?.packet);
      t.true(drop!.sample!.agoMs >= REPORTED_MS && drop!.sample!.agoMs < 30_000, `${drop?.sample?.agoMs} ms ago`);
      const told = await lab.waymark(
        "west",
        "explain",
        "--drop",
        "not-a-peer",
        "--socket",
        lab.router("west").socketPath,
      );
      t.is(told.code, 0, told.stderr);
      t.true(told.stdout.includes(`> ${named(west)}:3784 `), told.stdout);
      t.regex(told.stdout, /it is for the router itself/);
      await pathsUp(lab);
    } finally {
      await lab.close();
    }
  });
}

// What a running router says by itself, looked at without waiting.

import test from "ava";
import { pino } from "pino";
import { lookAtClocks, lookAtPorts } from "../../lib/control/watch.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { udpFrame } from "../simulate/packets.ts";
import { ENDS } from "../simulate/peer.ts";
import { SIGNED } from "../simulate/protection.ts";
import { twoRouters } from "../simulate/topologies.ts";

function listening() {
  const lines: Record<string, unknown>[] = [];
  const log = pino(
    { base: null },
    { write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  return { log, lines };
}

test("a peer whose clock is off is named with what was measured, once a minute while it goes on", (t) => {
  const net = twoRouters({ security: { fabric: SIGNED } });
  const { log, lines } = listening();
  const look = lookAtClocks(net.east.sessions.paths, log, () => net.world.clock.nowMs());
  net.world.skewMs.set("west", 60_000);
  look();
  t.deepEqual(lines, []);
  const lead = () => {
    net.world.send(net.client, udpFrame(ENDS, "lead"));
    net.world.run(2);
    look();
  };
  lead();
  t.is(lines.length, 1);
  t.like(lines[0], { level: 40, peer: "west" });
  t.true(Math.abs((lines[0].offsetMs as number) - 60_000) <= 2000);
  for (let n = 0; n < 10; n++) lead();
  t.is(lines.length, 1);
  net.world.skip(60_000);
  look();
  t.is(lines.length, 1, "nothing was refused since");
  lead();
  t.is(lines.length, 2);
});

test("a link that changes and a device that is lost are spoken of once", (t) => {
  const port = new MemoryPort({ name: "wan0", mac: new Uint8Array(6), mtu: 1500 });
  const state = { linkUp: true, fault: undefined as Error | undefined };
  const device = {
    info: () => ({ ...port.info(), linkUp: state.linkUp }),
    get fault() {
      return state.fault;
    },
  };
  const { log, lines } = listening();
  const look = lookAtPorts([device], log);
  const said = () => lines.splice(0).map(({ interface: name, msg }) => `${name} ${msg}`);
  look();
  t.deepEqual(said(), []);
  state.linkUp = false;
  look();
  look();
  t.deepEqual(said(), ["wan0 link is down"]);
  state.fault = new Error("gone");
  look();
  look();
  t.deepEqual(said(), ["wan0 the device can no longer be read; restart when it is back"]);
});

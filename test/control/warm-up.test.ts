import test from "ava";
import { warmUp } from "../../lib/control/warm-up.ts";
import { AfPacketPort } from "../../lib/io/afpacket-port.ts";
import { openWire } from "../../lib/io/device-port.ts";
import { LivePort } from "../../lib/io/live-port.ts";
import { NativeClock } from "../../lib/io/native-clock.ts";
import { buildRouter, type Router } from "../../lib/router.ts";

for (const Port of [LivePort, AfPacketPort]) {
  test(`the warm-up has UDP and TCP of established sessions go round between two ${Port.name}s, on the fast path`, async (t) => {
    const ports = openWire().map((end, row) => new Port({ name: `lan${row}`, device: "", end }));
    let router: Router | undefined;
    const build = (...given: Parameters<typeof buildRouter>) => (router = buildRouter(...given));
    const forwarded = await warmUp(build, ports, new NativeClock());
    const counters = router!.counters.publish(true);
    t.true(forwarded > 1000, `${forwarded} packets`);
    t.true(counters["slow-path.packets"] < forwarded / 4, JSON.stringify(counters));
    const dropped = Object.keys(counters).filter((name) => name.startsWith("drop.") && counters[name] > 0);
    // That is how a packet's rounds end, and what is made of it.
    t.deepEqual(dropped, ["drop.ttl"]);
    t.is(router!.sessions.table.count, 32);
  });
}

// What keys cost: TCP bulk through two routers that sign and encrypt, beside the same routers that do not, and beside
// tunnels that encrypt, in the same run. Root only; bench/README.md has the method.

import { BULK, BULK_8, BULK_MTU, bulk, measureOf } from "../live/bulk.ts";
import { live } from "../live/race.ts";
import { stop } from "../namespaces.ts";

const BACKENDS = ["libpcap", "af-packet"];
const PROTECTIONS = ["-metadata-signed", "-signed", "-signed-encrypted"];
const TUNNELS = ["wireguard-go", "nebula"];
const ALL = process.env.SEC_ONLY?.split(",") ?? [
  ...BACKENDS.flatMap((backend) => ["", ...PROTECTIONS].map((protection) => `waymark-${backend}${protection}`)),
  ...TUNNELS,
];

const BULKS = [BULK_MTU, BULK, BULK_8];

await live("security", 2, ALL, async (race) => {
  const server = race.chain.namespaces.spawn("server", null, "iperf3", ["-s"], { stdio: "ignore" });
  await race.run(async (contender, children) => {
    race.pin(contender, children, false);
    for (const what of BULKS) await bulk(race, contender, children, what);
  });
  await stop(server);
  race.print();
  for (const what of BULKS) {
    const [name, traffic] = [measureOf(what), `${what.traffic}, two routers`];
    for (const backend of BACKENDS) {
      race.ratio(`waymark-${backend}-metadata-signed`, `waymark-${backend}`, name, traffic);
      for (const protection of ["-signed", "-signed-encrypted"]) {
        for (const tunnel of TUNNELS) race.ratio(`waymark-${backend}${protection}`, tunnel, name, traffic);
        race.ratioToBest(`waymark-${backend}${protection}`, TUNNELS, "best-tunnel", name, traffic);
      }
    }
  }
});

// A switch that snoops on MLD and floods no group that nobody listens to, Linux's bridge, between a host and its router: what
// the router says of its groups lets solicitations through to it (lib/ipv6/listener.ts).

import { setTimeout as sleep } from "node:timers/promises";
import type { CountersAnswer, InterfacesAnswer } from "../../lib/control/show.ts";
import { must, openIpv6Net, SERVER_6 } from "./ipv6-net.ts";
import type { Lab } from "./lab.ts";
import { labTest } from "./lab-test.ts";
import { shown, until } from "./watched.ts";

const POOL = "2001:db8:1::aa";
const GROUPS = ["ff02::1:ff00:1", "ff02::1:ff00:aa", "ff02::2"];
const ROUTER = "2001:db8:1::1";

/** The router's lan0 is behind a bridge that asks every two seconds; the bridge asks of a link-local address, so it needs one. */
const SWITCH = `ip link set lan0 down; ip link set lan0 name under
ip link add lan0 type veth peer name port
echo 1 > /proc/sys/net/ipv6/conf/lan0/disable_ipv6
ip link add switch type bridge mcast_snooping 1 mcast_querier 1 mcast_mld_version 2
ip link set switch type bridge mcast_query_interval 200 mcast_query_response_interval 100 mcast_startup_query_interval 100
for device in under port; do ip link set $device master switch; echo 1 > /proc/sys/net/ipv6/conf/$device/disable_ipv6; done
bridge link set dev port mcast_flood off
echo 0 > /proc/sys/net/ipv6/conf/switch/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/switch/disable_ipv6
for device in under port lan0 switch; do ip link set $device up; done
nft add table netdev deaf
nft 'add chain netdev deaf reports { type filter hook ingress device "port" priority 0; }'
nft add rule netdev deaf reports meta protocol ip6 ip6 nexthdr 0 counter drop`;

/** The groups that the switch sends to the router's port. */
async function known(lab: Lab): Promise<string[]> {
  const shown = await must(lab, "west", "bridge mdb show dev switch");
  return [...shown.matchAll(/port port grp (ff02\S+)/g)].map(([, group]) => group).sort();
}

labTest(
  "behind a switch that floods no unknown groups a router is found because it says what it listens to",
  async (t) => {
    const lab = await openIpv6Net({ sourceNatPool: POOL });
    try {
      await must(lab, "west", SWITCH);
      await lab.startRouters();
      const heard: string[] = [];
      const tcpdump = lab.spawn("west", "tcpdump", ["--immediate-mode", "-l", "-n", "-v", "-i", "lan0", "ip6"]);
      tcpdump.stdout!.on("data", (data: Buffer) => heard.push(data.toString()));
      const seen = () => heard.join("").replaceAll("\n\t", " ").split("\n");
      const solicitations = () =>
        seen().filter((line) => line.includes(`neighbor solicitation`) && line.includes(`who has ${ROUTER}`));
      // The switch reports groups of its own, but is no router.
      const reports = () =>
        seen().filter((line) => line.includes("listener report v2") && line.includes("[gaddr ff02::2 "));
      // Until it has been a querier for a while a switch floods, whatever it knows.
      await until("it has asked, and was answered", async () => (reports().length > 2 ? undefined : heard.join("")));
      await sleep(2000);
      heard.length = 0;

      // As if it said nothing.
      const deaf = await lab.run("client", "ping", "-c", "2", "-i", "0.5", "-W", "1", SERVER_6);
      t.regex(deaf.stdout, / 100% packet loss/);
      t.deepEqual(await known(lab), []);
      t.deepEqual(solicitations(), [], "no solicitation comes, though its network card takes them");
      t.regex(await must(lab, "west", "nft list chain netdev deaf reports"), /packets [1-9]/);

      await must(lab, "west", "nft delete table netdev deaf; true");
      await until("the switch knows", async () => {
        const groups = await known(lab);
        return groups.join() === GROUPS.join() ? undefined : groups.join();
      });
      await must(lab, "client", "ip -6 neigh flush dev eth0");
      const ping = await lab.run("client", "ping", "-c", "3", "-i", "1", SERVER_6);
      t.regex(ping.stdout, /3 received, 0% packet loss/);
      // What tcpdump has heard it says a little later.
      await until("it was asked for", async () => (solicitations().length > 0 ? undefined : heard.join("")));
      // A pool's address is asked for by a group of its own.
      await until("the client has found it", async () => {
        await lab.run("client", "ping", "-c", "1", "-W", "1", POOL);
        const known = await must(lab, "client", `ip -6 neigh show ${POOL}`);
        return known.includes("lladdr") ? undefined : known;
      });

      // What comes back is told of itself, without being asked.
      await must(lab, "west", "ip link set switch type bridge mcast_query_interval 100000; ip link set port down");
      t.deepEqual(await known(lab), []);
      const isDown = async () => {
        const { interfaces } = await shown<InterfacesAnswer>(lab, "west", "interfaces");
        return interfaces.every(({ device, linkUp }) => device !== "lan0" || !linkUp) ? undefined : "up";
      };
      await until("its link is down", isDown);
      // It looks every 200 ms: when it gets to answer again it has looked.
      await sleep(500);
      await until("its link is still down", isDown);
      heard.length = 0;
      await must(lab, "west", "ip link set port up");
      await until("the switch knows again", async () =>
        (await known(lab)).join() === GROUPS.join() ? undefined : "not",
      );
      const begins = () => reports().filter((line) => line.includes("to_ex"));
      await until("it is said twice", async () => (begins().length === 2 ? undefined : heard.join("")));

      // Who takes over listens too.
      heard.length = 0;
      t.is(await lab.takeOver("west"), 0);
      await until("the other says it", async () => (begins().length === 2 ? undefined : heard.join("")));
      t.false(heard.join("").includes("to_in"));
      t.deepEqual(await known(lab), GROUPS);
      const counters = await shown<CountersAnswer>(lab, "west", "counters");
      t.is(counters["drop.listener-query-malformed"], 0);
      await lab.stopRouters();
      await until("the switch knows that it has left", async () =>
        (await known(lab)).length === 0 ? undefined : "still there",
      );
      await until("it is said that it has left", async () =>
        reports().some((line) => line.includes("to_in")) ? undefined : heard.join(""),
      );
      tcpdump.kill();
    } finally {
      await lab.close();
    }
  },
);

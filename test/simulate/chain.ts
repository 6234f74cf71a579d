// A chain of routers whose ends carry anything to anywhere: both LANs have a gateway that every address is behind. Sessions
// begin at one end only: what comes from the other is a reverse packet, or no tenant's.

import type { Router } from "../../lib/router.ts";
import { type Protection, routerYaml } from "./topologies.ts";
import { type Link, World } from "./world.ts";

export interface Chain {
  world: World;
  /** From the initiators' end to the servers'. */
  names: readonly string[];
  routers(): Router[];
  /** The links that traffic enters by, and leaves by at the other end. */
  lan: Link;
  far: Link;
  /** Between the routers. */
  hops: readonly Link[];
}

/** client ─lan─ r0 ─hop1─ r1 ... ─far─ server, `hops` links between routers. Ports take super-frames, as a capture may have them. */
export function chainOf(hops: number, security: Protection): Chain {
  const world = new World(1, true, 128);
  const names = Array.from({ length: hops + 1 }, (_, n) => `r${n}`);
  for (const [n, name] of names.entries()) {
    const wans: Record<string, [string, string, string]> = {};
    if (n > 0) wans.left = [`198.18.${n - 1}.2`, names[n - 1], `198.18.${n - 1}.1`];
    if (n < hops) wans.right = [`198.18.${n}.1`, names[n + 1], `198.18.${n}.2`];
    const ends: Record<number, { address: string; tenant?: string; gateway: string }> = {
      0: { address: "198.19.1.1", tenant: "corp", gateway: "198.19.1.2" },
      [hops]: { address: "198.19.2.1", gateway: "198.19.2.2" },
    };
    world.addRouter(
      name,
      routerYaml({
        name,
        wans,
        security,
        ...(ends[n] === undefined ? {} : { lan: ends[n] }),
        destinations: "0.0.0.0/0",
        // All of a corpus: none makes room for another.
        limits: { sessions: 8192, waypointPairs: 8192 },
        route: n < hops ? `peer: ${names[n + 1]}` : "interface: lan0",
        service: ", policy: any-segment",
        extra: "service-policies: [{ name: any-segment, transport-state-enforcement: allow }]\n",
      }),
    );
  }
  world.addHost("client", "198.19.1.2", "198.19.1.1");
  world.addHost("server", "198.19.2.2", "198.19.2.1");
  return {
    world,
    names,
    routers: () => names.map((name) => world.routers.get(name)!),
    lan: world.join("lan", "client", "r0.lan0"),
    hops: names.slice(1).map((name, n) => world.join(`hop${n + 1}`, `r${n}.right`, `${name}.left`)),
    far: world.join("far", `r${hops}.lan0`, "server"),
  };
}

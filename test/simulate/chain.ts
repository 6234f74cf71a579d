// A chain of routers whose ends carry anything to anywhere: both LANs have a gateway that every address is behind. Sessions
// begin at one end only: what comes from the other is a reverse packet, or no tenant's.

import type { Router } from "../../lib/router.ts";
import { type Protection, routerYaml } from "./topologies.ts";
import { type Link, World } from "./world.ts";

export type Family = 4 | 6;

/** The addresses of both ends by family: the router's, and the gateway that everything is behind. */
const ENDS = {
  4: [
    ["198.19.1.1", "198.19.1.2"],
    ["198.19.2.1", "198.19.2.2"],
  ],
  6: [
    ["2001:db8:a1::1", "2001:db8:a1::2"],
    ["2001:db8:a2::1", "2001:db8:a2::2"],
  ],
} as const;

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

/**
 * client ─lan─ r0 ─hop1─ r1 ... ─far─ server, `hops` links between routers. Ports take super-frames, as a capture may have them.
 * `hosts` is the family at both ends, `paths` the one between routers.
 */
export function chainOf(hops: number, security: Protection, hosts: Family = 4, paths: Family = 4): Chain {
  const world = new World(1, true, 128);
  const names = Array.from({ length: hops + 1 }, (_, n) => `r${n}`);
  const [near, far] = ENDS[hosts];
  for (const [n, name] of names.entries()) {
    const wans: Record<string, [string, string, string]> = {};
    const between = (hop: number, end: number) => (paths === 4 ? `198.18.${hop}.${end}` : `2001:db8:b${hop}::${end}`);
    if (n > 0) wans.left = [between(n - 1, 2), names[n - 1], between(n - 1, 1)];
    if (n < hops) wans.right = [between(n, 1), names[n + 1], between(n, 2)];
    const ends: Record<number, { address: string; tenant?: string; gateway: string }> = {
      0: { address: near[0], tenant: "corp", gateway: near[1] },
      [hops]: { address: far[0], gateway: far[1] },
    };
    world.addRouter(
      name,
      routerYaml({
        name,
        wans,
        security,
        ...(ends[n] === undefined ? {} : { lan: ends[n] }),
        destinations: hosts === 4 ? "0.0.0.0/0" : "::/0",
        // All of a corpus: none makes room for another.
        limits: { sessions: 8192, waypointPairs: 8192 },
        route: n < hops ? `peer: ${names[n + 1]}` : "interface: lan0",
        service: ", policy: any-segment",
        extra: "service-policies: [{ name: any-segment, transport-state-enforcement: allow }]\n",
      }),
    );
  }
  world.addHost("client", near[1], near[0]);
  world.addHost("server", far[1], far[0]);
  return {
    world,
    names,
    routers: () => names.map((name) => world.routers.get(name)!),
    lan: world.join("lan", "client", "r0.lan0"),
    hops: names.slice(1).map((name, n) => world.join(`hop${n + 1}`, `r${n}.right`, `${name}.left`)),
    far: world.join("far", `r${hops}.lan0`, "server"),
  };
}

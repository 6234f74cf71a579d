// Routers in a chain, hosts of one family at its ends, and links of either family and any MTU between.

import type { Router } from "../../lib/router.ts";
import { type Link, type SimHost, World } from "./world.ts";

export type Family = 4 | 6;
export interface Wire {
  readonly family: Family;
  readonly mtu: number;
}
export interface Sealing {
  readonly name: string;
  readonly fabric?: string;
  readonly payload?: string;
}
export interface Net {
  readonly world: World;
  readonly client: SimHost;
  readonly server: SimHost;
  readonly routers: readonly Router[];
  readonly wires: readonly Link[];
  readonly lan: Link;
  readonly far: Link;
}

export const LAN = { 4: ["10.1.0.1", "10.1.0.2", 24], 6: ["2001:db8:1::1", "2001:db8:1::2", 64] } as const;
export const FAR = { 4: ["10.2.0.1", "10.2.0.2", 24], 6: ["2001:db8:2::1", "2001:db8:2::2", 64] } as const;
const SERVED = { 4: "10.2.0.0/24", 6: "2001:db8:2::/64" } as const;
/** client ─ r0 ─ r1 ... ─ server. `path`: more of every path; `superFrames`: links carry them; `lanMtu`: of the client's link. */
export function netOf(
  hosts: Family,
  wires: readonly Wire[],
  { fabric, payload }: Omit<Sealing, "name">,
  path = "",
  superFrames = false,
  lanMtu = 1500,
): Net {
  const world = new World(1, superFrames, 256);
  const security = fabric === undefined ? "" : ", security: fabric";
  const addressOf = (hop: number, end: number) =>
    wires[hop].family === 4 ? `198.18.${hop}.${end}` : `2001:db8:ff${hop}::${end}`;
  const interfaceOf = (name: string, hop: number, end: number) =>
    `{ name: ${name}, device: ${name}, addresses: ["${addressOf(hop, end)}/${wires[hop].family === 4 ? 24 : 64}"], mtu: ${wires[hop].mtu} }`;
  const peerOf = (n: number, name: string, address: string) =>
    `{ name: r${n}, paths: [{ interface: ${name}, address: "${address}"${path} }]${security} }`;
  const routers = Array.from({ length: wires.length + 1 }, (_, n) => {
    const isLast = n === wires.length;
    const interfaces: string[] = [];
    const peers: string[] = [];
    if (n === 0)
      interfaces.push(
        `{ name: lan0, device: lan0, addresses: ["${LAN[hosts][0]}/${LAN[hosts][2]}"], tenant: corp, mtu: ${lanMtu} }`,
      );
    else {
      interfaces.push(interfaceOf("up", n - 1, 2));
      peers.push(peerOf(n - 1, "up", addressOf(n - 1, 1)));
    }
    if (isLast) interfaces.push(`{ name: lan0, device: lan0, addresses: ["${FAR[hosts][0]}/${FAR[hosts][2]}"] }`);
    else {
      interfaces.push(interfaceOf("down", n, 1));
      peers.push(peerOf(n + 1, "down", addressOf(n, 2)));
    }
    const policies = [
      ...(fabric === undefined ? [] : [`{ name: fabric, ${fabric} }`]),
      ...(payload === undefined ? [] : [`{ name: payload, ${payload} }`]),
    ];
    return world.addRouter(
      `r${n}`,
      `authority: acme
router: r${n}
sessions: { max: 4096 }
interfaces: [${interfaces.join(", ")}]
tenants: [{ name: corp }]
services: [{ name: app, addresses: ["${SERVED[hosts]}"], access: [corp]${payload === undefined ? "" : ", security: payload"} }]
service-routes: [{ service: app, ${isLast ? "interface: lan0" : `peer: r${n + 1}`} }]
peers: [${peers.join(", ")}]
${policies.length === 0 ? "" : `security-policies: [${policies.join(", ")}]`}`,
    );
  });
  const client = world.addHost("client", LAN[hosts][1], LAN[hosts][0], lanMtu);
  const server = world.addHost("server", FAR[hosts][1], FAR[hosts][0]);
  const lan = world.join("lan", "client", "r0.lan0");
  const links = wires.map((_, n) => world.join(`wire${n}`, `r${n}.down`, `r${n + 1}.up`));
  const far = world.join("far", `r${wires.length}.lan0`, "server");
  return { world, client, server, routers, wires: links, lan, far };
}

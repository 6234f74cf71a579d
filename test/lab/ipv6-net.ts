// A lab whose hosts and wires have IPv6, for tests of what its interfaces can have: two routers, the one wire IPv6, and on
// each LAN both families, as two interfaces of one device.

import { writeFileSync } from "node:fs";
import { type Backends, type Lab, type LabOptions, openLab } from "./lab.ts";

export const CLIENT_6 = "2001:db8:1::2";
export const SERVER_6 = "2001:db8:2::2";
export const WIRE_6 = "2001:db8:ff::";
const LIBPCAP: Backends = { lan: "libpcap", wan: "libpcap" };

export interface Ipv6NetOptions extends LabOptions {
  /** More keys of every interface of this family; all where only text is given. */
  readonly ipv6Keys?: string;
  readonly ipv4Keys?: string;
  /** Outside addresses of what goes to the LAN of the first router. */
  readonly sourceNatPool?: string;
  /** Lines behind every configuration. */
  readonly lines?: string;
  /** The hosts have no addresses and routes of their own: they take what is advertised. */
  readonly hostsTakeAdvertisements?: boolean;
}

function configuration(lab: Lab, at: number, options: Ipv6NetOptions): string {
  const { name, socketPath } = lab.routers[at];
  const { lan, wan } = options.backends?.[name] ?? LIBPCAP;
  const { ipv6Keys = "", ipv4Keys = "", lines = "" } = options;
  const side = at + 1;
  const peer = lab.routers[1 - at].name;
  const pool = at === 0 && options.sourceNatPool !== undefined ? `, source-nat-pool: ["${options.sourceNatPool}"]` : "";
  const [here, there] = at === 0 ? ["branch", "app"] : ["app", "branch"];
  const service = (service: string, prefix: string) =>
    `  - { name: ${service}, addresses: ["${prefix}"], transports: [tcp, udp, icmp], access: [corp] }`;
  return `authority: lab
router: ${name}
control: { socket: ${socketPath} }
workers: ${options.workers?.[name] ?? 1}
interfaces:
  - { name: lan0, device: lan0, addresses: [10.${side}.0.1/24], tenant: corp, backend: ${lan}${ipv4Keys} }
  - { name: lan0-6, device: lan0, addresses: ["2001:db8:${side}::1/64"], tenant: corp, backend: ${lan}${ipv6Keys} }
  - { name: wan0, device: wan0, addresses: ["${WIRE_6}${side}/64"], backend: ${wan}${ipv6Keys} }
tenants: [{ name: corp }]
services:
${service("app", "10.2.0.0/24")}
${service("app6", "2001:db8:2::/64")}
${service("branch", "10.1.0.0/24")}
${service("branch6", "2001:db8:1::/64")}
service-routes:
  - { service: ${there}, peer: ${peer} }
  - { service: ${there}6, peer: ${peer} }
  - { service: ${here}, interface: lan0 }
  - { service: ${here}6, interface: lan0-6${pool} }
peers: [{ name: ${peer}, paths: [{ interface: wan0, address: "${WIRE_6}${3 - side}" }] }]
${lines}
`;
}

/** Routers not started. The caller closes it. */
export async function openIpv6Net(options: Ipv6NetOptions = {}): Promise<Lab> {
  const lab = await openLab("two-routers", options);
  for (const [at, { configPath }] of lab.routers.entries()) writeFileSync(configPath, configuration(lab, at, options));
  for (const [host, own, gateway] of [
    ["client", CLIENT_6, "2001:db8:1::1"],
    ["server", SERVER_6, "2001:db8:2::1"],
  ]) {
    const takes = options.hostsTakeAdvertisements === true;
    const kernel = `for file in /proc/sys/net/ipv6/conf/*/accept_ra; do echo ${takes ? 1 : 0} > "$file"; done
for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 0 > "$file"; done`;
    const fixed = `ip -6 address add ${own}/64 dev eth0 nodad; ip -6 route add default via ${gateway}`;
    await must(lab, host, takes ? kernel : `${kernel}\n${fixed}`);
  }
  return lab;
}

/** Run a shell script on a node. Throws with what it said when it fails. */
export async function must(lab: Lab, node: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await lab.run(node, "sh", "-e", "-c", script);
  if (code !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

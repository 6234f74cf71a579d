import test from "ava";
import { parseAddress } from "../../lib/control/address-text.ts";
import { compileInterfaces, compilePaths, compilePolicy } from "../../lib/control/compile.ts";
import { formatProblem, parseConfig } from "../../lib/control/config.ts";
import { NeighborTable } from "../../lib/peer/neighbor.ts";
import { Classification, classifyMetadata, classifyPacket } from "../../lib/session/classify.ts";
import type { Policy } from "../../lib/session/policy.ts";
import { verdictName } from "../../lib/wire/verdict.ts";

const CONFIG = `
authority: acme
router: west
interfaces:
  - { name: lan0, device: lan0, addresses: [10.1.0.1/24], tenant: corp }
  - { name: lan1, device: lan1, addresses: [10.3.0.1/24] }
  - { name: wan0, device: wan0, addresses: [198.18.0.1/24] }
tenants:
  - { name: corp }
  - { name: eng.corp, members: [{ interface: lan0, prefixes: [10.1.0.128/25] }] }
  - { name: guest, members: [{ interface: lan0, prefixes: [10.1.0.192/26] }, { interface: lan1, prefixes: [10.3.0.0/25] }] }
services:
  - { name: everywhere, addresses: [0.0.0.0/0], access: [corp, guest] }
  - { name: site, addresses: [10.2.0.0/16], access: [corp] }
  - { name: web, addresses: [10.2.0.0/16], transports: [tcp/443, tcp/8000-8080], access: [corp] }
  - { name: any-tcp, addresses: [10.2.0.0/16], transports: [tcp], access: [corp] }
  - { name: dns-only, addresses: [10.2.9.0/24], transports: [udp/53], access: [corp] }
  - { name: engineers, addresses: [10.4.0.0/24], access: [eng.corp] }
  - { name: stranded, addresses: [10.5.0.0/24], access: [corp] }
service-routes:
${["everywhere", "site", "web", "any-tcp", "dns-only", "engineers"].map((service) => `  - { service: ${service}, peer: east }`).join("\n")}
peers:
  - { name: east, paths: [{ interface: wan0, address: 198.18.0.2 }] }
`;

function policyOf(text: string): Policy {
  const { config, problems } = parseConfig(text, "west.yaml");
  if (config === null) throw new Error(problems.map(formatProblem).join("\n"));
  const ports = config.interfaces.map(({ name }) => ({ name, mac: new Uint8Array(6), mtu: 1500, linkUp: true }));
  const interfaces = compileInterfaces(config, ports, false);
  return compilePolicy(config, interfaces, compilePaths(config, interfaces, new NeighborTable(16)));
}

const policy = policyOf(CONFIG);
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const [LAN0, LAN1, WAN0] = [0, 1, 2];
const found = new Classification();

/** "tenant service" or the drop's name. */
function classify(interfaceId: number, source: string, destination: string, protocol: number, port = 0): string {
  const key = Int32Array.of(
    parseAddress(source),
    parseAddress(destination),
    (40000 << 16) | port,
    (interfaceId << 8) | protocol,
  );
  return describe(classifyPacket(policy, key, found));
}

function describe(verdict: number): string {
  return verdict === 0
    ? `${policy.tenants[found.tenant].name} ${policy.services[found.service].name}`
    : verdictName(verdict);
}

test("a source's tenant is that of its longest member prefix, else the interface's", (t) => {
  const cases = { "10.1.0.2": "corp", "10.1.0.130": "eng.corp", "10.1.0.200": "guest", "172.16.0.1": "corp" };
  for (const [source, tenant] of Object.entries(cases))
    t.is(classify(LAN0, source, "8.8.8.8", UDP, 53), `${tenant} everywhere`, source);
  t.is(classify(LAN1, "10.3.0.2", "8.8.8.8", UDP, 53), "guest everywhere");
  t.is(classify(LAN1, "10.3.0.200", "8.8.8.8", UDP, 53), "no-tenant");
  t.is(classify(WAN0, "10.1.0.2", "8.8.8.8", UDP, 53), "no-tenant");
});

test("a destination's service has the longest prefix, then the most specific transport", (t) => {
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", TCP, 443), "corp web");
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", TCP, 8000), "corp web");
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", TCP, 8080), "corp web");
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", TCP, 8081), "corp any-tcp");
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", UDP, 443), "corp site");
  t.is(classify(LAN0, "10.1.0.2", "10.2.0.1", ICMP, 443), "corp site");
  t.is(classify(LAN0, "10.1.0.2", "10.2.9.1", UDP, 53), "corp dns-only");
  t.is(
    classify(LAN0, "10.1.0.2", "10.2.9.1", UDP, 54),
    "corp site",
    "a prefix without the transport gives way to a shorter one",
  );
  t.is(classify(LAN0, "10.1.0.2", "10.2.9.1", TCP, 443), "corp web");
  t.is(classify(LAN0, "10.1.0.2", "8.8.8.8", TCP, 443), "corp everywhere");
});

test("access is the tenant's or its parent's, never its child's or a stranger's", (t) => {
  t.is(classify(LAN0, "10.1.0.130", "10.2.0.1", TCP, 443), "eng.corp web", "a grant to corp covers eng.corp");
  t.is(classify(LAN0, "10.1.0.130", "10.4.0.1", TCP, 443), "eng.corp engineers");
  t.is(classify(LAN0, "10.1.0.2", "10.4.0.1", TCP, 443), "access-denied");
  t.is(classify(LAN0, "10.1.0.200", "10.2.0.1", TCP, 443), "access-denied");
});

test("a service without a route, and what the drop had found before it, are told", (t) => {
  t.is(classify(LAN0, "10.1.0.2", "10.5.0.1", UDP, 1), "no-route");
  t.is(policy.services[found.service].name, "stranded");
  t.is(policy.tenants[found.tenant].name, "corp");
  const only = policyOf(
    CONFIG.replace("  - { name: everywhere, addresses: [0.0.0.0/0], access: [corp, guest] }\n", "").replace(
      "  - { service: everywhere, peer: east }\n",
      "",
    ),
  );
  const key = Int32Array.of(parseAddress("10.1.0.2"), parseAddress("8.8.8.8"), 53, UDP);
  t.is(verdictName(classifyPacket(only, key, found)), "no-service");
  t.is(found.service, -1);
  t.is(found.route, null);
});

test("metadata is classified by its names, and believed only inside the service it names", (t) => {
  const ask = (tenant: string, service: string, destination: string, protocol: number, port: number) =>
    describe(
      classifyMetadata(
        policy,
        tenant,
        service,
        Int32Array.of(parseAddress("192.0.2.1"), parseAddress(destination), port, protocol),
        found,
      ),
    );
  t.is(ask("corp", "web", "10.2.0.1", TCP, 443), "corp web");
  t.is(ask("corp", "site", "10.2.0.1", TCP, 443), "corp site", "the ingress router's choice of service stands");
  t.is(ask("nobody", "web", "10.2.0.1", TCP, 443), "unknown-tenant");
  t.is(ask("corp", "nothing", "10.2.0.1", TCP, 443), "unknown-service");
  t.is(ask("corp", "web", "10.3.0.1", TCP, 443), "service-mismatch");
  t.is(ask("corp", "web", "10.2.0.1", TCP, 444), "service-mismatch");
  t.is(ask("corp", "web", "10.2.0.1", UDP, 443), "service-mismatch");
  t.is(ask("guest", "web", "10.2.0.1", TCP, 443), "access-denied");
  t.is(ask("corp", "stranded", "10.5.0.1", TCP, 443), "no-route");
});

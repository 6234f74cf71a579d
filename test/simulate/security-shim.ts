// TEMPORARY
import { parse, stringify } from "yaml";
import { KeyRing, type Security } from "../../lib/crypto/key-ring.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import type { CipherAlgorithm, HmacAlgorithm } from "../../lib/crypto/packet-crypto.ts";

export function shim(yaml: string) {
  const doc = parse(yaml) as any;
  const securities = new Map<string, Security>();
  for (const p of doc["security-policies"] ?? []) {
    const h = p.hmac ?? "none";
    const c = p.encryption ?? "none";
    securities.set(p.name, {
      name: p.name,
      sign: h === "none" ? "none" : (p.sign ?? "metadata"),
      timeBased: (p["hmac-mode"] ?? "time-based") === "time-based",
      adaptive: p.adaptive ?? true,
      ring: new KeyRing({
        version: p["key-version"] ?? 1,
        hmac: h === "none" ? null : nodeCrypto.hmac(h as HmacAlgorithm, Buffer.from(p["hmac-key"], "hex")),
        cipher: c === "none" ? null : nodeCrypto.cipher(c as CipherAlgorithm, Buffer.from(p["encryption-key"], "hex")),
      }),
    });
  }
  delete doc["security-policies"];
  const peers = doc.peers.map((p: any) => (p.security === "none" ? null : (p.security ?? null)));
  const services = doc.services.map((p: any) => (p.security === "none" ? null : (p.security ?? null)));
  for (const p of [...doc.peers, ...doc.services]) delete p.security;
  return {
    yaml: stringify(doc),
    securities,
    patch(config: any) {
      return {
        ...config,
        peers: config.peers.map((p: any, i: number) => ({ ...p, security: peers[i] })),
        services: config.services.map((p: any, i: number) => ({ ...p, security: services[i] })),
      };
    },
  };
}

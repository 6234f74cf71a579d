// Security policies as the engine uses them: algorithms with their keys, and what changes when an operator rotates keys.

import { StateError, type StateReader, type StateWriter } from "../base/state.ts";
import { type KeyBytes, KeyRing, type Keys, type Security } from "../crypto/key-ring.ts";
import type { PacketCrypto } from "../crypto/packet-crypto.ts";
import type { Securities } from "./compile.ts";
import type { Config, SecurityPolicyConfig } from "./config.ts";

/** All policies by name. The newest version of the keys is used, the one before it accepted for as long as after a rotation. */
export function compileSecurity(
  policies: readonly SecurityPolicyConfig[],
  crypto: PacketCrypto,
  nowMs = 0,
): Securities {
  return new Map(
    policies.map((policy) => {
      const [newest, before] = policy.keys;
      const ring = new KeyRing(compileKeys(policy, before ?? newest, crypto));
      if (before !== undefined) {
        ring.rotate(compileKeys(policy, newest, crypto), nowMs);
        ring.heard(newest.version, nowMs);
      }
      const { name, sign, timeBased, adaptive } = policy;
      const sessionKeys = policy.sessionKeys ? policy.encryption : null;
      const security: Security = { name, sign, timeBased, adaptive, sessionKeys, ring };
      return [name, security] as const;
    }),
  );
}

/**
 * Whether a session here may have a payload key of its own: a service says so, or a session may pass by on its way over
 * two paths with encrypted metadata.
 */
export function mayHaveSessionKeys(config: Config): boolean {
  const policyOf = ({ security }: { readonly security: string | null }) =>
    config.securityPolicies.find(({ name }) => name === security);
  if (config.services.some((service) => policyOf(service)?.sessionKeys === true)) return true;
  const encrypting = config.peers.filter((peer) => (policyOf(peer)?.encryption ?? null) !== null);
  const paths = encrypting.reduce((count, peer) => count + peer.paths.length, 0);
  return paths > 1 && config.serviceRoutes.some(({ peer }) => encrypting.some(({ name }) => name === peer));
}

/** What became of new keys: taken up, or why not, one sentence each. A policy whose keys are the same is in neither. */
export interface KeyRotation {
  readonly rotated: readonly { readonly policy: string; readonly version: number }[];
  readonly refused: readonly { readonly policy: string; readonly reason: string }[];
}

/**
 * Take up keys of a newer version: what `policies` say now of those that were compiled from `before`. Nothing else of a
 * policy changes while the router runs.
 */
export function rotateKeys(
  before: readonly SecurityPolicyConfig[],
  policies: readonly SecurityPolicyConfig[],
  securities: Securities,
  crypto: PacketCrypto,
  nowMs: number,
): KeyRotation {
  const rotated: { policy: string; version: number }[] = [];
  const refused: { policy: string; reason: string }[] = [];
  for (const old of before) {
    const policy = policies.find(({ name }) => name === old.name);
    const ring = securities.get(old.name)!.ring;
    const { version } = ring.current;
    if (policy === undefined) {
      refused.push({ policy: old.name, reason: "it is gone; the keys stay until a restart" });
    } else if (policy.encryption !== old.encryption || policy.hmac !== old.hmac) {
      refused.push({ policy: old.name, reason: "its algorithms changed, which takes a restart" });
    } else if (policy.keys[0].version < version) {
      refused.push({ policy: old.name, reason: `version ${policy.keys[0].version} is older than ${version}` });
    } else if (policy.keys[0].version > version) {
      ring.rotate(compileKeys(policy, policy.keys[0], crypto), nowMs);
      rotated.push({ policy: old.name, version: policy.keys[0].version });
    }
  }
  return { rotated, refused };
}

/** The rings of all policies, with their keys. */
export function saveSecurities(out: StateWriter, securities: Securities): void {
  out.i32(securities.size);
  for (const [name, { ring }] of securities) {
    out.text(name);
    ring.save(out);
  }
}

/** Go on with the rings of the same policies; where the configuration has newer keys meanwhile, they are taken up. */
export function restoreSecurities(
  from: StateReader,
  policies: readonly SecurityPolicyConfig[],
  securities: Securities,
  crypto: PacketCrypto,
  nowMs: number,
): void {
  if (from.i32() !== policies.length) throw new StateError("other security policies");
  for (const policy of policies) {
    if (from.text() !== policy.name) throw new StateError("other security policies");
    const { ring } = securities.get(policy.name)!;
    ring.restore(from, (version, bytes) => {
      try {
        return compileKeys(policy, { version, ...bytes }, crypto);
      } catch {
        throw new StateError(`keys that policy ${policy.name} cannot use`);
      }
    });
    const [newest] = policy.keys;
    if (newest.version > ring.current.version) ring.rotate(compileKeys(policy, newest, crypto), nowMs);
  }
}

function compileKeys(
  policy: SecurityPolicyConfig,
  keys: KeyBytes & { readonly version: number },
  crypto: PacketCrypto,
): Keys {
  const { version, hmac, encryption } = keys;
  return {
    version,
    hmac: policy.hmac === null ? null : crypto.hmac(policy.hmac, hmac!),
    cipher: policy.encryption === null || encryption === null ? null : crypto.cipher(policy.encryption, encryption),
    bytes: { hmac, encryption },
  };
}

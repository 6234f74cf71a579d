// Security policies: from what is written to keys that fit. Mistakes are told where they stand, and never with a key.

import { resolve } from "node:path";
import { CIPHER_KEY_LENGTH, type CipherAlgorithm, type HmacAlgorithm } from "../crypto/packet-crypto.ts";
import { TextError } from "./address-text.ts";
import type { SecurityPolicyConfig } from "./config.ts";
import type { Draft, SecurityPolicyDraft } from "./config-schema.ts";
import type { ConfigSource, Path } from "./config-source.ts";
import { type KeyMaterial, type KeyVersion, parseKey, parseKeyFile, readSecret } from "./key-material.ts";

/** RFC 2104 3: not shorter than half the digest, and more than a block brings nothing. */
const HMAC_KEY_MIN = 16;
const HMAC_KEY_MAX = 64;

/** Report what is wrong with the security policies and with who names them. Returns those that can be used. */
export function checkSecurityPolicies(draft: Draft, source: ConfigSource): SecurityPolicyConfig[] {
  const policies: SecurityPolicyConfig[] = [];
  const users = new Set([...draft.peers.items, ...draft.services.items].map((item) => item?.security ?? null));
  for (const [index, item] of draft.securityPolicies.items.entries()) {
    if (item === null || item.name === "") continue;
    const path: Path = ["security-policies", index];
    const policy = checkPolicy(item, path, source);
    if (policy !== null) policies.push(policy);
    if (!users.has(item.name))
      source.warning([...path, "name"], `no peer and no service names ${item.name}`, "remove it, or name it");
    else if (item.sessionKeys && !draft.services.items.some((service) => service?.security === item.name))
      source.warning(
        [...path, "session-keys"],
        `session-keys is of services' payloads, and no service names ${item.name}`,
        "remove it",
        "key",
      );
  }
  for (const list of [draft.peers, draft.services]) {
    for (const [index, item] of list.items.entries()) {
      if (item === null || item.security === null) continue;
      const path: Path = [list.key, index, "security"];
      const policy = policies.find(({ name }) => name === item.security);
      if (policy === undefined) continue; // checkReference, or the policy's own mistakes
      checkUse(policy, list.key === "peers", path, source);
    }
  }
  checkSessionKeys(draft, policies, source);
  return policies;
}

/** A session's own key travels in metadata: never to a peer that gets it in clear. */
function checkSessionKeys(draft: Draft, policies: readonly SecurityPolicyConfig[], source: ConfigSource): void {
  for (const [index, service] of draft.services.items.entries()) {
    if (service === null || !policies.some(({ name, sessionKeys }) => sessionKeys && name === service.security))
      continue;
    for (const route of draft.serviceRoutes.items) {
      if (route === null || route.service !== service.name || route.peer === null) continue;
      const row = draft.peers.items.findIndex((peer) => peer?.name === route.peer);
      const security = draft.peers.items[row]?.security;
      // A peer that is not there, or a policy that cannot be used, was told already.
      if (security === undefined || (security === null && isWritten(source.at(["peers", row, "security"])))) continue;
      const policy = policies.find(({ name }) => name === security);
      if (security !== null && (policy === undefined || policy.encryption !== null)) continue;
      source.error(
        ["services", index, "security"],
        `${service.security} has session-keys, and the metadata toward peer ${route.peer} that would carry them is not encrypted`,
        `give peer ${route.peer} a security policy with encryption, or write session-keys: false`,
      );
    }
  }
}

function isWritten(security: unknown): boolean {
  return security !== undefined && security !== "none";
}

function checkUse(policy: SecurityPolicyConfig, isPeer: boolean, path: Path, source: ConfigSource): void {
  if (!isPeer && policy.encryption === null) {
    const message = `${policy.name} has no encryption, and a service's payload is encrypted or nothing`;
    source.error(path, message, "give the policy an encryption, or write security: none");
  }
  if (isPeer && policy.sign === "none") {
    const message = `${policy.name} does not sign: whoever can send from this peer's address can open sessions`;
    source.warning(path, message, "give the policy an hmac and sign: metadata, unless this is a lab");
  }
  if (isPeer && policy.encryption !== null && policy.keys.some((keys) => keys.encryption === null)) {
    const message = `${policy.name} has no encryption key: with session-keys a service needs none, a peer does`;
    source.error(path, message, "give the policy an encryption-key, or the peer a policy of its own");
  }
}

function checkPolicy(item: SecurityPolicyDraft, path: Path, source: ConfigSource): SecurityPolicyConfig | null {
  const hmac = item.hmacMode === "disabled" || item.hmac === "none" ? null : item.hmac;
  const encryption = item.encryption === "none" ? null : item.encryption;
  const sign = item.sign ?? (hmac === null ? "none" : "metadata");
  if (hmac === null && sign !== "none") {
    const why = item.hmacMode === "disabled" ? "hmac-mode: disabled" : "no hmac";
    source.error([...path, "sign"], `sign: ${sign} with ${why}`, "write hmac: sha256-128, or sign: none");
    return null;
  }
  if (item.sessionKeys && encryption === null) {
    source.error([...path, "session-keys"], "session-keys with no encryption", "write encryption: aes-cbc-256", "key");
    return null;
  }
  const versions = readVersions(item, path, source);
  if (versions === null) return null;
  const { file } = versions;
  const fits = (keys: KeyVersion) => checkFit(keys, item, encryption, hmac, path, file, source);
  if (!versions.keys.every(fits)) return null;
  const keys = versions.keys.map(
    (each): KeyVersion => ({
      version: each.version,
      encryption: encryption === null ? null : each.encryption,
      hmac: hmac === null ? null : each.hmac,
    }),
  );
  const timeBased = item.hmacMode !== "regular";
  const { name, adaptive, sessionKeys } = item;
  return { name, encryption, hmac, timeBased, sign, adaptive, sessionKeys, keys };
}

/** The policy's keys, newest first, and whether they are of a key file; null where they cannot be read, which is reported. */
function readVersions(
  item: SecurityPolicyDraft,
  path: Path,
  source: ConfigSource,
): { keys: KeyVersion[]; file: boolean } | null {
  if (item.keyFile !== null) {
    const both = item.encryptionKey !== null ? "encryption-key" : item.hmacKey !== null ? "hmac-key" : null;
    if (both !== null) {
      source.error([...path, both], `${both} beside keys, which has both`, "keep one of the two", "key");
      return null;
    }
    return tried([...path, "keys"], source, () => {
      const file = resolve(source.directory, item.keyFile!);
      return { keys: parseKeyFile(readSecret(file)), file: true };
    });
  }
  const read = (key: "encryption-key" | "hmac-key", from: KeyMaterial | { file: string } | null) =>
    tried([...path, key], source, () => ({
      key:
        from === null || !("file" in from) ? from : parseKey(readSecret(resolve(source.directory, from.file)).trim()),
    }));
  const encryption = read("encryption-key", item.encryptionKey);
  const hmac = read("hmac-key", item.hmacKey);
  if (encryption === null || hmac === null) return null;
  return { keys: [{ version: item.keyVersion, encryption: encryption.key, hmac: hmac.key }], file: false };
}

function tried<T>(path: Path, source: ConfigSource, read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    source.error(path, error.message, error.mend);
    return null;
  }
}

/** Whether the keys of a version are there and as long as what uses them wants. */
function checkFit(
  keys: KeyVersion,
  { sessionKeys }: SecurityPolicyDraft,
  encryption: CipherAlgorithm | null,
  hmac: HmacAlgorithm | null,
  path: Path,
  isFile: boolean,
  source: ConfigSource,
): boolean {
  const of = isFile ? ` of version ${keys.version}` : "";
  const at = (key: string): Path => [...path, isFile ? "keys" : key];
  let fits = true;
  const wrong = (key: string, message: string, mend: string) => {
    source.error(at(key), message, mend);
    fits = false;
  };
  // What is written and no key was told already.
  const missing = (key: string, message: string, mend: string) => {
    if (isFile || source.at(at(key)) === undefined) wrong(key, message, mend);
    fits = false;
  };
  if (encryption !== null) {
    const length = CIPHER_KEY_LENGTH[encryption];
    const mend = `give it ${length} bytes, ${2 * length} hex digits: waymark keys generate makes them`;
    if (keys.encryption === null) {
      // Whatever was written for it was told already.
      const isLeftOut = isFile || source.at(at("encryption-key")) === undefined;
      if (!sessionKeys || !isLeftOut) missing("encryption-key", `${encryption} needs a key${of}`, mend);
    } else if (keys.encryption.length !== length)
      wrong("encryption-key", `the encryption key${of} has ${keys.encryption.length} bytes`, mend);
  }
  if (hmac !== null) {
    const mend = `give it ${HMAC_KEY_MIN} to ${HMAC_KEY_MAX} bytes: waymark keys generate makes them`;
    if (keys.hmac === null) missing("hmac-key", `hmac ${hmac} needs a key${of}`, mend);
    else if (keys.hmac.length < HMAC_KEY_MIN || keys.hmac.length > HMAC_KEY_MAX)
      wrong("hmac-key", `the hmac key${of} has ${keys.hmac.length} bytes`, mend);
  }
  return fits;
}

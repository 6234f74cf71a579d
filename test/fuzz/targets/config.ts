// Configuration text: whatever is in it, every mistake is told with its place and its mend, and what is accepted makes
// a router.

import { readdirSync, readFileSync } from "node:fs";
import { TextError } from "../../../lib/control/address-text.ts";
import { parseConfig } from "../../../lib/control/config.ts";
import { parseKeyFile } from "../../../lib/control/key-material.ts";
import { parsePacket } from "../../../lib/control/packet-text.ts";
import { explainPacket } from "../../../lib/offline-router.ts";
import { CONFIG } from "../fuzzed.ts";
import type { Target } from "../fuzzer.ts";

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const golden = new URL("../../../../test/golden/", import.meta.url);

/** Small, so that each accepted configuration can become a router. */
function shrunk(text: string) {
  const { config, problems } = parseConfig(text, "/nowhere/fuzz.yaml");
  if (config === null) return { config, problems };
  const limits = {
    ...config.limits,
    holdFrames: Math.min(config.limits.holdFrames, 16),
    holdFramesPerNeighbor: Math.min(config.limits.holdFramesPerNeighbor, 4),
    neighbors: Math.min(config.limits.neighbors, 64),
    waypointPairsPerPath: Math.min(config.limits.waypointPairsPerPath, 64),
    fabricChains: Math.min(config.limits.fabricChains, 4),
  };
  return {
    config: { ...config, limits, sessions: { ...config.sessions, max: Math.min(config.sessions.max, 64) } },
    problems,
  };
}

const PARTS = "(yaml) (file) interfaces tenants services service-routes peers security-policies limits control".split(
  " ",
);
const PACKET = parsePacket("tcp 10.1.0.2:40000 > 10.2.0.2:443");

function run(bytes: Uint8Array): string {
  const text = new TextDecoder().decode(bytes);
  // What else operators write: neither may fail with anything but a sentence.
  for (const read of [parsePacket, parseKeyFile]) {
    try {
      read(text);
    } catch (error) {
      if (!(error instanceof TextError) || error.message === "" || error.mend === "") throw error;
    }
  }
  const { config, problems } = shrunk(text);
  const lines = text.split("\n").length;
  for (const { line, column, path, message, mend } of problems) {
    if (!(line >= 1 && line <= lines && column >= 1)) throw new Error(`a mistake at line ${line}, column ${column}`);
    if (path === "" || message === "" || mend === "" || message.includes("undefined") || message.includes("[object"))
      throw new Error(`a mistake without words: ${path}, ${message}, ${mend}`);
  }
  const errors = problems.filter(({ severity }) => severity === "error");
  if ((config === null) !== errors.length > 0)
    throw new Error(`${errors.length} errors, and it is ${config === null ? "refused" : "accepted"}`);
  if (config === null) {
    const [part] = errors[0].path.split(/[.[]/);
    return PARTS.includes(part) ? `refused for ${part}` : "refused";
  }
  for (const { name } of config.interfaces) explainPacket(config, { interface: name, packet: PACKET });
  return problems.length > 0 ? "accepted with warnings" : "accepted";
}

const SECURE = `${CONFIG}security-policies:
  - { name: fabric, encryption: aes-cbc-128, encryption-key: "000102030405060708090a0b0c0d0e0f", hmac: sha256, hmac-key: "base64:AAECAwQFBgcICQoLDA0ODw==", hmac-mode: time-based, sign: every-packet }
workers: 2
log: { level: info }
control: { socket: /run/waymark/x.sock }
`;

const texts = [
  CONFIG,
  SECURE.replace("address: 198.18.0.2 }] }", "address: 198.18.0.2 }], security: fabric }"),
  ...readdirSync(golden)
    .sort()
    .filter((_, i) => i % 12 === 0)
    .flatMap((folder) => {
      try {
        return [readFileSync(new URL(`${folder}/config.yaml`, golden), "utf8")];
      } catch {
        return [];
      }
    }),
];

const WORDS =
  `authority router interfaces tenants services service-routes peers security-policies paths name device addresses
  tenant gateway kernel kernel-allow backend mac mtu promiscuous members prefixes max-sessions transports access security
  service peer interface target port vector encryption encryption-key hmac hmac-key hmac-mode sign key-version key-file adaptive
  workers sessions max limits log level control socket tcp udp icmp 0 -1 1 65535 65536 4294967296 1e999 .nan .inf null ~ true "" []
  {} &a *a <<: !!binary !!set | > - ? : "\\u0000" 0.0.0.0/0 10.1.0.1/24 10.1.0.1/33 255.255.255.255 ::1/64 aes-cbc-256 sha1
  every-packet __proto__ constructor toString`
    .split(/\s+/)
    .map(bytesOf);

/** Lines and words changed about; YAML by its lines stays YAML more often than by its bytes. */
function change(random: Parameters<NonNullable<Target["change"]>>[0], input: Uint8Array): Uint8Array {
  const lines = new TextDecoder().decode(input).split("\n");
  const i = random.below(lines.length);
  const j = random.below(lines.length);
  const word = () => new TextDecoder().decode(WORDS[random.below(WORDS.length)]);
  switch (random.below(8)) {
    case 0:
      lines.splice(i, 1);
      break;
    case 1:
      lines.splice(j, 0, lines[i]);
      break;
    case 2:
      [lines[i], lines[j]] = [lines[j], lines[i]];
      break;
    case 3:
      lines[i] = random.below(2) === 0 ? ` ${lines[i]}` : lines[i].slice(1);
      break;
    case 4: {
      const from = texts[random.below(texts.length)].split("\n");
      lines.splice(i, 0, from[random.below(from.length)]);
      break;
    }
    default: {
      const found = [...lines[i].matchAll(/[\w./-]+/g)];
      if (found.length === 0) break;
      const one = found[random.below(found.length)];
      lines[i] = lines[i].slice(0, one.index) + word() + lines[i].slice(one.index + one[0].length);
    }
  }
  return bytesOf(lines.join("\n"));
}

export const target: Target = {
  runs: 150,
  lengthMax: 4000,
  seeds: [
    ...texts.map(bytesOf),
    bytesOf("tcp 10.1.0.2:40000 > 10.2.0.2:443 syn"),
    bytesOf("# keys\n2 000102 base64:AAEC\n1 - 0a0b\n"),
  ],
  tokens: WORDS,
  change,
  run,
};

// Security policies as operators write them: what is taken, what is refused and how it is told, and that no key is ever
// told with it.

import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { TextError } from "../../lib/control/address-text.ts";
import { compileSecurity, mayHaveSessionKeys, rotateKeys } from "../../lib/control/compile-security.ts";
import { formatProblem, parseConfig, type SecurityPolicyConfig } from "../../lib/control/config.ts";
import { formatKeyFile, parseKey, parseKeyFile, readSecret } from "../../lib/control/key-material.ts";
import { nodeCrypto } from "../../lib/crypto/node-crypto.ts";
import { shareOf } from "../../lib/worker/share.ts";

const directory = mkdtempSync(join(tmpdir(), "waymark-keys-"));
const FILE = join(directory, "w.yaml");
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const KEY_16 = "00112233445566778899aabbccddeeff";
const KEY_32 = `${KEY_16}${KEY_16}`;
const HMAC = "c0ffee00c0ffee00c0ffee00c0ffee00";
const SIGNED = `hmac: sha256, hmac-key: "${HMAC}"`;

function configText(policies: string, peer = "fabric", service = "none"): string {
  return `authority: acme
router: west
interfaces: [{ name: wan0, device: eth0, addresses: [198.18.0.1/24] }]
tenants: [{ name: corp }]
services: [{ name: app, addresses: [10.2.0.0/24], access: [corp], security: ${service} }]
service-routes: [{ service: app, peer: east }]
peers: [{ name: east, security: ${peer}, paths: [{ interface: wan0, address: 198.18.0.2 }] }]
security-policies:
${policies}
`;
}

const read = (policies: string, peer?: string, service?: string) =>
  parseConfig(configText(policies, peer, service), FILE);

/** The policies' only use is by the peer or the service; the problems' text without file, line and column. */
function told(t: ExecutionContext, policies: string, lines: string[], peer?: string, service?: string): void {
  const { config, problems } = read(policies, peer, service);
  const printed = problems.map((problem) => formatProblem(problem).replace(/^\S+:\d+:\d+ {2}/, ""));
  t.deepEqual(printed, lines, policies);
  t.is(
    config === null,
    lines.some((line) => !line.includes("warning: ")),
    policies,
  );
  for (const key of [KEY_16, HMAC, "ABEiM0RVZneImaq7zN3u"])
    t.false(printed.join().includes(key.slice(0, 12)), policies);
}

/** A file of `text` beside the configuration; its name. */
function fileOf(text: string, mode = 0o600): string {
  const name = `k${Math.random().toString(36).slice(2)}`;
  writeFileSync(join(directory, name), text);
  chmodSync(join(directory, name), mode);
  return name;
}

test("a policy has what is written, or the defaults", (t) => {
  const { config, problems } = read(
    `  - { name: fabric, encryption: aes-cbc-256, encryption-key: "${KEY_32}", hmac: sha256-128, hmac-key: "base64:wP/uAMD/7gDA/+4AwP/uAA==", hmac-mode: regular, sign: every-packet, key-version: 7 }
  - { name: secret, encryption: aes-cbc-128, encryption-key: "${KEY_16}", adaptive: false }`,
    "fabric",
    "secret",
  );
  t.deepEqual(problems, []);
  const [fabric, secret] = config!.securityPolicies;
  t.like(fabric, {
    name: "fabric",
    encryption: "aes-cbc-256",
    hmac: "sha256-128",
    timeBased: false,
    sign: "every-packet",
    adaptive: true,
  });
  t.is(fabric.keys[0].version, 7);
  t.is(Buffer.from(fabric.keys[0].encryption!).toString("hex"), KEY_32);
  t.is(Buffer.from(fabric.keys[0].hmac!).toString("hex"), HMAC);
  t.like(secret, { encryption: "aes-cbc-128", hmac: null, timeBased: true, sign: "none", adaptive: false });
  t.is(secret.keys[0].hmac, null);
  const [least] = read(`  - { name: fabric, hmac: sha1, hmac-key: "${HMAC}" }`).config!.securityPolicies;
  t.like(least, { encryption: null, hmac: "sha1", timeBased: true, sign: "metadata" });
});

test("a service's policy with session-keys needs no key of its own, and may have one", (t) => {
  const fabric = `  - { name: fabric, ${SIGNED}, encryption: aes-cbc-128, encryption-key: "${KEY_16}" }\n`;
  for (const [text, key] of [
    ["encryption: aes-cbc-256, session-keys: true", null],
    [`encryption: aes-cbc-256, session-keys: true, encryption-key: "${KEY_32}"`, KEY_32],
    [`encryption: aes-cbc-256, session-keys: true, ${SIGNED}`, null],
  ] as const) {
    const { config, problems } = read(`${fabric}  - { name: secret, ${text} }`, "fabric", "secret");
    t.deepEqual(problems, [], text);
    const [plain, secret] = config!.securityPolicies;
    t.deepEqual([plain.sessionKeys, secret.sessionKeys], [false, true]);
    t.is(secret.keys[0].encryption && Buffer.from(secret.keys[0].encryption).toString("hex"), key);
    const compiled = compileSecurity(config!.securityPolicies, nodeCrypto);
    t.is(compiled.get("fabric")!.sessionKeys, null);
    t.is(compiled.get("secret")!.sessionKeys, "aes-cbc-256");
    t.is(compiled.get("secret")!.ring.current.cipher === null, key === null);
    t.true(mayHaveSessionKeys(config!));
  }
  t.false(mayHaveSessionKeys(read(fabric, "fabric").config!));
});

test("session-keys and a peer that would get them in clear is an error, whatever else is wrong", (t) => {
  const secret = `  - { name: secret, encryption: aes-cbc-256, session-keys: true }`;
  const line =
    "services[0].security  secret has session-keys, and the metadata toward peer east that would carry them is not encrypted  give peer east a security policy with encryption, or write session-keys: false";
  told(t, secret, [line], "none", "secret");
  told(t, `  - { name: fabric, ${SIGNED} }\n${secret}`, [line], "fabric", "secret");
  // What is wrong with the peer's policy is told, and nothing is concluded from it.
  told(
    t,
    `  - { name: fabric, ${SIGNED}, encryption: aes-cbc-128, encryption-key: "00" }\n${secret}`,
    [
      "security-policies[0].encryption-key  the encryption key has 1 bytes  give it 16 bytes, 32 hex digits: waymark keys generate makes them",
    ],
    "fabric",
    "secret",
  );
  told(
    t,
    secret,
    ["peers[0].security  there is no security policy fabrik  known security-policies: secret"],
    "fabrik",
    "secret",
  );
  // A peer that the service is not routed to may be as it is; so may one of a service whose sessions end here.
  const routed = configText(secret, "none", "secret").replace("peer: east }]", "interface: wan0 }]");
  t.false(parseConfig(routed, FILE).problems.some(({ severity }) => severity === "error"));
});

const cases: [string, string, string[], string?, string?][] = [
  [
    "a key too short",
    `{ name: fabric, ${SIGNED}, encryption: aes-cbc-256, encryption-key: "${KEY_16}" }`,
    [
      "security-policies[0].encryption-key  the encryption key has 16 bytes  give it 32 bytes, 64 hex digits: waymark keys generate makes them",
    ],
  ],
  [
    "an hmac key too short",
    `{ name: fabric, hmac: sha1, hmac-key: "00112233" }`,
    [
      "security-policies[0].hmac-key  the hmac key has 4 bytes  give it 16 to 64 bytes: waymark keys generate makes them",
    ],
  ],
  [
    "keys left out",
    "{ name: fabric, hmac: sha1, encryption: aes-cbc-128 }",
    [
      "security-policies[0]  aes-cbc-128 needs a key  give it 16 bytes, 32 hex digits: waymark keys generate makes them",
      "security-policies[0]  hmac sha1 needs a key  give it 16 to 64 bytes: waymark keys generate makes them",
    ].map((line) => line.replace("[0]", line.includes("hmac") ? "[0].hmac-key" : "[0].encryption-key")),
  ],
  [
    "no hex",
    `{ name: fabric, hmac: sha1, hmac-key: "${HMAC}x" }`,
    [
      "security-policies[0].hmac-key  this is no key in hex  write an even number of hex digits, or base64:TEXT, in quotes",
    ],
  ],
  [
    "an odd number of digits",
    `{ name: fabric, hmac: sha1, hmac-key: "${HMAC}0" }`,
    [
      "security-policies[0].hmac-key  this is no key in hex  write an even number of hex digits, or base64:TEXT, in quotes",
    ],
  ],
  [
    "no base64",
    '{ name: fabric, hmac: sha1, hmac-key: "base64:ABEiM0RVZneImaq7zN3u*" }',
    [
      "security-policies[0].hmac-key  this is no key in base64  write an even number of hex digits, or base64:TEXT, in quotes",
    ],
  ],
  [
    "digits without quotes",
    "{ name: fabric, hmac: sha1, hmac-key: 1234567890123456 }",
    ["security-policies[0].hmac-key  a number where a key belongs  put the key in quotes"],
  ],
  [
    "a list for a key",
    `{ name: fabric, hmac: sha1, hmac-key: ["${HMAC}"] }`,
    ['security-policies[0].hmac-key  neither a key nor a file  write "HEX", "base64:TEXT" or { file: PATH }'],
  ],
  [
    "a digest to sign with, and none there",
    `{ name: fabric, sign: metadata, encryption: aes-cbc-128, encryption-key: "${KEY_16}" }`,
    ["security-policies[0].sign  sign: metadata with no hmac  write hmac: sha256-128, or sign: none"],
  ],
  [
    "a digest that is disabled",
    `{ name: fabric, ${SIGNED}, hmac-mode: disabled, sign: every-packet }`,
    ["security-policies[0].sign  sign: every-packet with hmac-mode: disabled  write hmac: sha256-128, or sign: none"],
  ],
  [
    "a peer that is not signed",
    `{ name: fabric, ${SIGNED}, sign: none }`,
    [
      "peers[0].security  warning: fabric does not sign: whoever can send from this peer's address can open sessions  give the policy an hmac and sign: metadata, unless this is a lab",
    ],
  ],
  [
    "a service without a cipher",
    `{ name: fabric, ${SIGNED} }`,
    [
      "services[0].security  fabric has no encryption, and a service's payload is encrypted or nothing  give the policy an encryption, or write security: none",
    ],
    "none",
    "fabric",
  ],
  [
    "a policy that nobody names",
    `{ name: other, ${SIGNED} }`,
    ["security-policies[0].name  warning: no peer and no service names other  remove it, or name it"],
    "none",
  ],
  [
    "a policy that is not there",
    `{ name: fabric, ${SIGNED} }`,
    [
      "peers[0].security  there is no security policy fabrik  did you mean fabric? known security-policies: fabric",
      "security-policies[0].name  warning: no peer and no service names fabric  remove it, or name it",
    ],
    "fabrik",
  ],
  [
    "a key file that is not there",
    "{ name: fabric, hmac: sha1, keys: { file: nowhere } }",
    [
      `security-policies[0].keys  key file ${directory}/nowhere: there is no such file  waymark keys generate --file PATH makes one`,
    ],
  ],
  [
    "keys twice",
    `{ name: fabric, ${SIGNED}, keys: { file: nowhere } }`,
    ["security-policies[0].hmac-key  hmac-key beside keys, which has both  keep one of the two"],
  ],
  [
    "session-keys without a cipher",
    "{ name: fabric, session-keys: true }",
    ["security-policies[0].session-keys  session-keys with no encryption  write encryption: aes-cbc-256"],
    "none",
    "fabric",
  ],
  [
    "session-keys that are no yes or no",
    `{ name: fabric, ${SIGNED}, encryption: aes-cbc-128, encryption-key: "${KEY_16}", session-keys: sometimes }`,
    ["security-policies[0].session-keys  text where true or false belongs  write session-keys: true"],
  ],
  [
    "session-keys of a peer",
    `{ name: fabric, ${SIGNED}, encryption: aes-cbc-128, encryption-key: "${KEY_16}", session-keys: true }`,
    [
      "security-policies[0].session-keys  warning: session-keys is of services' payloads, and no service names fabric  remove it",
    ],
  ],
  [
    "a peer whose policy has session-keys for a key",
    `{ name: fabric, ${SIGNED}, encryption: aes-cbc-128, session-keys: true }`,
    [
      "peers[0].security  fabric has no encryption key: with session-keys a service needs none, a peer does  give the policy an encryption-key, or the peer a policy of its own",
    ],
    "fabric",
    "fabric",
  ],
  [
    "a key of a wrong length beside session-keys",
    `{ name: fabric, ${SIGNED}, encryption: aes-cbc-256, encryption-key: "${KEY_16}", session-keys: true }`,
    [
      "security-policies[0].encryption-key  the encryption key has 16 bytes  give it 32 bytes, 64 hex digits: waymark keys generate makes them",
    ],
    "fabric",
    "fabric",
  ],
  [
    "a version out of bounds",
    `{ name: fabric, ${SIGNED}, key-version: 0 }`,
    ["security-policies[0].key-version  0 is out of bounds  write a whole number from 1 to 4294967295"],
  ],
];

for (const [title, policy, lines, peer, service] of cases) {
  test(`told, with no key in it: ${title}`, (t) => told(t, `  - ${policy}`, lines, peer, service));
}

test("a key in a wrong place is told as what is wrong there, and not told itself", (t) => {
  const places = (key: string) => [
    `name: fabric, hmac-kye: ${key}`,
    `name: fabric, hmac-key: ${key}, hmac-key: ${key}`,
    `name: fabric, hmac: ${key}`,
    `name: ${key}, hmac: sha256`,
    `name: fabric, keys: ${key}`,
    `name: fabric, keys: { file: ${key} }`,
    `name: fabric, keys: [${key}]`,
    `name: fabric, hmac-key: { file: ${key} }`,
    `name: fabric, hmac-key: { ${key}: x }`,
    `name: fabric, hmac-key: *${key}`,
    `name: fabric, hmac-key: !${key} x`,
    `name: fabric, hmac-key: @${key}`,
    `name: fabric, hmac-key: "${key}`,
    `name: fabric, hmac-key: '${key}'${key}`,
    `name: fabric, hmac-key: hex:${key}`,
    `name: fabric, key-version: ${key}`,
    `name: fabric, session-keys: ${key}`,
    `name: fabric, sign: ${key}`,
    `name: fabric, ${key}: 1`,
    `name: fabric, ${key}`,
  ];
  const keys: [string, string][] = [
    [HMAC, HMAC.slice(0, 12)],
    [`"${HMAC}"`, HMAC.slice(0, 12)],
    [HMAC + HMAC, HMAC.slice(0, 12)],
    ["12345678901234567890123456789012", "2345678"],
    [`0x${HMAC}`, String(Number(`0x${HMAC}`)).slice(2, 9)],
    ["base64:wP/uAMD/7gDA/+4AwP/uAA==", "wP/uAMD"],
    ['"base64:wP/uAMD/7gDA/+4AwP/uAA=="', "wP/uAMD"],
  ];
  for (const [key, part] of keys) {
    for (const place of places(key)) {
      for (const security of ["fabric", `"${HMAC}"`]) {
        const { config, problems } = read(`  - { ${place} }`, security);
        t.is(config, null, place);
        for (const printed of [problems.map(formatProblem).join("\n"), JSON.stringify(problems)]) {
          t.false(printed.includes(part), printed);
          t.false(printed.includes(HMAC.slice(0, 12)), printed);
        }
      }
    }
  }
});

test("a key in a file of its own, and a key file with versions, are looked for beside the configuration", (t) => {
  const one = fileOf(`${HMAC}\n`);
  const [alone] = read(`  - { name: fabric, hmac: sha1, hmac-key: { file: ${one} } }`).config!.securityPolicies;
  t.is(Buffer.from(alone.keys[0].hmac!).toString("hex"), HMAC);
  const many = fileOf(
    `# fabric\n3 ${KEY_16} ${HMAC}  # new\n\n4 base64:${Buffer.from(KEY_32.slice(0, 32), "hex").toString("base64")} ${HMAC}\n`,
  );
  const [policy] = read(`  - { name: fabric, hmac: sha256, encryption: aes-cbc-128, keys: { file: ${many} } }`).config!
    .securityPolicies;
  t.deepEqual(
    policy.keys.map(({ version }) => version),
    [4, 3],
  );
});

test("files that others may read, that are none or that are wrong inside are refused, each by its own words", (t) => {
  const policy = (name: string) =>
    `  - { name: fabric, hmac: sha256, encryption: aes-cbc-128, keys: { file: ${name} } }`;
  const wrong = (name: string, message: RegExp) => {
    const { config, problems } = read(policy(name));
    t.is(config, null);
    t.is(problems.length, 1, name);
    t.is(problems[0].path, "security-policies[0].keys");
    t.regex(`${problems[0].message}  ${problems[0].mend}`, message);
    t.false(problems[0].message.includes(KEY_16.slice(0, 8)));
  };
  const good = `1 ${KEY_16} ${HMAC}\n`;
  for (const mode of [0o640, 0o604, 0o620, 0o601])
    wrong(fileOf(good, mode), /open to others than its owner {2}run chmod 600/);
  mkdirSync(join(directory, "folder"), { mode: 0o700 });
  wrong("folder", /is no regular file/);
  execFileSync("mkfifo", ["-m", "600", join(directory, "pipe")]);
  wrong("pipe", /is no regular file/);
  wrong(fileOf(""), /there are no keys in it/);
  wrong(fileOf(`1 ${KEY_16}\n`), /line 1 has 2 words/);
  wrong(fileOf(`${good}0 - -\n`), /line 2 does not begin with a version/);
  wrong(fileOf(good + good), /line 2 has version 1 a second time/);
  wrong(fileOf(`1 ${KEY_16}0 -\n`), /line 1: this is no key in hex/);
  wrong(fileOf(Array.from({ length: 17 }, (_, n) => `${n + 1} - ${HMAC}`).join("\n")), /it has 17 versions/);
  wrong(fileOf(`1 - ${HMAC}\n`), /aes-cbc-128 needs a key of version 1/);
  wrong(fileOf(`#${"x".repeat(70_000)}`), /is too large/);
});

test("a key prints as what it is, whoever prints it, and goes to other threads as bytes", (t) => {
  const { config } = read(`  - { name: fabric, ${SIGNED} }`);
  const key = config!.securityPolicies[0].keys[0].hmac!;
  for (const text of [
    JSON.stringify(config),
    inspect(config, { depth: 9 }),
    String(key),
    `${key as unknown as string}`,
  ]) {
    t.false(text.includes(HMAC.slice(0, 8)));
    t.false(text.includes("192,255,238") || text.includes("192, 255"));
  }
  t.true(JSON.stringify(config).includes('"<key>"'));
  const share = structuredClone(shareOf(config!, 2));
  t.is(Buffer.from(share.securityPolicies[0].keys[0].hmac!).toString("hex"), HMAC);
});

test("key text is taken or refused whole, whatever it is", (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
      const buffer = Buffer.from(bytes);
      const ways = [
        buffer.toString("hex"),
        buffer.toString("hex").toUpperCase(),
        `base64:${buffer.toString("base64")}`,
      ];
      for (const text of ways) t.deepEqual([...parseKey(text)], [...bytes]);
    }),
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 200 }), (text) => {
      try {
        t.true(parseKey(text).length > 0);
      } catch (error) {
        t.true(error instanceof TextError);
        if (text.length > 6) t.false((error as Error).message.includes(text));
      }
    }),
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 400 }), (text) => {
      try {
        parseKeyFile(text);
      } catch (error) {
        t.true(error instanceof TextError);
      }
    }),
  );
});

test("a key file that was written is read back as it was", (t) => {
  const versions = [
    { version: 9, encryption: Buffer.from(KEY_32, "hex"), hmac: null },
    { version: 8, encryption: null, hmac: Buffer.from(HMAC, "hex") },
  ];
  const again = parseKeyFile(readSecret(join(directory, fileOf(formatKeyFile(versions)))));
  t.deepEqual(
    again.map(({ version, encryption, hmac }) => [version, encryption && [...encryption], hmac && [...hmac]]),
    versions.map(({ version, encryption, hmac }) => [version, encryption && [...encryption], hmac && [...hmac]]),
  );
});

const policyOf = (...versions: number[]): SecurityPolicyConfig => ({
  name: "fabric",
  encryption: null,
  hmac: "sha256",
  timeBased: true,
  sign: "metadata",
  adaptive: true,
  sessionKeys: false,
  keys: versions.map((version) => ({ version, encryption: null, hmac: Buffer.from(HMAC, "hex") })),
});

test("of a key file the newest version is used from the start, the one before it accepted for the overlap", (t) => {
  const { ring } = compileSecurity([policyOf(4, 3, 2)], nodeCrypto, 1000).get("fabric")!;
  t.is(ring.sending(1000).version, 4);
  t.is(ring.accepted(3, 1000)?.version, 3);
  t.is(ring.accepted(2, 1000), null);
  t.is(ring.accepted(3, 31_000), null);
});

test("a reload takes up newer keys and says why it takes others not", (t) => {
  const before = [
    policyOf(4),
    { ...policyOf(1), name: "gone" },
    { ...policyOf(1), name: "changed" },
    { ...policyOf(2), name: "older" },
    { ...policyOf(5), name: "same" },
  ];
  const securities = compileSecurity(before, nodeCrypto);
  const now = [
    policyOf(5, 4),
    { ...policyOf(2), name: "changed", hmac: "sha1" as const },
    { ...policyOf(1), name: "older" },
    { ...policyOf(5), name: "same" },
    { ...policyOf(9), name: "new" },
  ];
  t.deepEqual(rotateKeys(before, now, securities, nodeCrypto, 0), {
    rotated: [{ policy: "fabric", version: 5 }],
    refused: [
      { policy: "gone", reason: "it is gone; the keys stay until a restart" },
      { policy: "changed", reason: "its algorithms changed, which takes a restart" },
      { policy: "older", reason: "version 1 is older than 2" },
    ],
  });
  t.is(securities.get("fabric")!.ring.current.version, 5);
  t.is(securities.get("fabric")!.ring.sending(0).version, 4);
  t.is(securities.get("changed")!.ring.current.version, 1);
});

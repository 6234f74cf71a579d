// waymark keys: what it writes others can use, and what it prints is no key.

import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { runProgram } from "../../lib/cli/program.ts";
import { parseKeyFile } from "../../lib/control/key-material.ts";

const directory = mkdtempSync(join(tmpdir(), "waymark-keys-"));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

async function keys(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const outcome = { code: -1, out: "", err: "" };
  outcome.code = await runProgram(["keys", ...words], {
    out: (text) => {
      outcome.out += text;
    },
    err: (text) => {
      outcome.err += text;
    },
    isTerminal: false,
    loadRouter: () => Promise.reject(new Error("not needed")),
  });
  return outcome;
}

test("generate prints keys, other ones each time, of the kind asked for", async (t) => {
  const one = await keys("generate");
  const other = await keys("generate");
  t.like(one, { code: 0, err: "" });
  t.not(one.out, other.out);
  const [version] = parseKeyFile(one.out);
  t.is(version.version, 1);
  t.is(version.encryption?.length, 32);
  t.is(version.hmac?.length, 32);
  const [short] = parseKeyFile((await keys("generate", "--encryption", "aes-cbc-128", "--no-hmac")).out);
  t.is(short.encryption?.length, 16);
  t.is(short.hmac, null);
  const [signed] = parseKeyFile((await keys("generate", "--encryption", "none")).out);
  t.is(signed.encryption, null);
  t.like(await keys("generate", "--encryption", "none", "--no-hmac"), { code: 1 });
  t.like(await keys("generate", "--encryption", "rot13"), { code: 2 });
  t.like(await keys("generate", "--rotate"), { code: 1, err: "waymark: --rotate needs --file: which file\n" });
});

test("a file is its owner's alone, is never overwritten, and a rotation keeps the version before", async (t) => {
  const file = join(directory, "fabric.keys");
  const umask = process.umask(0);
  t.deepEqual(await keys("generate", "--file", file), { code: 0, out: `${file}: version 1\n`, err: "" });
  process.umask(umask);
  t.is(statSync(file).mode & 0o777, 0o600);
  const first = readFileSync(file, "utf8");
  t.like(await keys("generate", "--file", file), { code: 1 });
  t.is(readFileSync(file, "utf8"), first);
  t.like(await keys("generate", "--file", file, "--rotate", "--encryption", "aes-cbc-128"), {
    code: 1,
    err: `waymark: the keys in ${file} are of another kind: say --encryption aes-cbc-256\n`,
  });
  t.like(await keys("generate", "--file", file, "--rotate"), { code: 0 });
  t.like(await keys("generate", "--file", file, "--rotate"), { code: 0 });
  const versions = parseKeyFile(readFileSync(file, "utf8"));
  t.deepEqual(
    versions.map(({ version }) => version),
    [3, 2],
  );
  t.is(statSync(file).mode & 0o777, 0o600);
  t.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".new")),
    [],
  );
});

test("show tells versions, lengths and fingerprints, and not a byte of a key", async (t) => {
  const file = join(directory, "shown.keys");
  await keys("generate", "--file", file);
  await keys("generate", "--file", file, "--rotate");
  const text = await keys("show", "--file", file);
  t.is(text.code, 0);
  t.regex(text.out, /^VERSION {2}ENCRYPTION {8}HMAC\n2 {8}256-bit [0-9a-f]{8} {2}256-bit [0-9a-f]{8}\n1 {8}256-bit/);
  const { versions } = JSON.parse((await keys("show", "--file", file, "--json")).out) as {
    versions: { version: number; hmac: { bits: number; fingerprint: string } }[];
  };
  t.deepEqual(
    versions.map(({ version }) => version),
    [2, 1],
  );
  t.not(versions[0].hmac.fingerprint, versions[1].hmac.fingerprint);
  for (const word of readFileSync(file, "utf8")
    .split(/\s+/)
    .filter((each) => each.length >= 32))
    for (let at = 0; at + 10 <= word.length; at += 5) t.false(text.out.includes(word.slice(at, at + 10)));
});

test("a file that cannot be used is told with what to do", async (t) => {
  t.like(await keys("show", "--file", join(directory, "none")), {
    code: 1,
    err: `waymark: key file ${directory}/none: there is no such file: waymark keys generate --file PATH makes one\n`,
  });
  const open = join(directory, "open.keys");
  writeFileSync(open, "1 - 00112233445566778899aabbccddeeff\n");
  chmodSync(open, 0o644);
  t.like(await keys("show", "--file", open), {
    code: 1,
    err: `waymark: key file ${open} is open to others than its owner: run chmod 600 ${open}\n`,
  });
  t.like(await keys("generate", "--file", join(directory, "no", "such")), { code: 1 });
});

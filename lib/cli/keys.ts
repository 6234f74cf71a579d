import { createHash, randomBytes } from "node:crypto";
import { closeSync, existsSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { Command, Option } from "commander";
import { TextError } from "../control/address-text.ts";
import { formatKeyFile, type KeyVersion, parseKeyFile, readSecret, VERSION_MAX } from "../control/key-material.ts";
import { CIPHER_KEY_LENGTH, type CipherAlgorithm } from "../crypto/packet-crypto.ts";
import { CommandError, type Context, explainFileError } from "./context.ts";

const EXAMPLES = `
A key file has a line for each version of a policy's keys; the configuration names it with keys: { file: PATH }.
Routers on both sides of a peering need the same file. After a rotation give every router the new file, and then
send each waymark run a SIGHUP, within 30 seconds of each other: the old keys are accepted that long.

Examples:
  waymark keys generate --file /etc/waymark/fabric.keys
  waymark keys generate --file /etc/waymark/fabric.keys --rotate
  waymark keys generate --encryption none > hmac.keys
  waymark keys show --file /etc/waymark/fabric.keys`;

/** Of each kind; longer than the digest brings nothing (RFC 2104 3). */
const HMAC_KEY_BYTES = 32;
/** The keys before the newest that a rotation leaves in the file. */
const KEPT = 1;
const FINGERPRINT_LABEL = "waymark key fingerprint\0";

interface GenerateOptions {
  encryption: "none" | CipherAlgorithm;
  hmac: boolean;
  file?: string;
  rotate?: true;
}

export function keysCommand(context: Context): Command {
  const keys = new Command("keys").description("make and look at key files").addHelpText("after", EXAMPLES);
  keys
    .command("generate")
    .description("make random keys: printed, or written to a file that only its owner may read")
    .addOption(
      new Option("--encryption <cipher>", "what the encryption key is for")
        .choices(["none", "aes-cbc-128", "aes-cbc-256"])
        .default("aes-cbc-256"),
    )
    .option("--no-hmac", "make no hmac key")
    .option("--file <path>", "write it there; it must not be there yet")
    .option("--rotate", "add the next version to the file, and keep the one before it")
    .action((options: GenerateOptions) => generate(context, options));
  keys
    .command("show")
    .description("print the versions in a key file, with lengths and fingerprints and never a key")
    .requiredOption("--file <path>", "key file")
    .option("--json", "print it as JSON")
    .action((options: { file: string; json?: true }) => show(context, options));
  return keys;
}

function generate(context: Context, { encryption, hmac, file, rotate }: GenerateOptions): void {
  if (encryption === "none" && !hmac) throw new CommandError("neither an encryption key nor an hmac key to make");
  if (rotate && file === undefined) throw new CommandError("--rotate needs --file: which file");
  const before = rotate ? read(file!) : [];
  const version = (before[0]?.version ?? 0) + 1;
  if (version > VERSION_MAX) throw new CommandError(`${file} has the last version there is: begin a new file`);
  const made: KeyVersion = {
    version,
    encryption: encryption === "none" ? null : randomBytes(CIPHER_KEY_LENGTH[encryption]),
    hmac: hmac ? randomBytes(HMAC_KEY_BYTES) : null,
  };
  if (rotate) checkAlike(made, before[0], file!);
  const text = formatKeyFile([made, ...before.slice(0, KEPT)]);
  if (file === undefined) {
    context.out(text);
    return;
  }
  if (!rotate && existsSync(file))
    throw new CommandError(`${file} is there already: --rotate adds a version, and nothing overwrites keys`);
  write(file, text);
  context.out(
    `${file}: version ${version}${rotate ? `, and ${before[0].version} for those that have no other yet` : ""}\n`,
  );
}

/** A policy that uses the file must be able to go on with the new version. */
function checkAlike(made: KeyVersion, before: KeyVersion, file: string): void {
  const shape = ({ encryption, hmac }: KeyVersion) => `${encryption?.length ?? 0} ${hmac === null}`;
  if (shape(made) === shape(before)) return;
  const cipher = before.encryption === null ? "none" : before.encryption.length === 16 ? "aes-cbc-128" : "aes-cbc-256";
  const hmac = before.hmac === null ? " --no-hmac" : "";
  throw new CommandError(`the keys in ${file} are of another kind: say --encryption ${cipher}${hmac}`);
}

function show(context: Context, { file, json }: { file: string; json?: true }): void {
  const versions = read(file).map(({ version, encryption, hmac }) => ({
    version,
    encryption: describe(encryption),
    hmac: describe(hmac),
  }));
  if (json) {
    context.out(`${JSON.stringify({ file, versions }, null, 2)}\n`);
    return;
  }
  const cell = (key: ReturnType<typeof describe>) => (key === null ? "-" : `${key.bits}-bit ${key.fingerprint}`);
  const rows = versions.map(({ version, encryption, hmac }) => [String(version), cell(encryption), cell(hmac)]);
  const all = [["VERSION", "ENCRYPTION", "HMAC"], ...rows];
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column].length)));
  for (const [version, encryption, hmac] of all)
    context.out(`${version.padEnd(widths[0])}  ${encryption.padEnd(widths[1])}  ${hmac}\n`);
}

/** What two people may compare over the telephone: 32 bits of a digest with a purpose of its own. */
function describe(key: Uint8Array | null): { bits: number; fingerprint: string } | null {
  if (key === null) return null;
  const digest = createHash("sha256").update(FINGERPRINT_LABEL).update(key).digest("hex");
  return { bits: key.length * 8, fingerprint: digest.slice(0, 8) };
}

function read(file: string): KeyVersion[] {
  try {
    return parseKeyFile(readSecret(file));
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    const message = error.message.startsWith("key file") ? error.message : `key file ${file}: ${error.message}`;
    throw new CommandError(`${message}: ${error.mend}`);
  }
}

/** All of it or nothing: a router that reads meanwhile sees the old file or the new one. */
function write(file: string, text: string): void {
  const beside = `${file}.${process.pid}.new`;
  try {
    const descriptor = openSync(beside, "wx", 0o600);
    try {
      writeSync(descriptor, text);
    } finally {
      closeSync(descriptor);
    }
    renameSync(beside, file);
  } catch (error) {
    rmSync(beside, { force: true });
    throw new CommandError(`cannot write ${file}: ${explainFileError(error)}`);
  }
}

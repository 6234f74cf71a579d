// Keys as operators give them: hex or base64 in the configuration, one key in a file, or a key file with several
// versions. What is wrong with one is told without a byte of it, and a key prints as "<key>" wherever it is printed.

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { inspect } from "node:util";
import { TextError } from "./address-text.ts";

/** The bytes of a key. As JSON, as text and in a console it is "<key>"; a copy for another thread is plain bytes. */
export class KeyMaterial extends Uint8Array {
  toJSON(): string {
    return "<key>";
  }

  override toString(): string {
    return "<key>";
  }

  [inspect.custom](): string {
    return "<key>";
  }
}

/** The keys of one version of a policy; null where the policy has none of that kind. */
export interface KeyVersion {
  /** 1 and up; attribute 16 names it. */
  readonly version: number;
  readonly encryption: Uint8Array | null;
  readonly hmac: Uint8Array | null;
}

export const VERSION_MAX = 0xffff_ffff;
/** A key file keeps as many. */
const VERSIONS_MAX = 16;
const FILE_BYTES_MAX = 64 * 1024;
/** The longest key that anything takes. */
const KEY_BYTES_MAX = 64;

const KEY_MEND = "write an even number of hex digits, or base64:TEXT, in quotes";

/** A key from `00ff...` or `base64:...`. Throws TextError, which does not repeat the text. */
export function parseKey(text: string): KeyMaterial {
  const isBase64 = text.startsWith("base64:");
  const body = isBase64 ? text.slice("base64:".length) : text;
  const bytes = Buffer.from(body, isBase64 ? "base64" : "hex");
  const again = bytes.toString(isBase64 ? "base64" : "hex");
  const isWhole = isBase64 ? again.replace(/=+$/, "") === body.replace(/=+$/, "") : again === body.toLowerCase();
  if (!isWhole || bytes.length === 0) throw new TextError(`this is no key in ${isBase64 ? "base64" : "hex"}`, KEY_MEND);
  if (bytes.length > KEY_BYTES_MAX) throw new TextError(`a key of ${bytes.length} bytes is too long`, KEY_MEND);
  return KeyMaterial.from(bytes) as KeyMaterial;
}

/**
 * The versions of a key file, newest first. A line is `VERSION ENCRYPTION-KEY HMAC-KEY`, keys as above or `-` for none;
 * # begins a comment. Throws TextError that names the line.
 */
export function parseKeyFile(text: string): KeyVersion[] {
  const versions: KeyVersion[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const words = line.replace(/#.*/, "").trim().split(/\s+/);
    if (words[0] === "") continue;
    const where = `line ${index + 1}`;
    const mend = "write VERSION ENCRYPTION-KEY HMAC-KEY, with - for a key that there is none of";
    if (words.length !== 3) throw new TextError(`${where} has ${words.length} words`, mend);
    const version = /^\d{1,10}$/.test(words[0]) ? Number(words[0]) : 0;
    if (version < 1 || version > VERSION_MAX)
      throw new TextError(`${where} does not begin with a version`, `write a whole number from 1 to ${VERSION_MAX}`);
    if (versions.some((other) => other.version === version))
      throw new TextError(`${where} has version ${version} a second time`, "give each line a version of its own");
    const [encryption, hmac] = words.slice(1).map((word) => keyOf(word, where));
    versions.push({ version, encryption, hmac });
  }
  if (versions.length === 0) throw new TextError("there are no keys in it", "waymark keys generate makes them");
  if (versions.length > VERSIONS_MAX)
    throw new TextError(`it has ${versions.length} versions`, `keep the newest, up to ${VERSIONS_MAX}`);
  return versions.sort((a, b) => b.version - a.version);
}

function keyOf(word: string, where: string): KeyMaterial | null {
  if (word === "-") return null;
  try {
    return parseKey(word);
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    throw new TextError(`${where}: ${error.message}`, error.mend);
  }
}

/** The versions as parseKeyFile reads them. */
export function formatKeyFile(versions: readonly KeyVersion[]): string {
  const text = (key: Uint8Array | null) => (key === null ? "-" : Buffer.from(key).toString("hex"));
  const lines = versions.map(({ version, encryption, hmac }) => `${version} ${text(encryption)} ${text(hmac)}`);
  return `# version, encryption key, hmac key: see waymark keys --help\n${lines.join("\n")}\n`;
}

/**
 * The text of a file that has keys in it. Throws TextError when it is no regular file, may be read or written by
 * anybody but its owner, belongs to somebody else, is too large or cannot be read.
 */
export function readSecret(path: string): string {
  let file: number;
  try {
    // Opening a named pipe to read waits for a writer, otherwise.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "there is no such file" : code === "EACCES" ? "no permission" : String(code);
    throw new TextError(`key file ${path}: ${why}`, "waymark keys generate --file PATH makes one");
  }
  try {
    const { mode, uid, size } = fstatSync(file);
    if ((mode & 0o170000) !== 0o100000) throw new TextError(`key file ${path} is no regular file`, "name a file");
    if ((mode & 0o077) !== 0)
      throw new TextError(`key file ${path} is open to others than its owner`, `run chmod 600 ${path}`);
    if (uid !== 0 && uid !== process.getuid?.())
      throw new TextError(`key file ${path} belongs to another user`, `run chown root ${path}`);
    if (size > FILE_BYTES_MAX) throw new TextError(`key file ${path} is too large`, "a key file has up to 64 KiB");
    const bytes = Buffer.alloc(FILE_BYTES_MAX);
    let length = 0;
    for (let count = -1; count !== 0 && length < bytes.length; length += count)
      count = readSync(file, bytes, length, bytes.length - length, null);
    return bytes.toString("utf8", 0, length);
  } finally {
    closeSync(file);
  }
}

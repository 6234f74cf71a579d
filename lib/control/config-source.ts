// A configuration file's text: YAML to a plain value, and from a place in that value back to line and column. Knows
// YAML and nothing of what the keys mean. Anchors and aliases work, within the limits of the yaml library.

import { dirname } from "node:path";
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit } from "yaml";
import { OperatorError } from "./operator-error.ts";

/** One thing to tell the operator about a configuration file. Lines and columns count from 1. */
export interface Problem {
  readonly severity: "error" | "warning";
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Where in the configuration, such as `interfaces[0].addresses[1]`. */
  readonly path: string;
  readonly message: string;
  readonly mend: string;
}

export type Path = readonly (string | number)[];

/** Where a router listens for `show` unless `control.socket` says otherwise. */
export const DEFAULT_SOCKET = "/run/waymark.sock";

/** A larger file is refused unread. */
const TEXT_CHARACTERS_MAX = 4 * 1024 * 1024;

/** `FILE:LINE:COL  path  what is wrong  how to mend it`; a warning says that it is one. One line, safe for a terminal. */
export function formatProblem(problem: Problem): string {
  const message = problem.severity === "warning" ? `warning: ${problem.message}` : problem.message;
  const line = `${problem.file}:${problem.line}:${problem.column}  ${problem.path}  ${message}  ${problem.mend}`;
  return line.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
}

/**
 * `control.socket` of a configuration whose other keys do not matter here; the default where it says nothing. What it
 * says of `control` must be right, or a router that is not meant would be asked: throws OperatorError.
 */
export function readSocketPath(text: string, file: string): string {
  const source = new ConfigSource(text, file);
  const [problem] = source.problems();
  if (problem !== undefined) throw new OperatorError(formatProblem(problem));
  const control = source.at(["control"]);
  if (control === undefined) return DEFAULT_SOCKET;
  const socket = source.at(["control", "socket"]);
  const isMap = typeof control === "object" && control !== null && !Array.isArray(control);
  if (isMap && Object.keys(control).length === 0) return DEFAULT_SOCKET;
  if (isMap && Object.keys(control).length === 1 && typeof socket === "string") return socket;
  throw new OperatorError(
    `${file}: control does not name a socket: write control: { socket: PATH }, or ask with --socket PATH`,
  );
}

/** One file's text and what was found wrong with it so far. */
export class ConfigSource {
  /** The file as plain values; undefined where it could not be read. */
  readonly value: unknown;
  readonly #file: string;
  readonly #lines = new LineCounter();
  readonly #document: Document | null;
  readonly #problems: Problem[] = [];

  constructor(text: string, file: string) {
    this.#file = file;
    this.#document = this.#read(text);
    this.value = this.#document === null ? undefined : this.#plainValue(this.#document);
  }

  /** Where paths in the file begin. */
  get directory(): string {
    return dirname(this.#file);
  }

  /** Everything reported, in file order. */
  problems(): Problem[] {
    return this.#problems.sort((a, b) => a.line - b.line || a.column - b.column);
  }

  /** Report an error at the value (or with `at` "key": at the last key) of `path`, or at what of it is there. */
  error(path: Path, message: string, mend: string, at: "value" | "key" = "value"): void {
    this.#reportAt(this.#offset(path, at), "error", printPath(path), message, mend);
  }

  warning(path: Path, message: string, mend: string, at: "value" | "key" = "value"): void {
    this.#reportAt(this.#offset(path, at), "warning", printPath(path), message, mend);
  }

  /** The plain value at `path`; undefined where there is none. */
  at(path: Path): unknown {
    let value = this.value;
    for (const step of path) {
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
      value = (value as Record<string | number, unknown>)[step];
    }
    return value;
  }

  #reportAt(offset: number, severity: Problem["severity"], path: string, message: string, mend: string): void {
    const { line, col } = this.#lines.linePos(offset);
    this.#problems.push({
      severity,
      file: this.#file,
      line: Math.max(line, 1),
      column: Math.max(col, 1),
      path: withoutKeys(path),
      message: withoutKeys(message),
      mend: withoutKeys(mend),
    });
  }

  #read(text: string): Document | null {
    if (text.length > TEXT_CHARACTERS_MAX) {
      this.#reportAt(0, "error", "(file)", "the file is too large to be a configuration", "give a file of up to 4 MiB");
      return null;
    }
    let document: Document;
    try {
      document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false, logLevel: "error" });
    } catch (error) {
      this.#reportAt(0, "error", "(file)", `YAML: ${(error as Error).message}`, "write plain YAML with little nesting");
      return null;
    }
    // What a repeated key says is clear enough to go on and find the other mistakes. Of other errors the first counts:
    // those behind it are mostly its consequences. A tab is at the root of many, and never the one that is told.
    const repeated = document.errors.filter((error) => error.code === "DUPLICATE_KEY");
    const [broken] = document.errors.filter((error) => error.code !== "DUPLICATE_KEY");
    for (const error of repeated) {
      this.#reportAt(error.pos[0], "error", "(yaml)", "this key stands here a second time", "keep one of the two");
    }
    const tab = broken === undefined ? -1 : text.search(/^ *\t/m);
    if (tab >= 0) {
      this.#reportAt(tab, "error", "(yaml)", "a tab indents this line", "indent with spaces");
    } else if (broken?.code === "MULTIPLE_DOCS") {
      const mend = "keep one document in the file: remove the --- line";
      this.#reportAt(broken.pos[0], "error", "(yaml)", "a second YAML document begins here", mend);
    } else if (broken !== undefined) {
      this.#reportAt(broken.pos[0], "error", "(yaml)", broken.message, "mend the YAML syntax here");
    }
    for (const warning of document.warnings) {
      this.#reportAt(warning.pos[0], "error", "(yaml)", warning.message, "write the value without a tag");
    }
    return broken === undefined ? document : null;
  }

  #plainValue(document: Document): unknown {
    let aliases = 0;
    let unknown = 0;
    let first = 0;
    visit(document, {
      Alias: (_, alias) => {
        if (aliases++ === 0) first = alias.range?.[0] ?? 0;
        if (alias.resolve(document) !== undefined) return;
        unknown++;
        this.#reportAt(
          alias.range?.[0] ?? 0,
          "error",
          "(yaml)",
          `no anchor &${alias.source} stands before this alias`,
          `define &${alias.source} above, or write the value out`,
        );
      },
    });
    if (unknown > 0) return undefined;
    try {
      return document.toJS();
    } catch {
      this.#reportAt(first, "error", "(yaml)", "aliases unfold to far too much", "write the values out");
      return undefined;
    }
  }

  /** Where the deepest node on `path` begins. */
  #offset(path: Path, at: "value" | "key"): number {
    let node: unknown = this.#document?.contents;
    let offset = startOf(node);
    for (const [index, step] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document!);
      let next: unknown;
      if (isMap(node)) {
        const pair = node.items.find(
          (item) => (isScalar(item.key) ? String(item.key.value) : String(item.key)) === step,
        );
        if (pair === undefined) return offset;
        // A key without a value has no place of its own.
        offset = startOf(pair.key, offset);
        if (at === "key" && index === path.length - 1) return offset;
        next = pair.value;
      } else if (isSeq(node)) {
        next = node.items[Number(step)];
      }
      if (next === undefined || next === null) return offset;
      offset = startOf(next, offset);
      node = next;
    }
    return offset;
  }
}

/**
 * What may be a key, whatever it was written as: 16 bytes and more in hex, base64 that says so, and a number of so many
 * digits that it lost some. A key in a wrong place is a mistake like any other, and must not be told with it.
 */
const KEY_LIKE = /[0-9A-Fa-f]{32,}|base64:[A-Za-z0-9+/]{16,}=*|\d(?:\.\d+)?e\+\d+/g;

function withoutKeys(text: string): string {
  return text.replace(KEY_LIKE, "<key>");
}

function startOf(node: unknown, otherwise = 0): number {
  return (node as Node | null | undefined)?.range?.[0] ?? otherwise;
}

/** `interfaces[0].addresses[1]`; `(file)` for the whole. */
function printPath(path: Path): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else text += text === "" ? printable(step) : `.${printable(step)}`;
  }
  return text === "" ? "(file)" : text;
}

/** A key, quoted where it is none that we know the like of. */
function printable(key: string): string {
  return /^[\w-]{1,63}$/.test(key) ? key : JSON.stringify(key.slice(0, 60));
}

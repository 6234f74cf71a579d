// What runs for every packet makes no garbage: files that begin with "// HOT" are parsed (as compiled, which is plain
// JavaScript) and searched for everything that allocates or hides a cost. A constructor may allocate; so may a method
// under a comment that begins with "// cold", which says why it is not run per packet.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Comment, type Node, parse } from "acorn";
import test from "ava";
import { libFiles, ROOT, textOf } from "./source.ts";

/** The marker may not vanish from these. */
const MUST_BE_HOT = [
  "base/bytes",
  "base/hash",
  "wire/flow-key",
  "wire/checksum",
  "table/flow-table",
  "table/hash-index",
  "table/counter-set",
  "engine/rewrite",
  "engine/fast-path",
  "engine/engine",
  "engine/tx-queue",
].map((name) => `lib/${name}.ts`);

const FORBIDDEN: Record<string, string> = {
  NewExpression: "new",
  ArrayExpression: "an array literal",
  ObjectExpression: "an object literal",
  ArrowFunctionExpression: "a closure",
  FunctionExpression: "a closure",
  FunctionDeclaration: "a closure",
  ClassExpression: "a class",
  SpreadElement: "a spread",
  RestElement: "a rest parameter",
  TemplateLiteral: "a template string",
  ForOfStatement: "for…of",
  ForInStatement: "for…in",
  ThrowStatement: "throw",
  AwaitExpression: "await",
  YieldExpression: "yield",
};
const FORBIDDEN_METHODS = ["subarray", "slice", "map", "filter", "forEach", "concat", "create"];
const FORBIDDEN_NAMES = ["BigInt", "console", "log"];

// biome-ignore lint/suspicious/noExplicitAny: a syntax tree's nodes have whatever fields their type has
type Tree = Node & Record<string, any>;

function isNode(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && typeof (value as Tree).type === "string";
}

function childrenOf(node: Tree): Tree[] {
  return Object.values(node).flat().filter(isNode);
}

/** Everything forbidden in the functions of a module, as "line: what". */
function offences(code: string): string[] {
  const found: string[] = [];
  const comments: Comment[] = [];
  const tree = parse(code, { ecmaVersion: 2023, sourceType: "module", locations: true, onComment: comments }) as Tree;
  const coldLines = new Set(
    comments.filter(({ value }) => /^\*?\s*cold\b/.test(value)).map(({ loc }) => loc!.end.line),
  );
  const isCold = (node: Tree) => coldLines.has(node.loc!.start.line - 1);

  const search = (node: Tree): void => {
    const what = whatIsWrong(node);
    if (what !== undefined) found.push(`${node.loc!.start.line}: ${what}`);
    for (const child of childrenOf(node)) search(child);
  };
  /** Look for functions; everything inside one is hot. */
  const enter = (node: Tree): void => {
    if (node.type === "MethodDefinition") {
      if (node.kind !== "constructor" && !isCold(node))
        for (const child of [...node.value.params, node.value.body]) search(child);
    } else if (
      node.type === "FunctionDeclaration" ||
      node.type === "FunctionExpression" ||
      node.type === "ArrowFunctionExpression"
    ) {
      if (!isCold(node)) for (const child of [...node.params, node.body]) search(child);
    } else {
      for (const child of childrenOf(node)) enter(child);
    }
  };
  enter(tree);
  return found;
}

function whatIsWrong(node: Tree): string | undefined {
  if (node.type in FORBIDDEN) return FORBIDDEN[node.type];
  if (node.type === "Literal" && (node.bigint !== undefined || node.regex !== undefined))
    return "a BigInt or regular expression";
  if (node.type === "Identifier" && FORBIDDEN_NAMES.includes(node.name)) return node.name;
  if (node.type === "CallExpression" && node.callee.type === "MemberExpression") {
    const { name } = node.callee.property;
    if (FORBIDDEN_METHODS.includes(name)) return `.${name}()`;
  }
  return undefined;
}

const hotFiles = libFiles.filter((path) => textOf(path).startsWith("// HOT\n"));

test("the files that run for every packet say so in their first line", (t) => {
  t.deepEqual(
    MUST_BE_HOT.filter((path) => !hotFiles.includes(path)),
    [],
  );
});

for (const path of hotFiles) {
  test(`${path} makes no garbage`, (t) => {
    const compiled = readFileSync(join(ROOT, "dist", path.replace(/\.ts$/, ".js")), "utf8");
    t.deepEqual(offences(compiled), []);
  });
}

test("the search finds each thing that is forbidden, and only in what is hot", (t) => {
  const inside = (body: string) =>
    offences(`export function hot(a, b) { ${body} }`).map((line) => line.replace(/^\d+: /, ""));
  t.deepEqual(inside("return new Map();"), ["new"]);
  t.deepEqual(inside("return [a];"), ["an array literal"]);
  t.deepEqual(inside("return { a };"), ["an object literal"]);
  t.deepEqual(inside("return () => a;"), ["a closure"]);
  t.deepEqual(inside("b(...a);"), ["a spread"]);
  t.deepEqual(inside("const [x, ...y] = a;"), ["a rest parameter"]);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: code to be searched
  t.deepEqual(inside("return `${a}`;"), ["a template string"]);
  t.deepEqual(inside("return a.subarray(1);"), [".subarray()"]);
  t.deepEqual(inside("return a + 1n;"), ["a BigInt or regular expression"]);
  t.deepEqual(inside("for (const x of a) b(x);"), ["for…of"]);
  t.deepEqual(inside("throw a;"), ["throw"]);
  t.deepEqual(inside("console.log(a);"), ["console", "log"]);
  t.deepEqual(offences("export class A { b = [1]; constructor() { this.c = () => new Map(); } }"), []);
  t.deepEqual(offences("export class A {\n  // cold: once at start\n  b() { return []; }\n  #c() { return []; }\n}"), [
    "4: an array literal",
  ]);
  t.deepEqual(inside("const { x } = a; for (let i = 0; i < b; i++) x[i] = b;"), []);
});

// What code an input reaches: counters are put into the compiled files of lib/ as Node loads them, one for each
// branch, as jazzer.js does. (Its binary wants a newer libc than Debian 12 has. V8's own block coverage takes half a
// millisecond to read, a hundred times what most inputs take to run.)
//
// Two halves. The hook runs in Node's thread for loaders and rewrites text; the counters are of the thread that
// runs the code. Counters are numbered in the order in which files are loaded; which number a branch has means nothing.

import { register } from "node:module";
import { type Node, parse } from "acorn";

/** Counters there is room for. */
const MAP_BYTES = 1 << 16;

const map = new Uint8Array(MAP_BYTES);
let used = 0;

/** A byte a branch of what is loaded by now, counted up modulo 256. */
export function counters(): Uint8Array {
  return map.subarray(0, (used + 3) & ~3);
}

const TRACED = "waymarkTraced";

/** Count branches in every file of lib/ that is imported from now on. Call before the first is. */
export function traceImports(): void {
  // Called by the first line of each rewritten file: its part of the map.
  Object.assign(globalThis, {
    [TRACED]: (counters: number): Uint8Array => {
      used += counters;
      if (used > MAP_BYTES) throw new Error("test/fuzz/instrument.ts: MAP_BYTES is too small");
      return map.subarray(used - counters, used);
    },
  });
  register(new URL("./instrument-hook.js", import.meta.url));
}

// biome-ignore lint/suspicious/noExplicitAny: a syntax tree's nodes have whatever fields their type has
type Tree = Node & Record<string, any>;

interface Insertion {
  readonly at: number;
  /** 0 = closes what stands before, so it goes first where both are at one place. */
  readonly opens: 0 | 1;
  readonly text: string;
}

/** The module with a counter at each place where control may go one way or the other. Lines keep their numbers. */
export function instrument(code: string): string {
  const insertions: Insertion[] = [];
  let counters = 0;
  const count = () => `__t[${counters++}]++`;

  const before = (at: number, text: string) => insertions.push({ at, opens: 1, text });
  const behind = (at: number, text: string) => insertions.push({ at, opens: 0, text });
  /** Outer nodes come first, so at one place theirs are the outer brackets: what closes must wait for what is inside. */
  const closing: [Tree, number, string][] = [];
  const expression = (node: Tree) => {
    before(node.start, `(${count()},`);
    closing.push([node, node.end, ")"]);
  };
  const statement = (node: Tree) => {
    if (node.type === "BlockStatement") {
      before(node.start + 1, `${count()};`);
    } else {
      before(node.start, `{${count()};`);
      closing.push([node, node.end, "}"]);
    }
  };

  const visit = (node: Tree) => {
    switch (node.type) {
      case "FunctionDeclaration":
      case "FunctionExpression":
        statement(node.body);
        break;
      case "ArrowFunctionExpression":
        if (node.body.type === "BlockStatement") statement(node.body);
        else expression(node.body);
        break;
      case "IfStatement":
        statement(node.consequent);
        if (node.alternate) statement(node.alternate);
        else closing.push([node, node.end, ` else ${count()};`]);
        break;
      case "ForStatement":
      case "ForInStatement":
      case "ForOfStatement":
      case "WhileStatement":
      case "DoWhileStatement":
        statement(node.body);
        break;
      case "SwitchCase":
        if (node.consequent.length > 0) before(node.consequent[0].start, `${count()};`);
        else behind(node.end, ` ${count()};`);
        break;
      case "CatchClause":
        statement(node.body);
        break;
      case "ConditionalExpression":
        expression(node.consequent);
        expression(node.alternate);
        break;
      case "LogicalExpression":
        expression(node.right);
        break;
    }
    for (const key in node) {
      const value = node[key];
      if (Array.isArray(value)) {
        for (const child of value) if (isNode(child)) visit(child);
      } else if (isNode(value)) visit(value);
    }
    // What this node was to be closed with, now that all inside it is.
    for (let i = closing.length - 1; i >= 0; i--) {
      if (closing[i][0] !== node) continue;
      const [[, at, text]] = closing.splice(i, 1);
      behind(at, text);
    }
  };
  // With parentheses as nodes, so that a bracket never comes between one and what it holds.
  visit(parse(code, { ecmaVersion: 2022, sourceType: "module", preserveParens: true }));

  const order = insertions.map((insertion, i) => ({ ...insertion, i }));
  order.sort((a, b) => a.at - b.at || a.opens - b.opens || a.i - b.i);
  let text = "";
  let at = 0;
  for (const insertion of order) {
    text += code.slice(at, insertion.at) + insertion.text;
    at = insertion.at;
  }
  return `const __t=globalThis.${TRACED}(${counters});${text}${code.slice(at)}`;
}

function isNode(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && typeof (value as Tree).type === "string";
}

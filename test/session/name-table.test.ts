import test from "ava";
import { NameTable } from "../../lib/session/name-table.ts";

const text = (table: NameTable, row: number) => new TextDecoder().decode(table.bytes(row));

test("a name has one row, the router's own is row 0", (t) => {
  const names = new NameTable(8, "west");
  t.is(names.row("west"), 0);
  t.is(names.row("east"), 1);
  t.is(names.row("süd"), 2);
  t.is(names.row("east"), 1);
  t.deepEqual(
    [0, 1, 2].map((row) => text(names, row)),
    ["west", "east", "süd"],
  );
});

test("our own name stands in for an empty name, one longer than 63 bytes, and every new one once the table is full", (t) => {
  const names = new NameTable(3, "west");
  t.is(names.row(""), 0);
  t.is(names.row("ü".repeat(32)), 0);
  t.is(names.row("x".repeat(63)), 1);
  t.is(names.row("east"), 2);
  t.is(names.row("north"), 0);
  t.is(names.row("east"), 2, "who is in stays in");
});

import test from "ava";
import { AddressBook } from "../../lib/table/address-book.ts";

const DAY_MS = 86_400_000;

test("a name that no packet had for longer is given to another address, however much longer", (t) => {
  for (const days of [1, 24, 25, 30, 49]) {
    const book = new AddressBook(1, 64);
    let names = 0;
    while (book.enter(1, 2, 3, names, 0) !== 0) names++;
    t.true(names > 32, `${names}`);
    t.not(book.enter(1, 2, 4, 0, (days * DAY_MS) | 0), 0, `${days} days`);
  }
});

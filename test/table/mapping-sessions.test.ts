import test from "ava";
import fc from "fast-check";
import { MappingSessions } from "../../lib/table/mapping-sessions.ts";

test("each mapping has its sessions, newest first, whichever of them goes", (t) => {
  const steps = fc.array(fc.record({ mapping: fc.nat(3), session: fc.nat(11) }), { maxLength: 80 });
  fc.assert(
    fc.property(steps, (all) => {
      const lists = new MappingSessions(4, 12);
      const slow: number[][] = [[], [], [], []];
      for (const { mapping, session } of all) {
        const at = slow.findIndex((list) => list.includes(session));
        if (at < 0) {
          lists.add(mapping, session);
          slow[mapping].unshift(session);
        } else {
          lists.remove(at, session);
          slow[at].splice(slow[at].indexOf(session), 1);
        }
        for (const [row, list] of slow.entries()) if (lists.newest(row) !== (list[0] ?? -1)) return false;
      }
      return true;
    }),
    { numRuns: 300 },
  );
  t.pass();
});

// All 28 transitions, written from the figure of RFC 5880, 6.2 and the rules of 6.8.4, 6.8.6 and 6.8.16.

import test from "ava";
import { nextBfdState } from "../../lib/peer/bfd-machine.ts";

const STATES = ["AdminDown", "Down", "Init", "Up"];
const EVENTS = [
  "received AdminDown",
  "received Down",
  "received Init",
  "received Up",
  "detection time passed",
  "disabled",
  "enabled",
];

/** Per event, from AdminDown, Down, Init, Up: the next state and its diagnostic; "-" = nothing changes, "Init -1" = Init, diagnostic kept. */
const TABLE: Record<string, [string, string, string, string]> = {
  "received AdminDown": ["-", "-", "Down 3", "Down 3"],
  "received Down": ["-", "Init -1", "-", "Down 3"],
  "received Init": ["-", "Up 0", "Up 0", "-"],
  "received Up": ["-", "-", "Up 0", "-"],
  "detection time passed": ["-", "-", "Down 1", "Down 1"],
  disabled: ["-", "AdminDown 7", "AdminDown 7", "AdminDown 7"],
  enabled: ["Down -1", "-", "-", "-"],
};

for (const [event, name] of EVENTS.entries()) {
  test(`"${name}" leads from each state where the table of RFC 5880 says`, (t) => {
    STATES.forEach((state, number) => {
      const next = nextBfdState(number, event);
      t.is(next === undefined ? "-" : `${STATES[next.state]} ${next.diagnostic}`, TABLE[name][number], state);
    });
  });
}

/** Two ends; each event is one end hearing the other's present state, or losing it. */
test("two ends that hear each other come up from any pair of states, and never stay with one Up and the other not", (t) => {
  for (let a = 1; a <= 3; a++) {
    for (let b = 1; b <= 3; b++) {
      let [left, right] = [a, b];
      for (let n = 0; n < 6; n++) {
        right = nextBfdState(right, left)?.state ?? right;
        left = nextBfdState(left, right)?.state ?? left;
      }
      t.deepEqual([STATES[left], STATES[right]], ["Up", "Up"], `from ${STATES[a]} and ${STATES[b]}`);
    }
  }
});

test("an end that is administratively down holds the other in Down until it is enabled", (t) => {
  let other = 3;
  for (let n = 0; n < 5; n++) other = nextBfdState(other, 0)?.state ?? other;
  t.is(other, 1);
  let own = nextBfdState(0, 6)?.state ?? 0;
  for (let n = 0; n < 3; n++) {
    other = nextBfdState(other, own)?.state ?? other;
    own = nextBfdState(own, other)?.state ?? own;
  }
  t.deepEqual([own, other], [3, 3]);
});

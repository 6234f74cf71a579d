import { endingParts } from "./capture.ts";
import { hostSuite } from "./host-suite.ts";
import { labTest } from "./lab-test.ts";

const suite = hostSuite("three-routers");

labTest("A session keeps its UUID and the hosts' addresses over both wires", async (t) => {
  const [first, second] = (await suite.evidence()).wires.map(({ sessions }) =>
    sessions.map(({ uuid, protocol, source, destination }) => `${uuid} ${protocol} ${source} > ${destination}`).sort(),
  );
  t.true(first.length > 0);
  t.deepEqual(first, second);
});

labTest("Each hop of a session has a waypoint pair of its own", async (t) => {
  const { wires } = await suite.evidence();
  for (const { sessions, addresses } of wires) {
    const pairs = sessions.map(({ waypoint }) =>
      [waypoint.initiator, waypoint.responder].map((end) => endingParts(end).address),
    );
    for (const pair of pairs) t.deepEqual(pair.sort(), [...addresses].sort());
  }
  const [first, second] = wires.map(({ sessions }) => new Map(sessions.map(({ uuid, waypoint }) => [uuid, waypoint])));
  for (const [uuid, waypoint] of first) t.notDeepEqual(second.get(uuid), waypoint);
});

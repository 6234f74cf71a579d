import test from "ava";
import * as handshake from "../../lib/session/metadata-handshake.ts";
import { HandshakeColumns, SIDE_ESTABLISHED, SIDE_PLAIN, SIDE_SENDING } from "../../lib/table/session-table.ts";

const ROW = 2;
const NEVER = Number.POSITIVE_INFINITY;
const DAY_MS = 24 * 3_600_000;

/** One side toward a peer, as it is when a session opens. */
function side(): HandshakeColumns {
  const columns = new HandshakeColumns(4);
  columns.start(ROW, 0, -1);
  return columns;
}

test("a side toward a peer begins by sending, one toward a plain network has no handshake", (t) => {
  const columns = side();
  t.is(columns.state[ROW], SIDE_SENDING);
  columns.start(ROW, -1, -1);
  t.is(columns.state[ROW], SIDE_PLAIN);
});

test("the initiator stops at reverse metadata or a disable message, and starts again when asked", (t) => {
  const columns = side();
  handshake.heardReverseMetadata(columns, ROW, 10);
  t.is(columns.state[ROW], SIDE_ESTABLISHED);
  handshake.heardEnable(columns, ROW);
  t.is(columns.state[ROW], SIDE_SENDING);
  handshake.heardDisable(columns, ROW);
  t.is(columns.state[ROW], SIDE_ESTABLISHED);
});

test("the responder stops at a bare packet or a disable message, and starts again at forward metadata", (t) => {
  const columns = side();
  handshake.heardForwardMetadata(columns, ROW, 10);
  t.is(columns.state[ROW], SIDE_SENDING);
  handshake.heardBareForward(columns, ROW);
  t.is(columns.state[ROW], SIDE_ESTABLISHED);
  handshake.heardForwardMetadata(columns, ROW, 20);
  t.is(columns.state[ROW], SIDE_SENDING);
  handshake.heardDisable(columns, ROW);
  t.is(columns.state[ROW], SIDE_ESTABLISHED);
});

const ROLES = [
  { name: "responder", due: handshake.answerDueInMs, hear: handshake.heardForwardMetadata },
  { name: "initiator", due: handshake.stopDueInMs, hear: handshake.heardReverseMetadata },
] as const;

for (const { name, due: dueInMs, hear } of ROLES) {
  const due = (columns: HandshakeColumns, nowMs: number) => dueInMs(columns, ROW, nowMs);

  test(`the ${name} with no traffic generates a second after the first packet it must answer`, (t) => {
    const columns = side();
    t.is(due(columns, 0), NEVER);
    hear(columns, ROW, 5000);
    hear(columns, ROW, 5000);
    t.is(due(columns, 5000), 1000);
    hear(columns, ROW, 5600);
    t.is(due(columns, 5600), 400);
    t.is(due(columns, 6000), 0);
    t.is(due(columns, 9999), 0);
  });

  test(`the ${name} generates at once after five packets, then at most once per second`, (t) => {
    const columns = side();
    for (let n = 0; n < 4; n++) hear(columns, ROW, 5000 + n);
    t.true(due(columns, 5004) > 0);
    hear(columns, ROW, 5004);
    t.is(due(columns, 5004), 0);
    handshake.generated(columns, ROW, 5004);
    t.is(due(columns, 5004), NEVER);
    for (let n = 0; n < 300; n++) hear(columns, ROW, 5100);
    t.is(due(columns, 5100), 904);
    t.is(due(columns, 6004), 0);
  });

  test(`the ${name} whose own traffic answers generates nothing`, (t) => {
    const columns = side();
    for (let n = 0; n < 9; n++) {
      hear(columns, ROW, 5000 + n);
      handshake.answered(columns, ROW);
    }
    t.is(due(columns, 9000), NEVER);
  });

  test(`the ${name} generates on a clock that wraps like an int32, and thirty days after it did last`, (t) => {
    const columns = side();
    for (let n = 0; n < 2; n++) hear(columns, ROW, 0x7fffffff - 10);
    t.is(due(columns, 0x7fffffff + 490), 500);
    t.is(due(columns, 0x7fffffff + 990), 0);
    handshake.generated(columns, ROW, 0x7fffffff + 990);
    const later = 0x7fffffff + 990 + 30 * DAY_MS;
    for (let n = 0; n < 5; n++) hear(columns, ROW, later);
    t.is(due(columns, later), 0);
  });
}

test("one packet is enough for the responder to answer, but for the initiator it is no more than its answer", (t) => {
  const columns = side();
  handshake.heardForwardMetadata(columns, ROW, 5000);
  t.is(handshake.answerDueInMs(columns, ROW, 5000), 1000);
  columns.start(ROW, 0, -1);
  handshake.heardReverseMetadata(columns, ROW, 5000);
  t.is(handshake.stopDueInMs(columns, ROW, 9999), NEVER);
  handshake.heardReverseMetadata(columns, ROW, 5300);
  t.is(handshake.stopDueInMs(columns, ROW, 5300), 700);
});

test("a responder that was heard, and an initiator that was not, generate nothing", (t) => {
  const responder = side();
  handshake.heardForwardMetadata(responder, ROW, 0);
  handshake.heardBareForward(responder, ROW);
  t.is(handshake.answerDueInMs(responder, ROW, 9000), NEVER);
  const initiator = side();
  for (let n = 0; n < 9; n++) handshake.heardReverseMetadata(initiator, ROW, 0);
  handshake.heardEnable(initiator, ROW);
  t.is(handshake.stopDueInMs(initiator, ROW, 9000), NEVER);
});

test("rows do not touch each other, and more than 255 packets are still many", (t) => {
  const columns = side();
  for (let n = 0; n < 300; n++) handshake.heardForwardMetadata(columns, ROW, n);
  t.deepEqual([...columns.unanswered], [0, 0, 255, 0]);
  t.deepEqual([...columns.state], [0, 0, SIDE_SENDING, 0]);
});

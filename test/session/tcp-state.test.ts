import test from "ava";
import * as tcp from "../../lib/session/tcp-state.ts";
import { FORWARD, REVERSE } from "../../lib/table/session-table.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";

const {
  TCP_NONE,
  TCP_SYN_SENT,
  TCP_SYN_RECEIVED,
  TCP_ESTABLISHED,
  TCP_HALF_CLOSED_FORWARD,
  TCP_HALF_CLOSED_REVERSE,
  TCP_CLOSING,
  TCP_RESET,
  TCP_RESET_FORWARD_ALIVE,
  TCP_RESET_REVERSE_ALIVE,
} = tcp;
const STATES = [
  TCP_NONE,
  TCP_SYN_SENT,
  TCP_SYN_RECEIVED,
  TCP_ESTABLISHED,
  TCP_HALF_CLOSED_FORWARD,
  TCP_HALF_CLOSED_REVERSE,
  TCP_CLOSING,
  TCP_RESET,
  TCP_RESET_FORWARD_ALIVE,
  TCP_RESET_REVERSE_ALIVE,
];

// The whole machine: the state after each segment, by the state before, in the order of STATES.
const AFTER: [name: string, flags: number, direction: number, states: number[]][] = [
  [
    "SYN from the client",
    SYN,
    FORWARD,
    [
      TCP_SYN_SENT,
      TCP_SYN_SENT,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
      TCP_RESET_FORWARD_ALIVE,
      TCP_RESET_REVERSE_ALIVE,
    ],
  ],
  [
    "SYN and ACK from the server",
    SYN | ACK,
    REVERSE,
    [
      TCP_NONE,
      TCP_SYN_RECEIVED,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
      TCP_RESET_FORWARD_ALIVE,
      TCP_RESET_REVERSE_ALIVE,
    ],
  ],
  [
    "ACK from the client",
    ACK,
    FORWARD,
    [
      TCP_ESTABLISHED,
      TCP_SYN_SENT,
      TCP_ESTABLISHED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET_FORWARD_ALIVE,
      TCP_RESET_FORWARD_ALIVE,
      TCP_ESTABLISHED,
    ],
  ],
  [
    "data from the server",
    ACK | PSH,
    REVERSE,
    [
      TCP_ESTABLISHED,
      TCP_SYN_SENT,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET_REVERSE_ALIVE,
      TCP_ESTABLISHED,
      TCP_RESET_REVERSE_ALIVE,
    ],
  ],
  [
    "FIN from the client",
    FIN | ACK,
    FORWARD,
    [
      TCP_HALF_CLOSED_FORWARD,
      TCP_SYN_SENT,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_FORWARD,
      TCP_CLOSING,
      TCP_CLOSING,
      TCP_RESET,
      TCP_RESET_FORWARD_ALIVE,
      TCP_RESET_REVERSE_ALIVE,
    ],
  ],
  [
    "FIN from the server",
    FIN | ACK,
    REVERSE,
    [
      TCP_HALF_CLOSED_REVERSE,
      TCP_SYN_SENT,
      TCP_HALF_CLOSED_REVERSE,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
      TCP_RESET_FORWARD_ALIVE,
      TCP_RESET_REVERSE_ALIVE,
    ],
  ],
  ["RST from the client", RST, FORWARD, STATES.map(() => TCP_RESET)],
  ["RST from the server", RST | ACK, REVERSE, STATES.map(() => TCP_RESET)],
  ["everything at once", SYN | FIN | RST | ACK, FORWARD, STATES.map(() => TCP_RESET)],
];

for (const [name, flags, direction, states] of AFTER) {
  test(`${name} moves every state where the table says`, (t) => {
    const name2 = (state: number) => `${state} ${tcp.tcpStateName(state)}`;
    t.deepEqual(
      STATES.map((state) => name2(tcp.nextTcpState(state, flags, direction))),
      states.map(name2),
    );
  });
}

test("a state is half-open, steady or reset, and only closing and reset conversations are over", (t) => {
  for (const state of STATES) {
    const kinds = [tcp.isTcpHalfOpen(state), tcp.isTcpSteady(state), tcp.isTcpReset(state)];
    t.is(kinds.filter(Boolean).length, 1, tcp.tcpStateName(state));
  }
  t.deepEqual(STATES.filter(tcp.isTcpHalfOpen), [TCP_NONE, TCP_SYN_SENT, TCP_SYN_RECEIVED]);
  t.deepEqual(STATES.filter(tcp.isTcpOver), STATES.slice(STATES.indexOf(TCP_CLOSING)));
});

test("no bare segment moves a steady state", (t) => {
  for (const state of STATES.filter(tcp.isTcpSteady)) {
    for (const flags of [0, ACK, PSH, ACK | PSH])
      for (const direction of [FORWARD, REVERSE]) t.is(tcp.nextTcpState(state, flags, direction), state);
  }
});

import test from "ava";
import * as tcp from "../../lib/session/tcp-state.ts";
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
];

// The whole machine: the state after each segment, by the state before, in the order of STATES.
const AFTER: [name: string, flags: number, forward: boolean, states: number[]][] = [
  [
    "SYN from the client",
    SYN,
    true,
    [
      TCP_SYN_SENT,
      TCP_SYN_SENT,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  [
    "SYN and ACK from the server",
    SYN | ACK,
    false,
    [
      TCP_NONE,
      TCP_SYN_RECEIVED,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  [
    "ACK from the client",
    ACK,
    true,
    [
      TCP_ESTABLISHED,
      TCP_SYN_SENT,
      TCP_ESTABLISHED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  [
    "data from the server",
    ACK | PSH,
    false,
    [
      TCP_ESTABLISHED,
      TCP_SYN_SENT,
      TCP_SYN_RECEIVED,
      TCP_ESTABLISHED,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  [
    "FIN from the client",
    FIN | ACK,
    true,
    [
      TCP_HALF_CLOSED_FORWARD,
      TCP_SYN_SENT,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_FORWARD,
      TCP_HALF_CLOSED_FORWARD,
      TCP_CLOSING,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  [
    "FIN from the server",
    FIN | ACK,
    false,
    [
      TCP_HALF_CLOSED_REVERSE,
      TCP_SYN_SENT,
      TCP_HALF_CLOSED_REVERSE,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_HALF_CLOSED_REVERSE,
      TCP_CLOSING,
      TCP_RESET,
    ],
  ],
  ["RST from the client", RST, true, STATES.map(() => TCP_RESET)],
  ["RST from the server", RST | ACK, false, STATES.map(() => TCP_RESET)],
  ["everything at once", SYN | FIN | RST | ACK, true, STATES.map(() => TCP_RESET)],
];

for (const [name, flags, forward, states] of AFTER) {
  test(`${name} moves every state where the table says`, (t) => {
    const name2 = (state: number) => `${state} ${tcp.tcpStateName(state)}`;
    t.deepEqual(
      STATES.map((state) => name2(tcp.nextTcpState(state, flags, forward))),
      states.map(name2),
    );
  });
}

test("a state is half-open or steady, and only closing and reset conversations are over", (t) => {
  for (const state of STATES) t.not(tcp.isTcpHalfOpen(state), tcp.isTcpSteady(state));
  t.deepEqual(STATES.filter(tcp.isTcpHalfOpen), [TCP_NONE, TCP_SYN_SENT, TCP_SYN_RECEIVED]);
  t.deepEqual(STATES.filter(tcp.isTcpOver), [TCP_CLOSING, TCP_RESET]);
});

test("no bare segment moves a steady state", (t) => {
  for (const state of STATES.filter(tcp.isTcpSteady)) {
    for (const flags of [0, ACK, PSH, ACK | PSH])
      for (const forward of [true, false]) t.is(tcp.nextTcpState(state, flags, forward), state);
  }
});

// The decoder: any bytes as a frame.

import {
  ANY_MAC,
  AT_END,
  AT_L3,
  AT_L4,
  AT_PAYLOAD,
  decodeFrame,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TRAIT_COOKIE,
  TRAIT_TCP_EVENT,
  TRAITS,
} from "../../../lib/wire/flow-key.ts";
import { OK, PUNT_ARP, PUNT_FRAGMENT, PUNT_ICMP_ERROR, verdictName } from "../../../lib/wire/verdict.ts";
import { decodeSlowly } from "../../model/decode.ts";
import { buildFrame, MAC_HIGH, MAC_LOW } from "../../wire/frames.ts";
import { bytesOf, VECTORS } from "../../wire/vectors.ts";
import { changeFrame } from "../forms.ts";
import type { Target } from "../fuzzer.ts";

const OWN = Uint8Array.of(0x02, 0x00, 0x00, 0x00, 0x00, 0x01);
const INTERFACE = 3;
const BEFORE = 32;
/** What a row has in it before; two, so that a word that is written shows. */
const UNSET = [0x5a5a5a5a, -1];
const WORDS = 9;

const rows = UNSET.map(() => new Int32Array(2 * KEY_ROW_WORDS));

function decode(frame: Uint8Array, isOwn: boolean): string {
  const expected = decodeSlowly(frame, isOwn ? OWN : null);
  const verdicts = rows.map((row, i) => {
    // A view of the frame alone: a read outside it throws.
    const memory = new Uint8Array(BEFORE + frame.length);
    memory.set(frame, BEFORE);
    const view = new DataView(memory.buffer, 0, BEFORE + frame.length);
    row.fill(UNSET[i]);
    const high = isOwn ? MAC_HIGH : ANY_MAC;
    return decodeFrame(view, BEFORE, frame.length, INTERFACE, high, MAC_LOW, row, KEY_ROW_WORDS);
  });
  const [verdict] = verdicts;
  const name =
    verdict === OK
      ? "ok"
      : verdict === PUNT_ARP
        ? "arp"
        : verdict === PUNT_ICMP_ERROR
          ? "icmp-error"
          : verdict === PUNT_FRAGMENT
            ? "fragment"
            : verdictName(verdict);
  if (verdicts[1] !== verdict || name !== expected.verdict)
    throw new Error(`${name}, but ${expected.verdict} is right`);
  const isFilled = verdict === OK || verdict === PUNT_ICMP_ERROR || verdict === PUNT_FRAGMENT;
  for (const [i, row] of rows.entries()) {
    for (let word = 0; word < row.length; word++) {
      const inRow = word >= KEY_ROW_WORDS && word < KEY_ROW_WORDS + WORDS;
      if (isFilled && inRow ? row[word] !== rows[0][word] : row[word] !== UNSET[i])
        throw new Error(`word ${word - KEY_ROW_WORDS} of the row`);
    }
  }
  if (!isFilled) return name;
  const row = rows[0].subarray(KEY_ROW_WORDS);
  const found = {
    source: row[KEY_SOURCE],
    destination: row[KEY_DESTINATION],
    sourcePort: row[KEY_PORTS] >>> 16,
    destinationPort: row[KEY_PORTS] & 0xffff,
    protocol: row[KEY_PROTOCOL] & 0xff,
    l3: row[AT_L3] - BEFORE,
    l4: row[AT_L4] - BEFORE,
    payload: row[AT_PAYLOAD] - BEFORE,
    end: row[AT_END] - BEFORE,
    hasCookie: (row[TRAITS] & TRAIT_COOKIE) !== 0,
    isTcpEvent: (row[TRAITS] & TRAIT_TCP_EVENT) !== 0,
  };
  for (const [what, value] of Object.entries(found)) {
    if (value !== expected[what as keyof typeof found])
      throw new Error(`${what} is ${value}, but ${expected[what as keyof typeof found]} is right`);
  }
  if (row[KEY_PROTOCOL] >> 8 !== INTERFACE) throw new Error("the interface");
  const { l3, l4, payload, end } = found;
  if (!(l3 === 14 && l3 + 20 <= l4 && l4 <= payload && payload <= end && end <= frame.length))
    throw new Error("offsets outside the frame");
  const protocol = { 1: "icmp", 6: "tcp", 17: "udp" }[found.protocol] ?? "other";
  return `${name} ${protocol}${found.hasCookie ? " with cookie" : ""}${found.isTcpEvent ? " event" : ""}`;
}

const cookie = bytesOf(VECTORS[0].hex);

export const target: Target = {
  runs: 20_000,
  lengthMax: 400,
  seeds: [
    ...[PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP, 47].map(
      (protocol) => buildFrame({ protocol, payload: cookie }).bytes,
    ),
    buildFrame({ protocol: PROTOCOL_TCP, flags: 2, ipOptions: new Uint8Array(40), tcpOptions: new Uint8Array(40) })
      .bytes,
    bytesOf("ffffffffffff 020000000101 0806 0001 0800 06 04 0001 020000000101 0a010002 000000000000 0a010001"),
  ],
  tokens: [
    cookie.subarray(0, 8),
    OWN,
    ...["0800", "0806", "86dd", "8100", "88a8", "45", "4f", "06", "11"].map(bytesOf),
  ],
  change: changeFrame,
  run(frame) {
    decode(frame, true);
    return decode(frame, false);
  },
};

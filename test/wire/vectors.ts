// The metadata vectors of the protocol sheet, 3.6, each with what it says. The bare attributes of the sheet are put
// behind a base header of their own.

import type { AttributeValue, Section } from "../../lib/wire/metadata-attributes.ts";

export interface Vector {
  name: string;
  hex: string;
  says: { type: number; section: Section; value: AttributeValue }[];
}

const UUID = "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0";

export const VECTORS: Vector[] = [
  {
    name: "forward",
    hex: `4c48dbc6 ddf6670c 10140054 00100004 00000001 0002000d 0a01010a 0a020214 c3501388 11000600 100f1e2d
          3c4b5a49 788796a5 b4c3d2e1 f0000700 03656e67 000a0003 61707000 0e000477 65737400 0f000473 65633100
          13000d31 39382e35 312e3130 302e3130`,
    says: [
      { type: 16, section: "header", value: 1 },
      {
        type: 2,
        section: "payload",
        value: {
          source: "10.1.1.10",
          destination: "10.2.2.20",
          sourcePort: 50000,
          destinationPort: 5000,
          protocol: 17,
        },
      },
      { type: 6, section: "payload", value: UUID },
      { type: 7, section: "payload", value: "eng" },
      { type: 10, section: "payload", value: "app" },
      { type: 14, section: "payload", value: "west" },
      { type: 15, section: "payload", value: "sec1" },
      { type: 19, section: "payload", value: "198.51.100.10" },
    ],
  },
  {
    name: "reverse",
    hex: `4c48dbc6 ddf6670c 1014003d 00100004 00000001 0004000d 0a020214 0a01010a 1388c350 11000600 100f1e2d
          3c4b5a49 788796a5 b4c3d2e1 f0001100 04656173 74001300 0c323033 2e302e31 31332e32 30`,
    says: [
      { type: 16, section: "header", value: 1 },
      {
        type: 4,
        section: "payload",
        value: {
          source: "10.2.2.20",
          destination: "10.1.1.10",
          sourcePort: 5000,
          destinationPort: 50000,
          protocol: 17,
        },
      },
      { type: 6, section: "payload", value: UUID },
      { type: 17, section: "payload", value: "east" },
      { type: 19, section: "payload", value: "203.0.113.20" },
    ],
  },
  { name: "false-positive-marker", hex: "4c48dbc6 ddf6670c 100c0000", says: [] },
  {
    name: "keep-alive",
    hex: "4c48dbc6 ddf6670c 10190000 00100004 00000001 00180001 01",
    says: [
      { type: 16, section: "header", value: 1 },
      { type: 24, section: "header", value: 1 },
    ],
  },
  {
    name: "enable-metadata",
    hex: "4c48dbc6 ddf6670c 10190000 00100004 00000001 00180001 02",
    says: [
      { type: 16, section: "header", value: 1 },
      { type: 24, section: "header", value: 2 },
    ],
  },
  {
    name: "disable-metadata",
    hex: "4c48dbc6 ddf6670c 101d0000 00100004 00000001 00120000 00180001 03",
    says: [
      { type: 16, section: "header", value: 1 },
      { type: 18, section: "header", value: true },
      { type: 24, section: "header", value: 3 },
    ],
  },
  {
    name: "health-check-request",
    hex: "4c48dbc6 ddf6670c 10190000 00100004 00000001 002e0001 01",
    says: [
      { type: 16, section: "header", value: 1 },
      { type: 46, section: "header", value: 1 },
    ],
  },
  {
    name: "path-metrics",
    hex: "4c48dbc6 ddf6670c 101a0000 001a000a 10000064 200000c8 800a",
    says: [
      {
        type: 26,
        section: "header",
        value: { txColor: 1, txTimeMs: 100, rxColor: 2, rxTimeMs: 200, drop: true, previousRxCount: 10 },
      },
    ],
  },
  {
    name: "fragment",
    hex: "4c48dbc6 ddf6670c 101a0000 0001000a a1b2c3d4 123420b9 05c8",
    says: [
      {
        type: 1,
        section: "header",
        value: {
          extendedId: 0xa1b2c3d4,
          originalId: 0x1234,
          dontFragment: false,
          moreFragments: true,
          offset: 185 * 8,
          largestSeen: 1480,
        },
      },
    ],
  },
  {
    name: "forward-context-ipv6",
    hex: `4c48dbc6 ddf6670c 100c0029 00030025 20010db8 00000000 00000000 00000001
          20010db8 00000000 00000000 00000002 04d2 01bb 06`,
    says: [
      {
        type: 3,
        section: "payload",
        value: {
          source: "2001:db8::1",
          destination: "2001:db8::2",
          sourcePort: 1234,
          destinationPort: 443,
          protocol: 6,
        },
      },
    ],
  },
];

export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex.replace(/\s/g, ""), "hex"));
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

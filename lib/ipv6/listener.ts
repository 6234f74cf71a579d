// What the router listens to, said to its link (RFC 3810, the listener's part; RFC 9777): switches that snoop on it and flood no
// unknown groups let neighbor solicitations through to us. Said when the link comes up, and again within a second, and when
// somebody asks; at the end, that we listen no more. Version 1 (RFC 2710) is spoken as long as a querier has just spoken it.
//
//   Ethernet 33:33:0:0:0:16 | IPv6, hop limit 1, to ff02::16 | router alert 8 | report: one record a group
//
// All sources are wanted of every group, so a question about some of them is answered as one about the group. Whatever is
// asked at whatever rate is answered by one tick, once: that is the bound. Nothing is withheld because another said it
// (RFC 2710, 4): a switch wants to hear each of its ports. Reads no clock.

import { getI32, getU16, setU16 } from "../base/bytes.ts";
import type { RandomSource } from "../base/random.ts";
import { FrameBatch, type Port } from "../io/port.ts";
import { getMacHigh, getMacLow, isGroupMac, writeEthernet } from "../wire/ethernet.ts";
import { ETHERNET_HEADER } from "../wire/flow-key.ts";
import {
  completeIcmpv6,
  ETHERTYPE_IPV6,
  GROUP_MAC_HIGH,
  HeaderWalk,
  HOP_BY_HOP,
  IPV6_DESTINATION,
  IPV6_HEADER,
  IPV6_HOP_LIMIT,
  IPV6_MTU_MIN,
  IPV6_PAYLOAD_LENGTH,
  IPV6_SOURCE,
  icmpv6IsRight,
  PROTOCOL_ICMPV6,
  walkHeaders,
  writeIpv6,
} from "../wire/ipv6.ts";
import {
  ALERT_HEADER,
  CHANGE_TO_EXCLUDE,
  CHANGE_TO_INCLUDE,
  delayOfCode,
  hasRouterAlert,
  isGroup,
  MLD_GROUP,
  MLD_MAX_DELAY,
  MLD_QUERY,
  MLD_RECORD,
  MLD1_DONE,
  MLD1_MESSAGE,
  MLD1_REPORT,
  MLD2_REPORT_HEADER,
  MODE_IS_EXCLUDE,
  queryVersion,
  writeGroup,
  writeRecord,
  writeReport,
  writeRouterAlert,
} from "../wire/mld.ts";
import { CONSUMED, DROP_LISTENER_QUERY, OK } from "../wire/verdict.ts";
import type { Group } from "./groups.ts";
import { identifierOf, writeLinkLocal } from "./link-local.ts";

const HOP_LIMIT = 1;
const ALL_NODES: Group = [0, 1];
const ALL_ROUTERS: Group = [0, 2];
/** Who hears reports of version 2. */
const ALL_REPORTED_TO: Group = [0, 0x16];

// RFC 3810, 9.1, 9.2, 9.11: the defaults.
const ROBUSTNESS = 2;
const QUERY_INTERVAL_MS = 125_000;
const UNSOLICITED_MS = 1000;
/** How often `tick` is to be called: whatever is due is sent so much later at most. */
export const TICK_MS = 200;

/** In one report: what any link takes. */
const RECORDS_MAX = Math.floor((IPV6_MTU_MIN - IPV6_HEADER - ALERT_HEADER - MLD2_REPORT_HEADER) / MLD_RECORD);
const FRAME_BYTES = ETHERNET_HEADER + IPV6_MTU_MIN;

export class Listener {
  readonly #port: Port;
  readonly #groups: readonly Group[];
  readonly #random: RandomSource;
  readonly #saysBye: boolean;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #identifier: readonly [number, number];
  readonly #walk = new HeaderWalk();
  readonly #batch = new FrameBatch(new Uint8Array(FRAME_BYTES), 1);
  #wasUp = false;
  /** How often it is still to be said that we have begun to listen, and when next. */
  #beginningsLeft = 0;
  #beginningMs = 0;
  /** Of which groups somebody has asked, and when the answer is due. */
  readonly #asked: Uint8Array;
  #answerMs = Number.POSITIVE_INFINITY;
  /** A querier of version 1 is there until then. */
  #olderUntilMs = Number.NEGATIVE_INFINITY;

  /**
   * `port`: the one whose wire is IPv6. `saysBye`: that we listen no more is said at the end; not where somebody else with
   * our MAC address, the kernel, may listen too.
   */
  constructor(port: Port, groups: readonly Group[], random: RandomSource, saysBye: boolean) {
    this.#port = port;
    this.#groups = groups;
    this.#random = random;
    this.#saysBye = saysBye;
    const { mac } = port.info();
    this.#macHigh = getMacHigh(mac, 0);
    this.#macLow = getMacLow(mac, 0);
    this.#identifier = identifierOf(this.#macHigh, this.#macLow);
    this.#asked = new Uint8Array(groups.length);
    this.#batch.count = 1;
  }

  /**
   * Take the frame bytes[at..at+length), which nobody else wants: CONSUMED, or why it is refused (a verdict). OK: it is no
   * query for us.
   */
  receive(bytes: Uint8Array, at: number, length: number, nowMs: number): number {
    const l3 = at + ETHERNET_HEADER;
    if (length < ETHERNET_HEADER + IPV6_HEADER) return OK;
    const end = l3 + IPV6_HEADER + getU16(bytes, l3 + IPV6_PAYLOAD_LENGTH);
    const walk = this.#walk;
    if (end > at + length || walkHeaders(bytes, l3, end, walk) !== OK) return OK;
    const { l4 } = walk;
    if (walk.protocol !== PROTOCOL_ICMPV6 || walk.moreFragments || walk.fragmentOffset > 0) return OK;
    if (l4 >= end || bytes[l4] !== MLD_QUERY || !this.#isForUs(bytes, at, l3)) return OK;
    const version = queryVersion(bytes, l4, end);
    const isOfLink = bytes[l3 + IPV6_HOP_LIMIT] === HOP_LIMIT && isLinkLocal(bytes, l3 + IPV6_SOURCE);
    if (version === 0 || !isOfLink || !hasRouterAlert(bytes, l3) || !icmpv6IsRight(bytes, l3, l4, end))
      return DROP_LISTENER_QUERY;
    const group = l4 + MLD_GROUP;
    const isGeneral = isUnspecified(bytes, group);
    if (!isGeneral && bytes[group] !== 0xff) return DROP_LISTENER_QUERY;
    const code = getU16(bytes, l4 + MLD_MAX_DELAY);
    const maxMs = version === 1 ? code : delayOfCode(code);
    if (version === 1) this.#hearOlder(nowMs, maxMs);
    let isAsked = false;
    for (let n = 0; n < this.#groups.length; n++) {
      const [third, fourth] = this.#groups[n];
      if (!isGeneral && !isGroup(bytes, group, third, fourth)) continue;
      this.#asked[n] = 1;
      isAsked = true;
    }
    if (isAsked) this.#answerMs = Math.min(this.#answerMs, nowMs + this.#chance(maxMs - TICK_MS));
    return CONSUMED;
  }

  /** Say what is due. Call it every TICK_MS. */
  tick(nowMs: number): void {
    const { linkUp } = this.#port.info();
    if (linkUp && !this.#wasUp) {
      this.#beginningsLeft = ROBUSTNESS;
      this.#beginningMs = nowMs;
    }
    this.#wasUp = linkUp;
    if (!linkUp) return;
    if (this.#beginningsLeft > 0 && nowMs >= this.#beginningMs) {
      this.#say(CHANGE_TO_EXCLUDE, nowMs, null);
      this.#beginningsLeft--;
      this.#beginningMs = nowMs + this.#chance(UNSOLICITED_MS - TICK_MS);
    }
    if (nowMs < this.#answerMs) return;
    this.#say(MODE_IS_EXCLUDE, nowMs, this.#asked);
    this.#forgetAnswer();
  }

  /** We listen no more. Call once, while the port is open. */
  end(nowMs: number): void {
    if (this.#saysBye && this.#port.info().linkUp) this.#say(CHANGE_TO_INCLUDE, nowMs, null);
    this.#beginningsLeft = 0;
    this.#forgetAnswer();
  }

  /** A query of version 1: what was to be said in version 2 is not (RFC 3810, 8.2.1). */
  #hearOlder(nowMs: number, maxMs: number): void {
    if (nowMs >= this.#olderUntilMs) {
      this.#forgetAnswer();
      this.#beginningsLeft = 0;
    }
    this.#olderUntilMs = nowMs + ROBUSTNESS * QUERY_INTERVAL_MS + maxMs;
  }

  #forgetAnswer(): void {
    this.#asked.fill(0);
    this.#answerMs = Number.POSITIVE_INFINITY;
  }

  /** Records of this type, of the marked groups; null = of all. */
  #say(type: number, nowMs: number, marked: Uint8Array | null): void {
    const groups = this.#groups.filter((_, n) => marked === null || marked[n] !== 0);
    if (nowMs < this.#olderUntilMs) for (const group of groups) this.#sayOlder(type, group);
    else for (let n = 0; n < groups.length; n += RECORDS_MAX) this.#report(type, groups.slice(n, n + RECORDS_MAX));
  }

  #report(type: number, groups: readonly Group[]): void {
    const l4 = this.#begin(ALL_REPORTED_TO, MLD2_REPORT_HEADER + groups.length * MLD_RECORD);
    let at = writeReport(this.#batch.bytes, l4, groups.length);
    for (const [third, fourth] of groups) at = writeRecord(this.#batch.bytes, at, type, third, fourth);
    this.#send(l4);
  }

  /** A report goes to its group, and that we have left to all routers (RFC 2710, 5). */
  #sayOlder(type: number, group: Group): void {
    const isDone = type === CHANGE_TO_INCLUDE;
    const l4 = this.#begin(isDone ? ALL_ROUTERS : group, MLD1_MESSAGE);
    setU16(this.#batch.bytes, l4, (isDone ? MLD1_DONE : MLD1_REPORT) << 8);
    writeGroup(this.#batch.bytes, l4 + MLD_GROUP, group[0], group[1]);
    this.#send(l4);
  }

  /** Headers of a message of `length` zeros to this group. Returns where it begins. */
  #begin(to: Group, length: number): number {
    const out = this.#batch.bytes.fill(0);
    const l3 = ETHERNET_HEADER;
    writeEthernet(out, 0, GROUP_MAC_HIGH, to[1], this.#macHigh, this.#macLow, ETHERTYPE_IPV6);
    const behind = writeIpv6(out, l3, 0, 0, ALERT_HEADER + length, HOP_BY_HOP, HOP_LIMIT);
    writeLinkLocal(out, l3 + IPV6_SOURCE, this.#identifier);
    writeGroup(out, l3 + IPV6_DESTINATION, to[0], to[1]);
    const l4 = writeRouterAlert(out, behind);
    this.#batch.length[0] = l4 + length;
    return l4;
  }

  #send(l4: number): void {
    completeIcmpv6(this.#batch.bytes, ETHERNET_HEADER, l4, this.#batch.length[0]);
    this.#port.tx(this.#batch, 0, 1);
  }

  /** Sent to all nodes, to a group of ours, or to our MAC address. */
  #isForUs(bytes: Uint8Array, at: number, l3: number): boolean {
    const high = getMacHigh(bytes, at);
    if (!isGroupMac(high)) return high === this.#macHigh && getMacLow(bytes, at) === this.#macLow;
    const to = l3 + IPV6_DESTINATION;
    if (isGroup(bytes, to, ALL_NODES[0], ALL_NODES[1])) return true;
    return this.#groups.some(([third, fourth]) => isGroup(bytes, to, third, fourth));
  }

  /** From 0 up to `max`, without it; 0 where that is less. */
  #chance(max: number): number {
    return max < 1 ? 0 : (this.#random.nextI32() >>> 0) % max;
  }
}

const isLinkLocal = (bytes: Uint8Array, at: number): boolean => (getU16(bytes, at) & 0xffc0) === 0xfe80;

const isUnspecified = (bytes: Uint8Array, at: number): boolean =>
  (getI32(bytes, at) | getI32(bytes, at + 4) | getI32(bytes, at + 8) | getI32(bytes, at + 12)) === 0;

// Whole routers and hosts in one process, under virtual time. Every link is a pair of single-ended memory ports; the
// world carries frames across, so a test can watch, lose, repeat, delay or change each one. Nothing is random unless a
// test draws it from a seed.

import { getI32, getU16, setU16, setU32 } from "../../lib/base/bytes.ts";
import { ManualClock } from "../../lib/base/clock.ts";
import { SeededRandom } from "../../lib/base/random.ts";
import { parseAddress } from "../../lib/control/address-text.ts";
import type { Securities } from "../../lib/control/compile.ts";
import { type Config, formatProblem, parseConfig } from "../../lib/control/config.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { MemoryPort } from "../../lib/io/memory-port.ts";
import { FrameBatch } from "../../lib/io/port.ts";
import { buildRouter, inOwnForm, macOf, type Router } from "../../lib/router.ts";
import { isName } from "../../lib/table/address-book.ts";
import {
  ARP_REPLY,
  ARP_REQUEST,
  ARP_SENDER_MAC,
  getArpOperation,
  getArpSenderIp,
  getArpTargetIp,
  writeArp,
} from "../../lib/wire/arp.ts";
import { getMacHigh, getMacLow, writeEthernet } from "../../lib/wire/ethernet.ts";
import { ETHERTYPE_ARP } from "../../lib/wire/flow-key.ts";
import { printFrame } from "../../lib/wire/print.ts";
import { fromIpv6, type SeenPacket, seePacket, toIpv6 } from "./packets.ts";
import { SplitRouter } from "./split.ts";

/** What becomes of a frame on a link: the frames that arrive now (none = lost), or later. */
export type Tamper = (frame: Uint8Array, seen: SeenPacket | undefined, from: string) => readonly Arrival[];
export interface Arrival {
  frame: Uint8Array;
  delayMs?: number;
}

export interface Link {
  name: string;
  ends: [End, End];
  tamper: Tamper;
  /** Every frame that was put on the link, with who sent it and when. */
  readonly seen: { atMs: number; from: string; frame: Uint8Array; packet: SeenPacket | undefined }[];
}

interface End {
  owner: string;
  port: MemoryPort;
  /** Frames carried from it so far. */
  carried: number;
}

const asIs: Tamper = (frame) => [{ frame }];

const SUPER_FRAME_MAX = 65_549;
/** Frames that may wait in a port between two settles. */
const QUEUE_FRAMES = 64;
/** What the wall clocks say when the world begins. */
export const WALL_MS = 1_800_000_000_000;

/** A host: one address, a default gateway, answers ARP, hands every packet to `onPacket`. */
export class SimHost {
  readonly name: string;
  address: string;
  readonly port: MemoryPort;
  readonly received: SeenPacket[] = [];
  onPacket: (packet: SeenPacket) => void = () => {};
  /** Other addresses that it has. */
  others: readonly string[] = [];
  /** When false, ARP requests for this host get no answer. */
  answersArp = true;
  readonly #mac: Uint8Array;
  readonly #gateway: number;
  #gatewayMac: [number, number] | null = null;
  readonly #waiting: Uint8Array[] = [];

  constructor(
    name: string,
    address: string,
    gateway: string,
    mac: Uint8Array,
    mtu: number,
    superFrames: boolean,
    queueFrames: number,
  ) {
    this.name = name;
    this.address = address;
    this.#mac = mac;
    this.#gateway = parseAddress(gateway);
    this.port = new MemoryPort({
      name,
      mac,
      mtu,
      ...(superFrames ? { frameMax: SUPER_FRAME_MAX } : {}),
      queueFrames,
    });
  }

  get #isIpv6(): boolean {
    return isName(this.#gateway);
  }

  /** Send a frame made by packets.ts to the gateway. */
  send(frame: Uint8Array, put: (frame: Uint8Array) => void): void {
    const out = this.#isIpv6 ? (one: Uint8Array) => put(toIpv6(one)) : put;
    if (this.#gatewayMac === null) {
      // Asked again with every frame: an answer may be lost.
      this.#waiting.push(frame);
      out(this.#arp(ARP_REQUEST, 0, 0, this.#gateway));
      return;
    }
    setU16(frame, 0, this.#gatewayMac[0]);
    setU32(frame, 2, this.#gatewayMac[1]);
    frame.set(this.#mac, 6);
    out(frame);
  }

  receive(wire: Uint8Array, put: (frame: Uint8Array) => void): void {
    const out = this.#isIpv6 ? (one: Uint8Array) => put(toIpv6(one)) : put;
    const frame = fromIpv6(wire);
    if (frame === undefined) return;
    if (getU16(frame, 12) === ETHERTYPE_ARP) {
      const sender = getArpSenderIp(frame, 14);
      const high = getMacHigh(frame, 14 + ARP_SENDER_MAC);
      const low = getMacLow(frame, 14 + ARP_SENDER_MAC);
      if (sender === this.#gateway) this.#gatewayMac = [high, low];
      const target = getArpTargetIp(frame, 14);
      const own = [this.address, ...this.others].find((address) => parseAddress(address) === target);
      const asked = getArpOperation(frame, 14) === ARP_REQUEST && own !== undefined;
      if (asked && this.answersArp) out(this.#arp(ARP_REPLY, high, low, sender, target));
      for (const waiting of this.#waiting.splice(0)) this.send(waiting, put);
      return;
    }
    const packet = seePacket(frame);
    if (packet === undefined) return;
    this.received.push(packet);
    this.onPacket(packet);
  }

  #arp(
    operation: number,
    targetHigh: number,
    targetLow: number,
    target: number,
    own = parseAddress(this.address),
  ): Uint8Array {
    const frame = new Uint8Array(42);
    const asks = operation === ARP_REQUEST;
    const [high, low] = [getU16(this.#mac, 0), getI32(this.#mac, 2)];
    writeEthernet(frame, 0, asks ? 0xffff : targetHigh, asks ? -1 : targetLow, high, low, ETHERTYPE_ARP);
    writeArp(frame, 14, operation, high, low, own, targetHigh, targetLow, target);
    return frame;
  }
}

export class World {
  readonly clock = new ManualClock(1000);
  readonly routers = new Map<string, Router>();
  readonly hosts = new Map<string, SimHost>();
  readonly links = new Map<string, Link>();
  readonly #portsOf = new Map<string, Map<string, MemoryPort>>();
  readonly #configs = new Map<string, Config>();
  /** How far a router's wall clock is ahead of the world's. */
  readonly skewMs = new Map<string, number>();
  readonly #timers: { atMs: number; run: () => void }[] = [];
  readonly #delayed: { atMs: number; port: MemoryPort; frame: Uint8Array }[] = [];
  #seed: number;
  readonly #superFrames: boolean;
  readonly #queueFrames: number;

  /** `superFrames`: ports take frames of up to 64 KiB, as veth and GRO deliver them. `queueFrames` may wait in each. */
  constructor(seed = 1, superFrames = false, queueFrames = QUEUE_FRAMES) {
    this.#queueFrames = queueFrames;
    this.#seed = seed;
    this.#superFrames = superFrames;
  }

  /** A router from configuration text; its devices' names do not matter. */
  addRouter(name: string, yaml: string): Router {
    const { config, problems } = parseConfig(yaml, `${name}.yaml`);
    if (config === null) throw new Error(problems.map(formatProblem).join("\n"));
    const ports = new Map<string, MemoryPort>();
    for (const item of config.interfaces) {
      const mac = macOf(config, item);
      mac[3] = this.routers.size + 1;
      ports.set(
        item.name,
        new MemoryPort({
          name: item.name,
          mac,
          mtu: item.mtu ?? 1500,
          ...(this.#superFrames ? { frameMax: SUPER_FRAME_MAX } : {}),
          queueFrames: this.#queueFrames,
        }),
      );
    }
    this.#configs.set(name, config);
    this.#portsOf.set(name, ports);
    return this.restart(name);
  }

  /** The router begins anew on the ports it has, without anything it knew; its monitor with what another has saved. */
  restart(name: string, monitorState?: Uint8Array): Router {
    const ports = [...this.#portsOf.get(name)!.values()];
    const random = new SeededRandom(this.#seed++);
    const router = buildRouter(this.#configs.get(name)!, inOwnForm(this.#configs.get(name)!, ports), {
      clock: this.clock,
      random,
      acceptAnyMac: false,
      monitoring: "inside",
      ...(monitorState === undefined ? {} : { monitorState }),
      wallMs: () => WALL_MS + this.clock.nowMs() + (this.skewMs.get(name) ?? 0),
    });
    this.routers.set(name, router);
    return router;
  }

  /** The router begins anew with several workers. `routers` has the first one, whose turn is everybody's. */
  split(name: string, workers: number, ringBytes?: number): SplitRouter {
    const split = new SplitRouter(this.#configs.get(name)!, [...this.#portsOf.get(name)!.values()], {
      workers,
      clock: this.clock,
      seed: this.#seed++,
      ...(this.#superFrames ? { frameMax: SUPER_FRAME_MAX } : {}),
      ...(ringBytes === undefined ? {} : { ringBytes }),
    });
    const turn = (nowMs: number) => split.turn(nowMs);
    this.routers.set(name, { ...split.workers[0], engine: { turn } as Engine });
    return split;
  }

  addHost(name: string, address: string, gateway: string, mtu = 1500): SimHost {
    const host = new SimHost(
      name,
      address,
      gateway,
      Uint8Array.of(2, 0, 0, 0, 1, this.hosts.size + 1),
      mtu,
      this.#superFrames,
      this.#queueFrames,
    );
    this.hosts.set(name, host);
    this.#portsOf.set(name, new Map([["", host.port]]));
    return host;
  }

  /** Join two ends, each "host" or "router.interface", by a link with a name. */
  join(name: string, one: string, other: string): Link {
    const end = (text: string): End => {
      const [owner, at = ""] = text.split(".");
      const port = this.#portsOf.get(owner)?.get(at);
      if (port === undefined) throw new Error(`no ${text}`);
      return { owner, port, carried: 0 };
    };
    const link: Link = { name, ends: [end(one), end(other)], tamper: asIs, seen: [] };
    this.links.set(name, link);
    return link;
  }

  /** Send a frame from a host, now. */
  send(host: SimHost, frame: Uint8Array): void {
    host.send(frame, (out) => this.#put(this.#linkOf(host.port), host.name, out));
  }

  /**
   * Let a frame arrive at one end of a link, sent by whatever is at the other: MAC addresses are filled in, where there is room. `flags` and
   * `segmentSize` are what the port says of it.
   */
  inject(link: Link, to: string, frame: Uint8Array, flags = 0, segmentSize = 0): void {
    const [end, other] = link.ends[0].owner === to ? link.ends : [link.ends[1], link.ends[0]];
    const macs = Uint8Array.of(...end.port.info().mac, ...other.port.info().mac);
    frame.set(macs.subarray(0, frame.length));
    arrive(end.port, frame, flags, segmentSize);
  }

  /** A router's security policies, to change their keys. */
  securities(name: string): Securities {
    return this.routers.get(name)!.securities;
  }

  /** Call `run` in `delayMs`. */
  after(delayMs: number, run: () => void): void {
    this.#timers.push({ atMs: this.clock.nowMs() + delayMs, run });
  }

  /** Let time pass in steps of a millisecond, everything settling within each. */
  run(ms: number): void {
    for (let i = 0; i < ms; i++) {
      this.clock.advance(1);
      this.settle();
    }
  }

  /** Let time pass in big steps: hours of silence. */
  skip(ms: number, stepMs = 1000): void {
    for (let passed = 0; passed < ms; passed += stepMs) {
      this.clock.advance(Math.min(stepMs, ms - passed));
      this.settle();
    }
  }

  /** Until `done` holds or `limitMs` have passed; returns whether it holds. */
  runUntil(done: () => boolean, limitMs: number): boolean {
    for (let i = 0; i < limitMs && !done(); i++) this.run(1);
    return done();
  }

  /** Carry frames until nothing moves any more at this instant. */
  settle(): void {
    const now = this.clock.nowMs();
    for (const timer of take(this.#timers, (each) => each.atMs <= now)) timer.run();
    for (const { port, frame } of take(this.#delayed, (each) => each.atMs <= now)) arrive(port, frame);
    for (let moved = true; moved; ) {
      moved = false;
      for (const router of this.routers.values()) if (router.engine.turn(now) > 0) moved = true;
      for (const link of this.links.values()) if (this.#carry(link)) moved = true;
      for (const host of this.hosts.values()) if (this.#deliver(host)) moved = true;
    }
  }

  /** Every packet that crossed a link, as one line each: for failure messages. */
  diagram(): string {
    const lines = [...this.links.values()].flatMap((link) =>
      link.seen.map(({ atMs, from, frame }) => ({
        atMs,
        line: `${String(atMs).padStart(7)} ${link.name.padEnd(4)} ${from.padEnd(6)} ${printFrame(frame, 0, frame.length)}`,
      })),
    );
    return lines
      .sort((a, b) => a.atMs - b.atMs)
      .map(({ line }) => line)
      .join("\n");
  }

  #carry(link: Link): boolean {
    let moved = false;
    for (const end of link.ends) {
      if (end.port.stats().txFrames === end.carried) continue;
      for (const frame of end.port.sent()) {
        this.#put(link, end.owner, frame);
        end.carried++;
        moved = true;
      }
    }
    return moved;
  }

  #put(link: Link, from: string, frame: Uint8Array): void {
    const packet = seePacket(frame);
    link.seen.push({ atMs: this.clock.nowMs(), from, frame: frame.slice(), packet });
    const to = link.ends[0].owner === from ? link.ends[1] : link.ends[0];
    for (const { frame: arrives, delayMs = 0 } of link.tamper(frame, packet, from)) {
      if (delayMs === 0) arrive(to.port, arrives);
      else this.#delayed.push({ atMs: this.clock.nowMs() + delayMs, port: to.port, frame: arrives.slice() });
    }
  }

  #deliver(host: SimHost): boolean {
    const batch = this.#batch;
    if (host.port.rx(batch) === 0) return false;
    const frames: Uint8Array[] = [];
    for (let i = 0; i < batch.count; i++)
      frames.push(batch.bytes.slice(batch.offset[i], batch.offset[i] + batch.length[i]));
    for (const frame of frames) host.receive(frame, (out) => this.#put(this.#linkOf(host.port), host.name, out));
    return true;
  }

  readonly #batch = new FrameBatch(new Uint8Array(0), 64);

  #linkOf(port: MemoryPort): Link {
    for (const link of this.links.values()) if (link.ends.some((end) => end.port === port)) return link;
    throw new Error("a host that is joined to nothing");
  }
}

function arrive(port: MemoryPort, frame: Uint8Array, flags = 0, segmentSize = 0): void {
  if (!port.inject(frame, flags, segmentSize))
    throw new Error(`${port.info().name}: more frames at once than the simulation's queues take`);
}

function take<T>(list: T[], due: (each: T) => boolean): T[] {
  const taken = list.filter(due);
  for (const each of taken) list.splice(list.indexOf(each), 1);
  return taken;
}

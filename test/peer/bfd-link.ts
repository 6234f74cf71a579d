// Two BFD sessions on a link in virtual time. Packets travel as bytes, so the codec takes part; each end keeps a record
// of what it sent, what reached it and what it said, for tests to judge by.

import { SeededRandom } from "../../lib/base/random.ts";
import {
  BFD_DEFAULTS,
  BFD_EVENT_DOWN,
  BFD_EVENT_UP,
  type BfdIdentity,
  BfdSession,
  type BfdSettings,
} from "../../lib/peer/bfd-session.ts";
import { addBfdAttributes, BFD_PORT_PEER, BfdPacket, readBfd, writeBfd } from "../../lib/wire/bfd.ts";
import { MetadataWriter, ParsedMetadata } from "../../lib/wire/metadata.ts";
import { OK } from "../../lib/wire/verdict.ts";

export const WEST = 0xc6120001 | 0;
export const EAST = 0xc6120002 | 0;

export interface Logged {
  atMs: number;
  packet: BfdPacket;
}

export interface Happened {
  atMs: number;
  events: number;
  state: number;
  diagnostic: number;
}

export function identity(routerName: string, bootId = 1n): BfdIdentity {
  return { routerName, nodeId: 1, bootId };
}

export class End {
  session: BfdSession;
  settings: BfdSettings;
  readonly address: number;
  /** What the network makes of address and port. */
  seenAddress: number;
  seenPort = BFD_PORT_PEER;
  readonly sent: Logged[] = [];
  readonly delivered: Logged[] = [];
  readonly happened: Happened[] = [];
  readonly verdicts: number[] = [];

  constructor(session: BfdSession, settings: BfdSettings, address: number) {
    this.session = session;
    this.settings = settings;
    this.address = address;
    this.seenAddress = address;
  }

  configure(settings: BfdSettings): void {
    this.settings = settings;
    this.session.configure(settings);
  }

  /** Times of the events with this bit. */
  times(event: number): number[] {
    return this.happened.filter(({ events }) => (events & event) !== 0).map(({ atMs }) => atMs);
  }

  /** Spans of time in which it was Up; the last may be open. */
  upSpans(): [from: number, to: number][] {
    const downs = this.times(BFD_EVENT_DOWN);
    return this.times(BFD_EVENT_UP).map((from, i) => [from, downs[i] ?? Number.POSITIVE_INFINITY]);
  }
}

export interface LinkOptions {
  seed: number;
  west?: Partial<BfdSettings>;
  east?: Partial<BfdSettings>;
  plain?: boolean;
  latencyMs?: () => number;
  /** Whether the packet that `from` sends at atMs is lost. */
  loses?: (from: End, atMs: number, packet: BfdPacket) => boolean;
}

interface InFlight {
  atMs: number;
  to: End;
  from: End;
  bytes: Uint8Array;
  address: number;
  port: number;
}

export class BfdLink {
  nowMs = 0;
  readonly random: SeededRandom;
  readonly west: End;
  readonly east: End;
  readonly #inFlight: InFlight[] = [];
  readonly #options: LinkOptions;
  readonly #writer = new MetadataWriter(new Uint8Array(512));
  readonly #parsed = new ParsedMetadata();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.random = new SeededRandom(options.seed);
    this.west = this.#end("west", WEST, 0x11111111, { ...BFD_DEFAULTS, ...options.west });
    this.east = this.#end("east", EAST, 0x22222222, { ...BFD_DEFAULTS, ...options.east });
  }

  /** Another session in the end's place: the router was started again. */
  restart(end: End, routerName: string, discriminator: number, bootId: bigint): void {
    end.session = this.#session(identity(routerName, bootId), end.address, discriminator, end.settings);
  }

  #session(who: BfdIdentity, ownAddress: number, discriminator: number, settings: BfdSettings): BfdSession {
    const random = new SeededRandom(this.random.nextI32());
    const owner = this.#options.plain ? null : who;
    const port = BFD_PORT_PEER;
    return new BfdSession(
      { discriminator, path: 0, identity: owner, ownAddress, ownPort: port, settings, random },
      this.nowMs,
    );
  }

  #end(name: string, address: number, discriminator: number, settings: BfdSettings): End {
    return new End(this.#session(identity(name), address, discriminator, settings), settings, address);
  }

  other(end: End): End {
    return end === this.west ? this.east : this.west;
  }

  /** Let everything happen up to and at `untilMs`. */
  run(untilMs: number): void {
    for (;;) {
      const arrival = this.#inFlight[0]?.atMs ?? Number.POSITIVE_INFINITY;
      const due = Math.min(arrival, this.west.session.dueMs, this.east.session.dueMs);
      const next = Math.max(due, this.nowMs);
      if (next > untilMs) break;
      this.nowMs = next;
      while (this.#inFlight.length > 0 && this.#inFlight[0].atMs <= next) this.#deliver(this.#inFlight.shift()!);
      for (const end of [this.west, this.east]) this.#turn(end);
    }
    this.nowMs = untilMs;
  }

  #turn(end: End): void {
    while (end.session.poll(this.nowMs)) {
      this.#note(end);
      const packet = new BfdPacket();
      end.session.send(packet, this.nowMs);
      end.sent.push({ atMs: this.nowMs, packet });
      if (this.#options.loses?.(end, this.nowMs, packet)) continue;
      const latency = this.#options.latencyMs?.() ?? 10;
      const flight = {
        atMs: this.nowMs + latency,
        from: end,
        to: this.other(end),
        bytes: this.bytesOf(packet),
        address: end.seenAddress,
        port: end.seenPort,
      };
      let at = this.#inFlight.length;
      while (at > 0 && this.#inFlight[at - 1].atMs > flight.atMs) at--;
      this.#inFlight.splice(at, 0, flight);
    }
    this.#note(end);
  }

  bytesOf(packet: BfdPacket): Uint8Array {
    const bytes = new Uint8Array(512);
    const end = writeBfd(bytes, 0, packet);
    if (!packet.hasMetadata) return bytes.slice(0, end);
    this.#writer.begin();
    addBfdAttributes(this.#writer, packet);
    const length = this.#writer.end();
    bytes.set(this.#writer.buffer.subarray(0, length), end);
    return bytes.slice(0, end + length);
  }

  #deliver({ to, bytes, address, port }: InFlight): void {
    const packet = new BfdPacket();
    const verdict = readBfd(bytes, 0, bytes.length, this.#options.plain ? null : this.#parsed, packet);
    if (verdict !== OK) throw new Error(`a packet of ours is refused: ${verdict}`);
    const answer = to.session.receive(packet, this.nowMs, address, port);
    to.verdicts.push(answer);
    if (answer === OK) to.delivered.push({ atMs: this.nowMs, packet });
    this.#note(to);
  }

  #note(end: End): void {
    const events = end.session.takeEvents();
    const { state, diagnostic } = end.session;
    if (events !== 0) end.happened.push({ atMs: this.nowMs, events, state, diagnostic });
  }
}

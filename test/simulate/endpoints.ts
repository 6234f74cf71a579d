// Two small endpoints with what a loss test needs of TCP and of a UDP application: retransmission. Not a TCP: one
// segment in flight, no windows.

import { ACK, FIN, PSH, RST, SYN } from "../../lib/wire/tcp.ts";
import { type Ends, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";
import type { SimHost, World } from "./world.ts";

const RETRANSMIT_MS = 300;

/** A client that connects, sends each request `pauseMs` after the one before was answered, and closes. Whatever is lost is sent again. */
export class TcpClient {
  state: "opening" | "open" | "closing" | "closed" | "refused" = "opening";
  readonly answers: string[] = [];
  readonly #world: World;
  readonly #host: SimHost;
  readonly #ends: Ends;
  readonly #requests: readonly string[];
  readonly #pauseMs: number;
  #sequence = 1000;
  #acknowledgment = 0;

  constructor(world: World, host: SimHost, ends: Ends, requests: readonly string[], pauseMs = 0) {
    this.#pauseMs = pauseMs;
    this.#world = world;
    this.#host = host;
    this.#ends = ends;
    this.#requests = requests;
    this.#transmit();
  }

  receive(packet: SeenPacket): void {
    if (packet.protocol !== 6 || packet.destinationPort !== this.#ends.sourcePort) return;
    const isExpected = packet.sequence === this.#acknowledgment;
    if ((packet.tcpFlags & RST) !== 0) {
      this.state = "refused";
    } else if ((packet.tcpFlags & SYN) !== 0) {
      const isFirst = this.state === "opening";
      if (isFirst) {
        this.#sequence++;
        this.#acknowledgment = packet.sequence + 1;
      }
      this.#segment(ACK);
      if (isFirst) this.#next(0);
    } else if (this.state === "open" && packet.payload.length > 0 && isExpected) {
      this.answers.push(packet.text);
      this.#sequence = packet.acknowledgment;
      this.#acknowledgment += packet.payload.length;
      this.#next(this.#pauseMs);
    } else if (this.state === "closing" && (packet.tcpFlags & FIN) !== 0 && isExpected) {
      this.#sequence++;
      this.#acknowledgment++;
      this.state = "closed";
      this.#segment(ACK);
    }
  }

  #next(pauseMs: number): void {
    this.state = this.answers.length < this.#requests.length ? "open" : "closing";
    if (pauseMs === 0) this.#transmit();
    else this.#world.after(pauseMs, () => this.#transmit());
  }

  #transmit(): void {
    const then = `${this.state} ${this.answers.length}`;
    if (this.state === "opening") this.#segment(SYN);
    else if (this.state === "open") this.#segment(ACK | PSH, this.#requests[this.answers.length]);
    else if (this.state === "closing") this.#segment(ACK | FIN);
    else return;
    this.#world.after(RETRANSMIT_MS, () => {
      if (`${this.state} ${this.answers.length}` === then) this.#transmit();
    });
  }

  #segment(flags: number, payload = ""): void {
    this.#world.send(
      this.#host,
      tcpFrame(this.#ends, { flags, sequence: this.#sequence, acknowledgment: this.#acknowledgment }, payload),
    );
  }
}

/** A server without memory: every segment's answer follows from the segment. */
export function tcpServer(world: World, host: SimHost): (packet: SeenPacket) => void {
  return (packet) => {
    if (packet.protocol !== 6 || (packet.tcpFlags & RST) !== 0) return;
    const back = swapEnds(packet);
    const answer = (flags: number, sequence: number, acknowledgment: number, payload = "") =>
      world.send(host, tcpFrame(back, { flags, sequence, acknowledgment }, payload));
    if ((packet.tcpFlags & SYN) !== 0) answer(SYN | ACK, 5000, packet.sequence + 1);
    else if ((packet.tcpFlags & FIN) !== 0) answer(FIN | ACK, packet.acknowledgment, packet.sequence + 1);
    else if (packet.payload.length > 0) {
      answer(ACK | PSH, packet.acknowledgment, packet.sequence + packet.payload.length, packet.text.toUpperCase());
    }
  };
}

/** Sends `requests` one after the other, each until its answer comes, and `pauseMs` after it the next. */
export class UdpClient {
  readonly answers: string[] = [];
  readonly #world: World;
  readonly #host: SimHost;
  readonly #ends: Ends;
  readonly #requests: string[];
  readonly #pauseMs: number;

  constructor(world: World, host: SimHost, ends: Ends, requests: string[], pauseMs = 0) {
    this.#pauseMs = pauseMs;
    this.#world = world;
    this.#host = host;
    this.#ends = ends;
    this.#requests = requests;
    this.#transmit();
  }

  receive(packet: SeenPacket): void {
    if (packet.protocol !== 17 || packet.destinationPort !== this.#ends.sourcePort) return;
    const { text } = packet;
    if (text !== this.#requests[this.answers.length]?.toUpperCase()) return; // a repeated answer
    this.answers.push(text);
    if (this.#pauseMs === 0) this.#transmit();
    else this.#world.after(this.#pauseMs, () => this.#transmit());
  }

  #transmit(): void {
    const at = this.answers.length;
    if (at === this.#requests.length) return;
    this.#world.send(this.#host, udpFrame(this.#ends, this.#requests[at]));
    this.#world.after(RETRANSMIT_MS, () => {
      if (this.answers.length === at) this.#transmit();
    });
  }
}

/** Answers every datagram with itself in upper case. */
export function udpServer(world: World, host: SimHost): (packet: SeenPacket) => void {
  return (packet) => {
    if (packet.protocol === 17) world.send(host, udpFrame(swapEnds(packet), packet.text.toUpperCase()));
  };
}

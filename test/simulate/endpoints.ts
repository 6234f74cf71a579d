// Two small endpoints with what a loss test needs of TCP and of a UDP application: retransmission. Not a TCP: one
// segment in flight, no windows.

import { type SimHost, type World } from "./world.ts";
import { type Ends, type SeenPacket, swapEnds, tcpFrame, udpFrame } from "./packets.ts";

const FIN = 1;
const SYN = 2;
const RST = 4;
const PSH = 8;
const ACK = 16;
const RETRANSMIT_MS = 300;

/** A client that connects, sends `request`, and wants to get `request` back in upper case; then closes. */
export class TcpClient {
  state: "opening" | "sent" | "answered" | "closed" | "refused" = "opening";
  answer = "";
  readonly #world: World;
  readonly #host: SimHost;
  readonly #ends: Ends;
  readonly #request: string;
  #sequence = 1000;
  #acknowledgment = 0;

  constructor(world: World, host: SimHost, ends: Ends, request: string) {
    this.#world = world;
    this.#host = host;
    this.#ends = ends;
    this.#request = request;
    this.#transmit();
  }

  receive(packet: SeenPacket): void {
    if (packet.protocol !== 6 || packet.destinationPort !== this.#ends.sourcePort) return;
    if ((packet.tcpFlags & RST) !== 0) {
      this.state = "refused";
      return;
    }
    if (this.state === "opening" && (packet.tcpFlags & (SYN | ACK)) === (SYN | ACK)) {
      this.#sequence = 1001;
      this.#acknowledgment = packet.sequence + 1;
      this.#segment(ACK);
      this.state = "sent";
      this.#transmit();
    } else if (this.state === "sent" && packet.payload.length > 0) {
      this.answer = new TextDecoder().decode(packet.payload);
      this.#sequence = 1001 + this.#request.length;
      this.#acknowledgment = packet.sequence + packet.payload.length;
      this.state = "answered";
      this.#segment(ACK | FIN);
    } else if (this.state === "answered" && (packet.tcpFlags & FIN) !== 0) {
      this.#sequence++;
      this.#acknowledgment++;
      this.#segment(ACK);
      this.state = "closed";
    }
  }

  #transmit(): void {
    if (this.state === "opening") this.#segment(SYN);
    else if (this.state === "sent") this.#segment(ACK | PSH, this.#request);
    else return;
    const then = this.state;
    this.#world.after(RETRANSMIT_MS, () => {
      if (this.state === then) this.#transmit();
    });
  }

  #segment(flags: number, payload = ""): void {
    this.#world.send(this.#host, tcpFrame(this.#ends, { flags, sequence: this.#sequence, acknowledgment: this.#acknowledgment }, payload));
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
      answer(ACK | PSH, packet.acknowledgment, packet.sequence + packet.payload.length, new TextDecoder().decode(packet.payload).toUpperCase());
    }
  };
}

/** Sends `requests` one after the other, each until its answer comes. */
export class UdpClient {
  readonly answers: string[] = [];
  readonly #world: World;
  readonly #host: SimHost;
  readonly #ends: Ends;
  readonly #requests: string[];

  constructor(world: World, host: SimHost, ends: Ends, requests: string[]) {
    this.#world = world;
    this.#host = host;
    this.#ends = ends;
    this.#requests = requests;
    this.#transmit();
  }

  receive(packet: SeenPacket): void {
    if (packet.protocol !== 17 || packet.destinationPort !== this.#ends.sourcePort) return;
    const text = new TextDecoder().decode(packet.payload);
    if (text !== this.#requests[this.answers.length]?.toUpperCase()) return; // a repeated answer
    this.answers.push(text);
    this.#transmit();
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
    if (packet.protocol === 17) world.send(host, udpFrame(swapEnds(packet), new TextDecoder().decode(packet.payload).toUpperCase()));
  };
}

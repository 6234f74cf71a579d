// Hosts that talk while something happens to the routers between them: a TCP connection, a UDP socket and a ping that say
// something every 5 ms, and many TCP connections beside them; and what of it arrived when. What arrives at the client
// went both ways, so that a gap there is a gap in either direction.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Lab } from "./lab.ts";

const HOST_CLIENT = fileURLToPath(new URL("./host-client.js", import.meta.url));
const WAIT_MS_MAX = 60_000;

/** The longest times without a delivered byte, ms. */
export interface Gaps {
  readonly udp: number;
  readonly icmp: number;
  readonly tcp: number;
}

export interface Ended {
  /** Connections that got back every byte they sent, and how many bytes that is. */
  readonly completed: number;
  readonly bytes: number;
  /** Of the paced UDP socket. */
  readonly datagrams: number;
  readonly lost: number;
  readonly twice: number;
}

type Line = Partial<Ended> & { tcp?: number[]; udp?: number[]; latest?: number };

/** A conversation that goes on until it is told to end. */
class Conversation {
  readonly child: ChildProcess;
  last: Line = {};
  stderr = "";

  constructor(lab: Lab, args: readonly string[], heard: (line: Line) => void) {
    this.child = lab.spawn("client", process.execPath, [HOST_CLIENT, ...args], { stdio: ["pipe", "pipe", "pipe"] });
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    onLines(this.child, (line) => {
      this.last = JSON.parse(line) as Line;
      heard(this.last);
    });
  }

  async end(): Promise<Line> {
    const ended = this.child.exitCode === null ? once(this.child, "close") : undefined;
    this.child.stdin!.end();
    await ended;
    if (this.child.exitCode !== 0) throw new Error(`a conversation broke: ${this.stderr}`);
    return this.last;
  }
}

function onLines(child: ChildProcess, heard: (line: string) => void): void {
  let rest = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) heard(line);
  });
}

export class Talk {
  readonly #paced: Conversation;
  readonly #steady: Conversation;
  readonly #ping: ChildProcess;
  /** When something arrived, ms of the wall clock. */
  readonly #arrivals = { udp: [] as number[], icmp: [] as number[], tcp: [] as number[] };
  /** The last arrival of the connection that is furthest behind. */
  #latest = 0;

  private constructor(lab: Lab, connections: number) {
    const { udp, icmp, tcp } = this.#arrivals;
    this.#paced = new Conversation(lab, ["paced", lab.server, "7000", "7002"], (line) => {
      tcp.push(...(line.tcp ?? []));
      udp.push(...(line.udp ?? []));
    });
    this.#steady = new Conversation(lab, ["steady", lab.server, "7000", String(connections), "500"], ({ latest }) => {
      this.#latest = latest ?? this.#latest;
    });
    this.#ping = lab.spawn("client", "stdbuf", ["-oL", "ping", "-D", "-i", "0.005", lab.server]);
    onLines(this.#ping, (line) => {
      const [, seconds] = /^\[([\d.]+)\] \d+ bytes from/.exec(line) ?? [];
      if (seconds !== undefined) icmp.push(Number(seconds) * 1000);
    });
  }

  /** Resolves when everything has been answered for the first time. */
  static async start(lab: Lab, connections: number): Promise<Talk> {
    // TCP's own timer waits 200 ms at least and doubles from there: that would be measured, and not the routers.
    for (const host of ["client", "server"])
      await lab.run(
        host,
        "sh",
        "-c",
        `ip -${lab.family} route change $(ip -${lab.family} route show default) rto_min 20ms`,
      );
    const talk = new Talk(lab, connections);
    const begun = Date.now();
    await talk.#until("the hosts talk", () => {
      const { udp, icmp, tcp } = talk.#arrivals;
      return udp.length > 0 && icmp.length > 0 && tcp.length > 0 && talk.#latest > begun;
    });
    return talk;
  }

  /** The longest gaps from one time to another; what lasts until the end counts. */
  gaps(fromMs: number, toMs: number): Gaps {
    const { udp, icmp, tcp } = this.#arrivals;
    return { udp: longest(udp, fromMs, toMs), icmp: longest(icmp, fromMs, toMs), tcp: longest(tcp, fromMs, toMs) };
  }

  /** Wait until each of the connections has got something after this time. Returns how much later that was. */
  async goesOnAfter(ms: number): Promise<number> {
    await this.#until("every connection goes on", () => this.#latest > ms);
    return this.#latest - ms;
  }

  /** Close all of it. Throws if a connection broke, or a byte did not come back. */
  async end(): Promise<Ended> {
    this.#ping.kill("SIGINT");
    const [steady, paced] = await Promise.all([this.#steady.end(), this.#paced.end()]);
    return { ...paced, ...steady } as Ended;
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    for (const deadline = Date.now() + WAIT_MS_MAX; !holds(); await sleep(20)) {
      for (const { child, stderr } of [this.#paced, this.#steady])
        if (child.exitCode !== null) throw new Error(`a conversation broke before ${what}: ${stderr}`);
      if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    }
  }
}

function longest(arrivals: readonly number[], fromMs: number, toMs: number): number {
  let gap = 0;
  let before = fromMs;
  for (const at of arrivals) {
    if (at < fromMs || at > toMs) continue;
    gap = Math.max(gap, at - before);
    before = at;
  }
  return Math.round(Math.max(gap, toMs - before));
}

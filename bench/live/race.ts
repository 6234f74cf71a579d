// Contenders take turns in rounds; a figure has one sample a round, and a ratio is taken within each round. A contender
// that cannot be started, or fails, is named on standard error and has no figures at all.

import { type ChildProcess, execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { print } from "../harness.ts";
import { Namespaces, stop } from "../namespaces.ts";
import { type Blast, Chain, ROUTER_CPU } from "./chain.ts";
import { type Contender, compile, contenders, Unavailable } from "./contenders.ts";
import { processesUs, softirqUs } from "./meters.ts";
import { tunnels } from "./tunnels.ts";

const ROUNDS = 3;
/**
 * Opens every session that a blast will use. Between two routers each needs six packets for the metadata handshake, for
 * nobody answers: from the fifth on the far router generates one that carries its own metadata back.
 */
const WARM_UP: Record<1 | 2, Blast> = {
  1: { sessions: 4096, lengths: [60], rate: 20_000, milliseconds: 300 },
  2: { sessions: 4096, lengths: [60], rate: 40_000, milliseconds: 700 },
};
const WARM_UPS = 20;

/** What is not the same in every race. */
export interface Course {
  /** Between two routers. */
  readonly wires?: 1 | 2;
  readonly rounds?: number;
  readonly warmUp?: Blast;
  /** Whether what forwards begins on a processor of its own. */
  readonly pinned?: boolean;
}

/** What a figure is about. */
export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** The traffic: first part of the figure's mode. */
  readonly traffic: string;
}

export class Race {
  readonly chain: Chain;
  readonly #section: string;
  readonly #warmUp: Blast;
  readonly #rounds: number;
  readonly #pinned: boolean;
  readonly #namespaces: Namespaces;
  /** Who is still in it. */
  readonly #contenders: Map<string, Contender>;
  /** By contender, then by measure. */
  readonly #samples = new Map<string, Map<string, { measure: Measure; values: number[] }>>();

  /** `names`: of the contenders that take part. */
  constructor(section: string, routers: 1 | 2, names: readonly string[], course: Course = {}) {
    const { wires = 1, rounds = ROUNDS, warmUp = WARM_UP[routers], pinned = true } = course;
    this.#section = section;
    this.#warmUp = warmUp;
    this.#rounds = rounds;
    this.#pinned = pinned;
    this.#namespaces = new Namespaces();
    const { directory } = this.#namespaces;
    this.chain = new Chain(this.#namespaces, routers, compile(directory, "blast")!, wires);
    const all = [...contenders(directory), ...tunnels(directory)].filter(({ name }) => names.includes(name));
    this.#contenders = new Map(all.map((contender) => [contender.name, contender]));
  }

  /**
   * Let each contender have its turn in each round. `turn` is called when it forwards; who ends one of the children and
   * starts another puts that in its place.
   */
  async run(turn: (contender: Contender, children: ChildProcess[], round: number) => Promise<void>) {
    for (let round = 0; round < this.#rounds; round++) {
      for (const contender of [...this.#contenders.values()]) {
        const children: ChildProcess[] = [];
        this.chain.reset();
        try {
          await this.#start(contender, children);
          await turn(contender, children, round);
        } catch (error) {
          this.#leave(contender, error as Error);
        } finally {
          for (const child of children) await stop(child);
        }
      }
    }
  }

  /** One sample. Call at most once a round for each contender and measure. */
  add({ name }: Contender, measure: Measure, value: number): void {
    if (!this.#samples.has(name)) this.#samples.set(name, new Map());
    const measures = this.#samples.get(name)!;
    const key = `${measure.name} ${measure.traffic}`;
    if (!measures.has(key)) measures.set(key, { measure, values: [] });
    measures.get(key)!.values.push(value);
  }

  /** Send UDP and record what arrives, what is lost, and processor time a delivered frame. */
  async blast(contender: Contender, children: readonly ChildProcess[], traffic: string, blast: Blast): Promise<void> {
    const [processes, softirq] = [processesUs(children), softirqUs()];
    const { sent, delivered, rate, machineUs } = await this.chain.blast(blast);
    const add = (name: string, unit: string, value: number) => this.add(contender, { name, unit, traffic }, value);
    add("delivered", "kframe/s", rate / 1000);
    add("loss", "%", 100 * (1 - delivered / sent));
    add("machine-cpu", "us/frame", machineUs / delivered);
    if (children.length > 0) add("cpu", "us/frame", (processesUs(children) - processes) / delivered);
    if (contender.inKernel && blast.rate === 0) {
      // Proof that steering took effect: where the machine's softirqs ran.
      const times = softirqUs().map((us, cpu) => us - softirq[cpu]);
      const all = times.reduce((sum, us) => sum + us, 0);
      add("softirq-on-router-cpu", "%", (100 * times[ROUTER_CPU]) / all);
    }
  }

  /** Forwarding has the second processor to itself, the generator the first; or everything runs anywhere. */
  pin(contender: Contender, children: readonly ChildProcess[], pinned: boolean): void {
    const list = pinned ? String(ROUTER_CPU) : `0-${cpus().length - 1}`;
    for (const { pid } of children) execFileSync("taskset", ["-a", "-c", "-p", list, String(pid)], { stdio: "ignore" });
    this.chain.steer(pinned && contender.inKernel ? ROUTER_CPU : null);
  }

  /** Print every figure, contenders in the order they ran. `note` has something to add to a figure's mode. */
  print(note: (values: readonly number[]) => string = () => ""): void {
    for (const [name, measures] of this.#samples) {
      const { mode } = this.#contenders.get(name)!;
      for (const { measure, values } of measures.values()) {
        printFinite(
          `${this.#section}.${name}.${measure.name}`,
          measure.unit,
          `${measure.traffic}; ${mode}${note(values)}`,
          values,
        );
      }
    }
  }

  /** Print how many times their figure ours is, by rounds. Nothing when one of the two has no such figure. */
  ratio(ours: string, theirs: string, name: string, traffic: string): void {
    const key = `${name} ${traffic}`;
    const [mine, other] = [ours, theirs].map((contender) => this.#samples.get(contender)?.get(key)?.values);
    if (mine === undefined || other === undefined) return;
    const [mode, otherMode] = [ours, theirs].map((contender) => this.#contenders.get(contender)!.mode);
    printFinite(
      `${this.#section}.${ours}-to-${theirs}.${name}`,
      "ratio",
      `${traffic}; ${mode} / ${otherMode}`,
      mine.map((value, round) => value / other[round]),
    );
  }

  /** The same beside whichever of them was the best in that round; `best` is what the figure calls them. */
  ratioToBest(ours: string, theirs: readonly string[], best: string, name: string, traffic: string): void {
    const key = `${name} ${traffic}`;
    const samplesOf = (contender: string) => this.#samples.get(contender)?.get(key)?.values;
    const mine = samplesOf(ours);
    const others = theirs.filter((contender) => samplesOf(contender) !== undefined);
    if (mine === undefined || others.length === 0) return;
    printFinite(
      `${this.#section}.${ours}-to-${best}.${name}`,
      "ratio",
      `${traffic}; ${this.#contenders.get(ours)!.mode} / the best of ${others.join(", ")}`,
      mine.map((value, round) => value / Math.max(...others.map((contender) => samplesOf(contender)![round]))),
    );
  }

  async close(): Promise<void> {
    this.chain.close();
    await this.#namespaces.close();
  }

  async #start(contender: Contender, children: ChildProcess[]): Promise<void> {
    await contender.start(this.chain, children);
    this.pin(contender, children, this.#pinned);
    for (let tries = 0; (await this.chain.blast(this.#warmUp)).delivered === 0; tries++) {
      if (tries === WARM_UPS) throw new Error("nothing arrives");
    }
  }

  /** It has no figures: some rounds of it beside all rounds of others would mean nothing. */
  #leave(contender: Contender, error: Error): void {
    console.error(`${this.#section}.${contender.name}: left out: ${error.message}`);
    if (!(error instanceof Unavailable)) process.exitCode = 1;
    this.#contenders.delete(contender.name);
    this.#samples.delete(contender.name);
  }
}

/** Not a figure: processor time a frame, or a ratio, of a round in which nothing was delivered. */
function printFinite(name: string, unit: string, mode: string, values: readonly number[]): void {
  if (values.every(Number.isFinite)) print(name, unit, mode, values);
  else console.error(`${name}: no figure, nothing was delivered in a round: ${mode}`);
}

/** What a live bench is: root only, everything removed at its end. */
export async function live(
  section: string,
  routers: 1 | 2,
  names: readonly string[],
  run: (race: Race) => Promise<void>,
  course: Course = {},
): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.error(`${section}: skipped, needs root`);
    return;
  }
  const race = new Race(section, routers, names, course);
  try {
    await run(race);
  } finally {
    await race.close();
  }
}

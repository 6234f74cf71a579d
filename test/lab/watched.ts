// What lab tests of watched paths share: how fast BFD is, what routers say, and waiting for paths.

import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { askRouter } from "../../lib/control/admin-socket.ts";
import type {
  CountersAnswer,
  EventsAnswer,
  PathsAnswer,
  SessionsAnswer,
  ShowResource,
} from "../../lib/control/show.ts";
import type { Lab } from "./lab.ts";

const UP_MS_MAX = 180_000;
/** How often a scene is played at most that a busy machine may have spoilt. */
export const ATTEMPTS = 3;
/** A packet whose signature is two seconds old is refused; this process may have stood still a little shorter than a router. */
const STILL_MS = 1_500;

export interface Timing {
  readonly intervalMs: number;
  readonly multiplier: number;
}
/** Detection after 150 ms. */
export const FAST: Timing = { intervalMs: 50, multiplier: 3 };

/** The line of a router's configuration. */
export function bfdText({ intervalMs, multiplier }: Timing): string {
  return `bfd: { desired-tx-interval: ${intervalMs}ms, required-min-rx-interval: ${intervalMs}ms, multiplier: ${multiplier}, hold-down: 200ms }`;
}

/** What `waymark show` asks a router for. A router of a busy machine may not get to it in time: asked once more. */
export async function shown<T>(lab: Lab, router: string, what: ShowResource): Promise<T> {
  const ask = () => askRouter(lab.router(router).socketPath, what);
  return (await ask().catch(ask)) as T;
}

export type Path = PathsAnswer["paths"][number];
export type Event = EventsAnswer["events"][number];

export async function pathsOf(lab: Lab, router: string): Promise<readonly Path[]> {
  return (await shown<PathsAnswer>(lab, router, "paths")).paths;
}

/** The latest first. */
export async function eventsOf(lab: Lab, router: string): Promise<readonly Event[]> {
  return (await shown<EventsAnswer>(lab, router, "events")).events;
}

/** Of a router's sessions, of one protocol if it is named. */
export async function uuidsOf(lab: Lab, router: string, only?: string): Promise<string[]> {
  const { sessions } = await shown<SessionsAnswer>(lab, router, "sessions");
  return sessions
    .filter(({ protocol }) => only === undefined || protocol === only)
    .map(({ uuid }) => uuid)
    .sort();
}

/** A router has seen one of its paths go down. */
export async function sawPathDown(lab: Lab): Promise<boolean> {
  const events = await Promise.all(lab.routers.map(({ name }) => eventsOf(lab, name)));
  return events.flat().some(({ kind }) => kind === "path-down");
}

/** Wait until every path of every router is up. */
export async function pathsUp(lab: Lab): Promise<void> {
  await until("every path is up", async () => {
    const paths = await Promise.all(lab.routers.map(({ name }) => pathsOf(lab, name)));
    return paths.flat().every(({ state }) => state === "up") ? undefined : JSON.stringify(paths);
  });
}

/** Frames that each router's capture rings had no room for: of a router that gets no processor for half a second. */
export async function ringDrops(lab: Lab): Promise<number[]> {
  return await Promise.all(
    lab.routers.map(async ({ name }) => {
      const counters = Object.entries(await shown<CountersAnswer>(lab, name, "counters"));
      return counters.reduce((sum, [of, n]) => sum + (/^interface\..*\.rx-kernel-drops$/.test(of) ? n : 0), 0);
    }),
  );
}

/** Datagrams that a host's own sockets had no room for. */
export async function socketDrops(lab: Lab, host: "client" | "server"): Promise<number> {
  const { stdout } = await lab.run(host, "cat", "/proc/net/snmp", "/proc/net/snmp6");
  const [names, values] = stdout.split("\n").filter((line) => line.startsWith("Udp:"));
  const six = /^Udp6RcvbufErrors\s+(\d+)/m.exec(stdout)?.[1] ?? 0;
  return Number(values.split(" ")[names.split(" ").indexOf("RcvbufErrors")]) + Number(six);
}

/** Wait until `wrong` returns undefined. Throws with what it returned last. */
export async function until(
  what: string,
  wrong: () => Promise<string | undefined>,
  msMax: number = UP_MS_MAX,
): Promise<void> {
  for (const deadline = Date.now() + msMax; ; await sleep(50)) {
    const still = await wrong();
    if (still === undefined) return;
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}: ${still}`);
  }
}

/**
 * A longest pause by the wall clock, of a machine that may be busy with other things: tried up to three times until one is
 * short enough. Returns the shortest; all are logged. What else a try must show it asks for itself, each time.
 */
export async function shortestPause(t: ExecutionContext, msMax: number, take: () => Promise<number>): Promise<number> {
  const pauses: number[] = [];
  do pauses.push(await take());
  while (Math.min(...pauses) >= msMax && pauses.length < ATTEMPTS);
  t.log(`longest pause ${pauses.join(" ms, again: ")} ms`);
  return Math.min(...pauses);
}

/**
 * Play a lab whose packets are signed. `play` returns what routers refused as too old, or "": where this process stood still
 * meanwhile, the routers may have too, and the lab is played again, three times in all.
 */
export async function despitePauses(t: ExecutionContext, play: () => Promise<string>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const stoodStill = watchPauses();
    const late = await play();
    const ms = stoodStill();
    if (late === "") return;
    const said = `${late}; this process stood still for ${ms} ms`;
    if (attempt === ATTEMPTS || ms < STILL_MS) return t.fail(said);
    t.log(`again: ${said}`);
  }
}

/** Look at the clock again and again until the function that is returned is called; it returns for how long this process stood still, ms. */
function watchPauses(): () => number {
  let at = Date.now();
  let longest = 0;
  const look = () => {
    longest = Math.max(longest, Date.now() - at);
    at = Date.now();
    return longest;
  };
  const timer = setInterval(look, 50);
  timer.unref();
  return () => {
    clearInterval(timer);
    return look();
  };
}

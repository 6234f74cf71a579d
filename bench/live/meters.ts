// What the live benches read besides counters of frames: processor time, from /proc. The kernel here charges the time
// of softirqs to whatever process they interrupt, and to `softirq` of /proc/stat by what the clock tick finds.

import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cpuUs } from "../namespaces.ts";

/** Microseconds of a field of /proc/stat (USER_HZ is fixed at 100). */
const TICK_US = 10_000;

/** Field of /proc/PID/stat behind the name, proc(5). */
const NICENESS = 16;
const REALTIME = 37;

/** Fields of a `cpu` line of /proc/stat, proc(5). */
const USER = 0;
const NICE = 1;
const SYSTEM = 2;
const IRQ = 5;
const SOFTIRQ = 6;

function processors(): number[][] {
  const lines = readFileSync("/proc/stat", "utf8").split("\n");
  return lines.filter((line) => /^cpu\d/.test(line)).map((line) => line.split(" ").slice(1).map(Number));
}

/**
 * Processor time of the whole machine, all processors, in microseconds: everything that was not idle (user, nice,
 * system, irq, softirq), whoever used it. Time that the hypervisor gave to others (steal) is not in it.
 */
export function machineUs(): number {
  let ticks = 0;
  for (const times of processors()) ticks += times[USER] + times[NICE] + times[SYSTEM] + times[IRQ] + times[SOFTIRQ];
  return ticks * TICK_US;
}

/** Softirq time of each processor, microseconds. */
export function softirqUs(): number[] {
  return processors().map((times) => times[SOFTIRQ] * TICK_US);
}

/** Processor time of these processes, all threads, in microseconds. */
export function processesUs(children: readonly ChildProcess[]): number {
  return children.reduce((sum, child) => sum + cpuUs(child), 0);
}

/** The same for one process to the nanosecond, of threads that are still alive: for what hardly runs. */
export function threadsUs(child: ChildProcess): number {
  const tasks = `/proc/${child.pid}/task`;
  let ns = 0;
  for (const task of readdirSync(tasks)) ns += Number(readFileSync(`${tasks}/${task}/schedstat`, "utf8").split(" ")[0]);
  return ns / 1000;
}

/** Processor time of a router's path monitor: the thread that has put itself before the others. Microseconds. */
export function monitorUs({ pid }: ChildProcess): number {
  const tasks = `/proc/${pid}/task`;
  let ns = 0;
  for (const task of readdirSync(tasks)) {
    const fields = readFileSync(`${tasks}/${task}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    if (Number(fields[NICENESS]) < 0 || Number(fields[REALTIME]) > 0)
      ns += Number(readFileSync(`${tasks}/${task}/schedstat`, "utf8").split(" ")[0]);
  }
  return ns / 1000;
}

// A router on live devices: started and ended, taken over from, its threads; what is put back, and in which order.

import { getPriority, setPriority } from "node:os";
import type { Duplex } from "node:stream";
import { parentPort, workerData } from "node:worker_threads";
import { putCompilerBehind } from "./base/compiler.ts";
import { createLog, type Log } from "./base/log.ts";
import { SystemRandom } from "./base/random.ts";
import { StateReader, StateWriter } from "./base/state.ts";
import { AdminSocket, type Answer } from "./control/admin-socket.ts";
import { type KeyRotation, rotateKeys } from "./control/compile-security.ts";
import type { Config, SecurityPolicyConfig } from "./control/config.ts";
import { lockDevices } from "./control/device-lock.ts";
import { explainLive } from "./control/explain-live.ts";
import { buildGuard, installGuard, removeGuard } from "./control/kernel-guard.ts";
import { OperatorError } from "./control/operator-error.ts";
import type { Router } from "./control/router-parts.ts";
import { configIdentity } from "./control/router-state.ts";
import { answer } from "./control/snapshot.ts";
import { HandsOver, lockSoon, notTakenOver, TAKE_OVER, TakesOver, Talk } from "./control/take-over.ts";
import { warmUp } from "./control/warm-up.ts";
import { lookAtClocks, lookAtPorts, watch } from "./control/watch.ts";
import { pace } from "./engine/pace.ts";
import { logOutput } from "./io/log-output.ts";
import { native } from "./io/native.ts";
import { NativeClock } from "./io/native-clock.ts";
import type { DevicePort, Port } from "./io/port.ts";
import { Advertiser } from "./ipv6/advertiser.ts";
import { listenedGroups } from "./ipv6/groups.ts";
import { Ipv6Port } from "./ipv6/ipv6-port.ts";
import { Listener, TICK_MS } from "./ipv6/listener.ts";
import type { FromMonitor, MonitorStart, ToMonitor } from "./monitor/messages.ts";
import type { PathReport } from "./monitor/path-report.ts";
import { buildRouter, inOwnForm, liveMeans, openLivePort, openWatch, ownAddresses, wiredPorts } from "./router.ts";
import { addressBook } from "./table/address-book.ts";
import { FrameRing } from "./table/frame-ring.ts";
import { answerQuestions, Member } from "./worker/member.ts";
import type { WorkerStart } from "./worker/messages.ts";
import { type Heard, MonitorThread } from "./worker/monitor-thread.ts";
import { WorkerPool } from "./worker/pool.ts";
import { shareOf } from "./worker/share.ts";

const CAP_NET_ADMIN = 12;
/** Of the monitor's thread, and of a successor until it forwards: ahead of everything ordinary. */
const HIGH_PRIORITY = -15;
/** The least there is: the unit permits one (LimitRTPRIO). */
const REALTIME_PRIORITY = 1;

/**
 * Run the router on live devices until close(). Throws OperatorError, with everything put back, when it cannot start.
 * `takeOver`: from the router that runs now, with its sessions; when that cannot be done it goes on, untouched.
 * `handedOver` resolves when another process has taken over from this one: then close, which leaves everything to it.
 * `router` is null where workers forward. `failed` resolves when one of them has ended of its own accord: then close,
 * which leaves the guard in place, as a crash does.
 */
export async function startRouter(
  config: Config,
  options: { guard: boolean; log: Log; takeOver?: boolean },
): Promise<{
  router: Router | null;
  failed: Promise<Error>;
  handedOver: Promise<void>;
  /** Take up newer versions of the keys, and nothing else, of a configuration read again. What became of it is logged. */
  reloadKeys(config: Config): Promise<void>;
  close(): Promise<void>;
}> {
  const { log } = options;
  let failure: Error | null = null;
  /** Whether what is on the devices, guard and settings, is ours to put back. */
  let isOurs = options.takeOver !== true;
  let before: TakesOver | null = null;
  const priority = getPriority();
  let unlock: (() => void) | null = null;
  const undo: (() => void | Promise<void>)[] = [];
  const fails = (error: Error, what: string) => {
    failure = error;
    log.fatal({ error: error.message }, what);
    return error;
  };
  const failureOf = async (monitor: MonitorThread | null) =>
    fails(await (monitor?.failed ?? new Promise<Error>(() => {})), "the path monitor failed");
  const close = async () => {
    const failures: unknown[] = [];
    for (const step of undo.splice(0).reverse()) {
      // One thing that cannot be put back must not keep the others from it.
      await Promise.resolve()
        .then(step)
        .catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    putCompilerBehind();
    const guard = () => {
      if (options.guard) installGuard(buildGuard(config));
    };
    const lock = async () => {
      unlock ??= await lockDevices(config.interfaces.map(({ device }) => device));
    };
    if (options.takeOver === true) before = await askToTakeOver(config, options.guard);
    else await lock();
    undo.push(() => unlock?.());
    if (options.guard) {
      // Before the first capture, so that the kernel never acts on a frame that is ours.
      guard();
      undo.push(() => {
        if (failure === null && isOurs) removeGuard(config.interfaces.map(({ device }) => device));
      });
    } else {
      log.warn("started without the guard: the kernel's own stack sees and may answer the same frames");
    }
    const interfaces = config.interfaces.map(({ name }) => name);
    if (config.workers > 1) {
      const pool = await WorkerPool.start(config, keptNames(), new URL("./thread.js", import.meta.url), log);
      undo.push(() => pool.close());
      const failed = pool.failed.then((error) => fails(error, "a worker failed"));
      await listen(config, undo, (resource, query) => pool.answer(resource, query));
      const { startUs } = new NativeClock();
      const monitor = await startMonitor(config, startUs, false, undo, {
        reports: (reports) => pool.tellPaths(reports),
        losses: (losses) => pool.tellLosses(losses),
      });
      log.info({ router: config.router, interfaces, workers: config.workers }, "forwarding");
      const reloadKeys = async ({ securityPolicies }: Config) => {
        monitor?.reloadKeys(securityPolicies);
        sayKeys(await pool.reloadKeys(securityPolicies), log);
      };
      const handedOver = new Promise<never>(() => {});
      return { router: null, failed: Promise.race([failed, failureOf(monitor)]), handedOver, reloadKeys, close };
    }
    await warmUp(buildRouter, wiredPorts(config), new NativeClock());
    const clock = new NativeClock(before?.clockStartUs);
    const heard: Heard = { reports: () => {}, losses: () => {} };
    const watchPaths = (waits: boolean) => startMonitor(config, clock.startUs, waits, undo, heard);
    let monitor = before === null ? null : await watchPaths(true);
    await before?.open();
    const ports = config.interfaces.map((item) => {
      const port = openLivePort(config, item, log);
      undo.push(() => (isOurs ? port.close() : port.leave()));
      return port;
    });
    before?.keep(ports);
    // Frames wait from here on.
    if (before !== null) prioritize(HIGH_PRIORITY);
    const own = inOwnForm(config, ports);
    const router = buildRouter(config, own, {
      clock,
      random: new SystemRandom(),
      acceptAnyMac: false,
      monitoring: "elsewhere",
      ...liveMeans(),
    });
    heard.reports = (reports) => takeReports(router, reports, log);
    heard.losses = (losses) => router.monitorLosses.take(losses, clock.nowMs());
    if (before !== null) {
      await before.receive(router, ports);
      await before.confirm(async () => {
        await lockSoon(lock);
        guard();
      });
      isOurs = true;
      before.goOn(router, ports);
      log.info({ from: before.pid, sessions: router.sessions.table.count }, "took over");
    }
    undo.push(pace(router.engine, ports, clock));
    const stopAdvertising = advertise(config, ports, own);
    undo.push(() => stopAdvertising(!isOurs));
    if (before !== null) {
      const state = await before.monitor();
      monitor?.begin(state);
      await lockSoon(lock);
    }
    const hands = new HandsOver(
      {
        router,
        ports,
        clockStartUs: clock.startUs,
        guard: options.guard,
        seed: new SystemRandom().nextI32(),
        giveUp: () => {
          isOurs = false;
          socket.release();
          unlock?.();
        },
        monitor: async () => (await monitor?.leave()) ?? null,
      },
      log,
    );
    const socket = await listen(config, undo, (resource, query) => answerTo(router, resource, query), hands);
    monitor ??= before === null ? await watchPaths(false) : null;
    undo.push(
      watch(
        lookAtPorts(ports, log),
        lookAtClocks(router.sessions.paths, log, () => clock.nowMs()),
        () => router.loops.look(log),
      ),
    );
    log.info({ router: config.router, interfaces }, "forwarding");
    const reloadKeys = async ({ securityPolicies }: Config) => {
      monitor?.reloadKeys(securityPolicies);
      sayKeys(takeKeys(router, securityPolicies), log);
    };
    return { router, failed: failureOf(monitor), handedOver: hands.done, reloadKeys, close };
  } catch (error) {
    await close().catch((second: unknown) => log.error({ error: String(second) }, "not everything was put back"));
    if (before === null || isOurs) throw error;
    throw notTakenOver(config.control.socket, error);
  } finally {
    before?.close();
    if (before !== null) prioritize(priority);
  }
}

/** Of this thread, where the system allows it. */
function prioritize(priority: number): void {
  try {
    setPriority(0, priority);
  } catch {}
}

async function askToTakeOver(config: Config, guard: boolean): Promise<TakesOver> {
  if (config.workers > 1)
    throw new OperatorError("a router with several workers cannot be taken over from: stop it, then start");
  return await TakesOver.ask(config.control.socket, configIdentity(config), guard);
}

/**
 * Give up every privilege but what closing takes: CAP_NET_ADMIN, to remove the guard and put device settings back. Call
 * when everything is open. Where it is not permitted a warning is logged, and the router goes on as it is.
 */
export function dropPrivileges(log: Log): void {
  const left = native().keepCapabilities(2 ** CAP_NET_ADMIN);
  if (left > 0) log.warn({ threads: left }, "some threads have kept all of their capabilities so far");
}

function takeKeys(router: Router, policies: readonly SecurityPolicyConfig[]): KeyRotation {
  return rotateKeys(router.config.securityPolicies, policies, router.securities, router.crypto, router.clock.nowMs());
}

function sayKeys({ rotated, refused }: KeyRotation, log: Log): void {
  for (const { policy, version } of rotated) log.info({ policy, version }, "took up new keys");
  for (const { policy, reason } of refused) log.error({ policy, reason }, "kept the keys");
  if (rotated.length === 0 && refused.length === 0) log.info("no newer keys");
}

function answerTo(router: Router, resource: string, query: URLSearchParams): ReturnType<Answer> {
  return resource === "explain" ? explainLive(router, query) : answer(router, resource);
}

async function listen(
  config: Config,
  undo: (() => void | Promise<void>)[],
  answered: Answer,
  hands?: HandsOver,
): Promise<AdminSocket> {
  const take = (stream: Duplex, head: Uint8Array) => void hands?.serve(new Talk(stream, head));
  const socket = new AdminSocket(config.control.socket, answered, hands && { protocol: TAKE_OVER, take });
  await socket.listen();
  undo.push(() => socket.close());
  return socket;
}

/** A worker thread's whole life (thread.ts): open the ports, join the others, forward, until it is asked to close. */
export function runWorker(): void {
  const start = workerData as WorkerStart;
  const { workers, worker, wakeNext } = start;
  // A configuration's IPv6 addresses are names of the book in which it was read.
  addressBook.restoreKept(new StateReader(start.names));
  const config = shareOf(start.config, workers);
  const log = createLog(start.logLevel, logOutput()).child({ worker });
  const halt = new Int32Array(start.halt);
  // Before the thread's ports close, which changes where frames go: the others must not answer for what is not theirs.
  process.on("uncaughtExceptionMonitor", () => Atomics.store(halt, 0, 1));
  const ports: DevicePort[] = [];
  let member: Member | null = null;
  let router: Router | null = null;
  let stopWatching = () => {};
  const open = async (groups: readonly number[] | null): Promise<number[]> => {
    await warmUp(buildRouter, wiredPorts(config), new NativeClock());
    for (const item of config.interfaces) ports.push(openLivePort(config, item, log));
    const clock = new NativeClock();
    const share = {
      worker,
      workers,
      inbound: new FrameRing(start.inbound),
      outbound: new FrameRing(start.outbound),
      wakeNext: () => wakeNext.postMessage(null),
    };
    const random = new SystemRandom();
    const own = inOwnForm(config, ports, workers);
    router = buildRouter(config, own, {
      clock,
      random,
      acceptAnyMac: false,
      monitoring: "elsewhere",
      share,
      ...liveMeans(),
    });
    // The kernel gives the first worker what hosts ask their routers.
    const begin = worker === 0 ? () => advertise(config, ports, own) : () => () => {};
    member = new Member({ router, strays: router.strays!, ports, clock, wake: start.wake, halt, begin });
    // What is true of a device, every worker would say.
    const looks = worker === 0 ? [lookAtPorts(ports, log)] : [];
    const { loops } = router;
    stopWatching = watch(
      ...looks,
      lookAtClocks(router.sessions.paths, log, () => clock.nowMs()),
      () => loops.look(log),
    );
    return member.join(groups);
  };
  answerQuestions(parentPort!, (question) => {
    if (question.ask === "open") return open(question.groups);
    if (question.ask === "start") return member!.start();
    if (question.ask === "reload-keys") return takeKeys(router!, question.policies);
    if (question.ask === "paths") return takeReports(router!, question.reports, worker === 0 ? log : null);
    if (question.ask === "losses") return router!.monitorLosses.take(question.losses, router!.clock.nowMs());
    if (question.ask !== "close") return member!.answer(question);
    stopWatching();
    if (member === null) for (const port of ports) port.close();
    else member.close();
    start.wake.close();
    return null;
  });
}

function takeReports(router: Router, reports: readonly PathReport[], log: Log | null): void {
  for (const report of reports) router.reports.apply(report, router.clock.nowMs(), log);
}

/** Where some path is to be watched, the thread that does. It ends before the ports that forward are closed. */
async function startMonitor(
  config: Config,
  clockStartUs: number,
  waits: boolean,
  undo: (() => void | Promise<void>)[],
  heard: Heard,
): Promise<MonitorThread | null> {
  if (!config.peers.some(({ paths }) => paths.some(({ bfd }) => bfd.enabled))) return null;
  const start = { role: "monitor", config, clockStartUs, waits, names: keptNames() } as const;
  const monitor = await MonitorThread.start(start, new URL("./thread.js", import.meta.url), heard);
  undo.push(() => monitor.close());
  return monitor;
}

/** The names in a configuration that was read in this thread: with them another one's book begins. */
function keptNames(): Uint8Array {
  const names = new StateWriter();
  addressBook.saveKept(names);
  return names.finish();
}

/** The path monitor's thread: ports of its own, a BFD session a path, until it is told to end. */
export function runMonitor(): void {
  const { config, clockStartUs, waits, names } = workerData as MonitorStart<Config>;
  addressBook.restoreKept(new StateReader(names));
  const parent = parentPort!;
  const say = (said: FromMonitor) => parent.postMessage(said);
  // Before whatever forwards.
  if (!native().runFirst(REALTIME_PRIORITY)) prioritize(HIGH_PRIORITY);
  try {
    const watch = openWatch(config, new NativeClock(clockStartUs), say);
    if (!waits) watch.begin(null);
    parent.on("message", (told: ToMonitor<SecurityPolicyConfig>) => {
      if ("policies" in told) return watch.reloadKeys(told.policies);
      if ("begin" in told) return watch.begin(told.begin);
      if ("leave" in told) say({ left: watch.leave() });
      watch.close();
      parent.close();
    });
    say({ ready: true });
  } catch (error) {
    const isOperators = error instanceof OperatorError;
    say({ refused: (isOperators ? error.message : (error as Error).stack) ?? String(error), isOperators });
  }
}

/**
 * Tell each IPv6 link what the router listens to, and its hosts who routes where the configuration says so, until the
 * returned function is called: `silent` = another goes on with it.
 */
function advertise(config: Config, devices: readonly DevicePort[], ports: readonly Port[]): (silent: boolean) => void {
  const speakers = config.interfaces.flatMap((item, row) => {
    const port = ports[row];
    if (!(port instanceof Ipv6Port)) return [];
    const device = devices[row];
    const { routerAdvertisements: advertises, addresses, kernel } = item;
    const mac = advertises ? device.info().mac : null;
    const groups = listenedGroups(ownAddresses(config, item), addressBook, mac);
    const random = new SystemRandom();
    port.listener = new Listener(device, groups, random, kernel === "exclusive");
    if (!advertises) return [port.listener];
    port.advertiser = new Advertiser(device, addressBook, addresses, random);
    return [port.listener, port.advertiser];
  });
  if (speakers.length === 0) return () => {};
  const tick = () => {
    for (const one of speakers) one.tick(performance.now());
  };
  tick();
  const timer = setInterval(tick, TICK_MS);
  return (silent) => {
    clearInterval(timer);
    if (!silent) for (const one of speakers) one.end(performance.now());
  };
}

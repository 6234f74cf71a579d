// The composition root: the only file that names concrete parts. A router is the same engine over different ports: live
// devices (`startRouter`), capture files (`replayCaptures`), memory (`explainPacket`, tests). A second I/O backend is
// one line here.

import { mkdirSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { parentPort, workerData } from "node:worker_threads";
import { type Clock, ManualClock } from "./base/clock.ts";
import { putCompilerBehind, tuneCompiler } from "./base/compiler.ts";
import { createLog, type Log } from "./base/log.ts";
import { type RandomSource, SeededRandom, SystemRandom } from "./base/random.ts";
import { StateReader, StateWriter } from "./base/state.ts";
import { AdminSocket, type Answer } from "./control/admin-socket.ts";
import { compileInterfaces, compileMirror, compilePaths, compilePolicy, natAddressesOn } from "./control/compile.ts";
import {
  compileSecurity,
  type KeyRotation,
  mayHaveSessionKeys,
  restoreSecurities,
  rotateKeys,
  saveSecurities,
} from "./control/compile-security.ts";
import type { Config, InterfaceConfig, SecurityPolicyConfig } from "./control/config.ts";
import { lockDevices } from "./control/device-lock.ts";
import { Events } from "./control/events.ts";
import { type Explanation, explain } from "./control/explain.ts";
import { explainLive } from "./control/explain-live.ts";
import { buildGuard, installGuard, removeGuard } from "./control/kernel-guard.ts";
import { Loops } from "./control/loops.ts";
import { readCounters } from "./control/metrics.ts";
import { OperatorError } from "./control/operator-error.ts";
import type { PacketDescription } from "./control/packet-text.ts";
import { PathReports } from "./control/path-reports.ts";
import type { Router } from "./control/router-parts.ts";
import { configIdentity } from "./control/router-state.ts";
import { answer } from "./control/snapshot.ts";
import { HandsOver, lockSoon, notTakenOver, TAKE_OVER, TakesOver, Talk } from "./control/take-over.ts";
import { warmUp } from "./control/warm-up.ts";
import { lookAtClocks, lookAtPorts, watch } from "./control/watch.ts";
import { nativeCrypto } from "./crypto/native-crypto.ts";
import { nodeCrypto } from "./crypto/node-crypto.ts";
import { KEY_STRIDE, type PacketCrypto } from "./crypto/packet-crypto.ts";
import { ANSWERS_WITHHELD, COUNTERS, countVerdict } from "./engine/counters.ts";
import { Egress } from "./engine/egress.ts";
import { Engine } from "./engine/engine.ts";
import { FABRIC_PAYLOAD_MAX, FabricFragments } from "./engine/fabric-fragments.ts";
import { FastPath } from "./engine/fast-path.ts";
import { Generator } from "./engine/generate.ts";
import { InbandMetrics } from "./engine/inband-metrics.ts";
import { IpFragments } from "./engine/ip-fragments.ts";
import { Outcomes } from "./engine/outcomes.ts";
import { pace } from "./engine/pace.ts";
import { PacketSecurity } from "./engine/packet-security.ts";
import { PayloadSecurity } from "./engine/payload-security.ts";
import { Resolver } from "./engine/resolver.ts";
import { Retrigger } from "./engine/retrigger.ts";
import { SecurePath } from "./engine/secure-path.ts";
import { Signals } from "./engine/signals.ts";
import { SlowPath } from "./engine/slow-path.ts";
import { Strays } from "./engine/strays.ts";
import { Tunnel } from "./engine/tunnel.ts";
import { TxQueue } from "./engine/tx-queue.ts";
import { AfPacketPort } from "./io/afpacket-port.ts";
import { AnsweringPort } from "./io/answering-port.ts";
import { type DevicePortOptions, openWire } from "./io/device-port.ts";
import { LivePort } from "./io/live-port.ts";
import { MemoryPort } from "./io/memory-port.ts";
import { native, tableMemory } from "./io/native.ts";
import { NativeClock } from "./io/native-clock.ts";
import type { DevicePort, Port } from "./io/port.ts";
import { ReplayPort, startTogether } from "./io/replay-port.ts";
import { Advertiser } from "./ipv6/advertiser.ts";
import { groupsOf, listenedGroups } from "./ipv6/groups.ts";
import { Ipv6Port } from "./ipv6/ipv6-port.ts";
import { Listener, TICK_MS } from "./ipv6/listener.ts";
import { ParameterProblems } from "./ipv6/parameter-problems.ts";
import type { FromMonitor, MonitorStart, ToMonitor } from "./monitor/messages.ts";
import { Monitor } from "./monitor/monitor.ts";
import type { PathReport } from "./monitor/path-report.ts";
import { keepWatch, WATCHED_FRAMES, WATCHED_FRAMES_IPV6 } from "./monitor/watchman.ts";
import type { BfdIdentity } from "./peer/bfd-session.ts";
import { InlineMetrics } from "./peer/inline-metrics.ts";
import { NeighborTable } from "./peer/neighbor.ts";
import type { RouterInterface } from "./peer/router-interface.ts";
import { Duplication } from "./session/duplication.ts";
import { Sessions } from "./session/open.ts";
import { PathChoice } from "./session/path-choice.ts";
import type { Policy } from "./session/policy.ts";
import { Reroute } from "./session/reroute.ts";
import { SessionMetadata } from "./session/session-metadata.ts";
import { SourceNat } from "./session/source-nat.ts";
import { addressBook, isName } from "./table/address-book.ts";
import { CounterSet } from "./table/counter-set.ts";
import { DropSamples } from "./table/drop-samples.ts";
import { DuplicateTable } from "./table/duplicate-table.ts";
import { FlowTable } from "./table/flow-table.ts";
import { FragmentTable } from "./table/fragment-table.ts";
import { FrameRing } from "./table/frame-ring.ts";
import { HoldQueue } from "./table/hold-queue.ts";
import { NatTable } from "./table/nat-table.ts";
import { SessionTable } from "./table/session-table.ts";
import { TimerWheel } from "./table/timer-wheel.ts";
import { ETHERNET_HEADER } from "./wire/flow-key.ts";
import { MetadataWriter } from "./wire/metadata.ts";
import { DROP_REASONS } from "./wire/verdict.ts";
import { answerQuestions, Member } from "./worker/member.ts";
import type { WorkerStart } from "./worker/messages.ts";
import { MonitorThread } from "./worker/monitor-thread.ts";
import { WorkerPool } from "./worker/pool.ts";
import { shareOf } from "./worker/share.ts";

export type { Router } from "./control/router-parts.ts";

tuneCompiler();

/** Of routers on live ports. */
const live = () => ({ crypto: nativeCrypto(native()), wallMs: Date.now });
const CAP_NET_ADMIN = 12;
/** Of the monitor's thread, and of a successor until it forwards: ahead of everything ordinary. */
const HIGH_PRIORITY = -15;
/** The least there is: the unit permits one (LimitRTPRIO). */
const REALTIME_PRIORITY = 1;
/** Frames that the monitor takes and makes are few, and short but for MTU probes. */
const WATCHED_BYTES = 2048;
const WATCHED_RING_FRAMES = 512;
/** RFC 791, 3.2. */
const IP_FRAGMENTS_MS = 15_000;
/** Frames a port hands over per turn. */
const BATCH_FRAMES = 128;
/** Room for every attribute with the longest names. */
const METADATA_BYTES = 704;

/** One worker's share of a router: which it is, of how many, and its way to the next one. */
export interface WorkerShare {
  readonly worker: number;
  readonly workers: number;
  readonly inbound: FrameRing;
  readonly outbound: FrameRing;
  readonly wakeNext: () => void;
}

/** Build a router over open ports, devicePorts[i] for config.interfaces[i]. Nothing runs until the engine is turned. */
export function buildRouter(
  config: Config,
  devicePorts: readonly Port[],
  options: {
    clock: Clock;
    random: RandomSource;
    acceptAnyMac: boolean;
    share?: WorkerShare;
    /** Who watches the paths that are to be watched: this engine itself, another thread, or nobody: then they are up. */
    monitoring?: "inside" | "elsewhere" | "none";
    /** What another monitor inside has saved, which this one goes on with. */
    monitorState?: Uint8Array;
    /** What signs and encrypts; left out = the plain one, slow. */
    crypto?: PacketCrypto;
    /** Milliseconds since 1970: what time-based digests go by. Left out = the clock's. */
    wallMs?: () => number;
  },
): Router {
  const { clock, random, share, crypto = nodeCrypto, wallMs = () => clock.nowMs() } = options;
  const securities = compileSecurity(config.securityPolicies, crypto, clock.nowMs());
  const { limits } = config;
  addressBook.limit = limits.ipv6Addresses;
  const devices = compileInterfaces(
    config,
    devicePorts.map((port) => port.info()),
    options.acceptAnyMac,
  );
  const mirror = compileMirror(config, devices);
  const interfaces = mirror === null ? devices : [...devices, mirror];
  const ports = mirror === null ? devicePorts : [...devicePorts, mirrorPort(mirror)];
  const frameBytes = Math.max(...interfaces.map(({ mtu }) => mtu)) + ETHERNET_HEADER;
  const neighbors = new NeighborTable(limits.neighbors + (mirror === null ? 0 : 1), options.acceptAnyMac);
  if (mirror !== null) neighbors.fix(mirror.id, mirror.addresses[0].address);
  const paths = compilePaths(config, interfaces, neighbors, share?.worker, share?.workers, securities);
  const policy = compilePolicy(config, interfaces, paths, securities, share?.workers);
  const { loads } = policy;
  const counters = new CounterSet(COUNTERS);
  const strays = share === undefined ? null : new Strays({ ...share, counters, interfaces });
  const table = new SessionTable(
    config.sessions.max,
    mayHaveSessionKeys(config) ? KEY_STRIDE : 0,
    policy.natPools.length > 0,
  );
  const seed = random.nextI32();
  // Two flows a session, and one for each second path.
  const flows = new FlowTable(config.sessions.max * 2 + limits.duplicatedSessions, seed, BATCH_FRAMES, tableMemory);
  const wheel = new TimerWheel(config.sessions.max, 4096, 64, clock.nowMs());
  const sessions = new Sessions({
    table,
    flows,
    duplicates: new DuplicateTable(limits.duplicatedSessions),
    wheel,
    neighbors,
    interfaces,
    paths,
    choice: new PathChoice({ paths, loads, policies: policy.servicePolicies }),
    nat: sourceNat(policy, config.sessions.max, random, mirror?.id ?? -1),
    loads,
    random,
    seed,
    inactivityMs: config.sessions.inactivityMs,
    tenants: policy.tenants,
    services: policy.services,
    halfOpenMax: limits.halfOpen ?? Number.POSITIVE_INFINITY,
  });
  const queues = ports.map((port) => new TxQueue(port, BATCH_FRAMES));
  const hold = new HoldQueue({ slots: limits.holdFrames, perKey: limits.holdFramesPerNeighbor, slotBytes: frameBytes });
  const egress = new Egress({ queues, neighbors, interfaces, hold, counters, frameBytesMax: frameBytes });
  const generator = new Generator(
    frameBytes,
    () => egress.flush(),
    () => counters.increment(ANSWERS_WITHHELD),
  );
  const writer = new MetadataWriter(new Uint8Array(METADATA_BYTES));
  const fragmentTables = paths.map(
    () => new FragmentTable({ chains: limits.fabricChains, bytesMax: FABRIC_PAYLOAD_MAX }),
  );
  const ipFragments = new FragmentTable({ chains: limits.ipFragments, timeoutMs: IP_FRAGMENTS_MS });
  const metadata = new SessionMetadata(writer, table, policy, config.router);
  const security = new PacketSecurity({ crypto, random, wallMs, seed });
  const tunnel = new Tunnel(egress);
  const signals = new Signals({ sessions, metadata, writer, egress, generator, counters, security, tunnel });
  const payload = new PayloadSecurity({ sessions, policy, security, crypto });
  const duplication = new Duplication(sessions, policy);
  const reroute = new Reroute(sessions, policy, duplication);
  const retrigger = new Retrigger(sessions, signals);
  const samples = new DropSamples(DROP_REASONS.length);
  const outcomes = new Outcomes({ counters, samples, sessions });
  const { pathMetrics } = config;
  if (pathMetrics !== null) for (const path of paths) path.metrics = new InlineMetrics(pathMetrics);
  const inband = pathMetrics === null ? null : new InbandMetrics(sessions, signals, pathMetrics.intervalMs);
  const slow = new SlowPath({
    interfaces,
    policy,
    sessions,
    metadata,
    writer,
    egress,
    generator,
    fragments: fragmentTables.map((chains) => new FabricFragments(chains, writer, generator, random.nextI32())),
    ipFragments: new IpFragments(ipFragments, counters),
    signals,
    tunnel,
    counters,
    strays,
    outcomes,
    security,
    payload,
    reroute,
    duplication,
    isPacketBased: config.sessions.recovery === "packet-based",
  });
  const secure = new SecurePath({
    sessions,
    outcomes,
    interfaces,
    egress,
    slow,
    counters,
    crypto,
    security,
    payload,
    ports,
    batchFrames: BATCH_FRAMES,
    frameBytesMax: frameBytes,
  });
  const engine = new Engine({
    ports,
    fast: new FastPath({
      flows,
      sessions: table,
      neighbors,
      queues,
      interfaces,
      paths,
      secure,
      batchFrames: BATCH_FRAMES,
    }),
    secure,
    slow,
    egress,
    resolver: new Resolver({ interfaces, neighbors, egress, generator, counters }),
    fragments: fragmentTables,
    ipFragments,
    wheel,
    counters,
    strays,
    outcomes,
    retrigger,
    inband,
    mirror: mirror?.id ?? -1,
    batchFrames: BATCH_FRAMES,
    slowPathPerTurn: limits.slowPathPerTurn,
  });
  const events = new Events(clock, table, interfaces);
  const loops = new Loops(events, () => clock.nowMs());
  slow.leads.loopObserver = (service, from, toward, isBack) =>
    loops.seen(policy.services[service].name, from, toward, isBack);
  const reports = new PathReports({
    sessions,
    reroute,
    retrigger,
    events,
    preferMetrics: pathMetrics !== null && !pathMetrics.monitorOnly,
  });
  const { monitoring = "none" } = options;
  if (monitoring !== "none") reports.begin(clock.nowMs());
  let monitor: Monitor | null = null;
  if (monitoring === "inside" && paths.some(({ bfd }) => bfd.enabled)) {
    const report = (one: PathReport) => reports.apply(one, clock.nowMs());
    const state = options.monitorState === undefined ? null : new StateReader(options.monitorState);
    const identity = identityOf(config, random, state);
    monitor = new Monitor(
      { paths, interfaces, generator, egress, security, random, identity, report },
      clock.nowMs(),
      state,
    );
    slow.leads.pathMonitor = monitor;
    engine.pathMonitor = monitor;
  }
  return {
    config,
    clock,
    crypto,
    ports,
    interfaces,
    policy,
    securities,
    security,
    metadata,
    fragments: fragmentTables,
    ipFragments,
    sessions,
    reroute,
    retrigger,
    samples,
    reports,
    events,
    loops,
    monitor,
    egress,
    slow,
    engine,
    counters,
    strays,
  };
}

function sourceNat(
  { natPools: pools, ingressPools: ingress }: Policy,
  sessionsMax: number,
  random: RandomSource,
  mirror: number,
): SourceNat | null {
  if (pools.length === 0) return null;
  const addresses = new Set(pools.flatMap((pool) => pool.addresses));
  const table = new NatTable([...addresses], sessionsMax, random);
  return new SourceNat({ table, sessionsMax, pools, ingress, mirror });
}

function mirrorPort({ name, mtu }: RouterInterface): MemoryPort {
  return MemoryPort.mirror({ name, mtu, mac: new Uint8Array(6) });
}

/** Who we are to our peers, this time: a router that begins anew is another one, unless it goes on with a monitor's state. */
function identityOf(config: Config, random: RandomSource, state: StateReader | null): BfdIdentity {
  const word = () => BigInt(random.nextI32() >>> 0);
  const bootId = state === null ? (word() << 32n) | word() : state.u64();
  return { routerName: config.router, nodeId: 1, bootId };
}

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
      const monitor = await startMonitor(config, startUs, false, undo, (reports) => pool.tellPaths(reports));
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
    let reported = (_: readonly PathReport[]) => {};
    const watchPaths = (waits: boolean) =>
      startMonitor(config, clock.startUs, waits, undo, (reports) => reported(reports));
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
      ...live(),
    });
    reported = (reports) => takeReports(router, reports, log);
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
  const log = createLog(start.logLevel).child({ worker });
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
      ...live(),
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
  report: (reports: readonly PathReport[]) => void,
): Promise<MonitorThread | null> {
  if (!config.peers.some(({ paths }) => paths.some(({ bfd }) => bfd.enabled))) return null;
  const start = { role: "monitor", config, clockStartUs, waits, names: keptNames() } as const;
  const monitor = await MonitorThread.start(start, new URL("./thread.js", import.meta.url), report);
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

/** Ports on the devices of the paths that are watched, and from `begin` on their monitor, which goes on with another's state or anew. */
function openWatch(
  config: Config,
  clock: NativeClock,
  say: (said: FromMonitor) => void,
): {
  begin(state: Uint8Array | null): void;
  reloadKeys(policies: readonly SecurityPolicyConfig[]): void;
  leave(): Uint8Array;
  close(): void;
} {
  const { config: part, rows } = watchedPart(config);
  const { crypto, wallMs } = live();
  const random = new SystemRandom();
  const securities = compileSecurity(part.securityPolicies, crypto);
  const mtus = part.interfaces.map(({ device }) => native().interfaceInfo(device, new Uint8Array(6)).mtu);
  const frameBytes = Math.max(WATCHED_BYTES, ...mtus.map((mtu) => mtu + ETHERNET_HEADER));
  const devices = part.interfaces.map((item) => {
    const { name, device, mtu } = item;
    const ipv6 = isIpv6(item);
    const frames = ipv6 ? WATCHED_FRAMES_IPV6 : WATCHED_FRAMES;
    const ring = { snaplen: frameBytes, bufferBytes: WATCHED_RING_FRAMES * frameBytes };
    return new LivePort({ name, device, mtu: mtu ?? undefined, frames, ipv6, ...ring });
  });
  const ports = inOwnForm(part, devices);
  const interfaces = compileInterfaces(
    part,
    ports.map((port) => port.info()),
    false,
  );
  const neighbors = new NeighborTable(part.limits.neighbors);
  const paths = compilePaths(part, interfaces, neighbors, 0, 1, securities);
  const counters = new CounterSet(COUNTERS);
  const queues = ports.map((port) => new TxQueue(port, BATCH_FRAMES));
  const hold = new HoldQueue({ slots: 64, perKey: 8, slotBytes: frameBytes });
  const egress = new Egress({ queues, neighbors, interfaces, hold, counters, frameBytesMax: frameBytes });
  const generator = new Generator(
    frameBytes,
    () => egress.flush(),
    () => counters.increment(ANSWERS_WITHHELD),
  );
  const resolver = new Resolver({ interfaces, neighbors, egress, generator, counters });
  const security = new PacketSecurity({ crypto, random, wallMs, seed: random.nextI32() });
  const own = (report: PathReport): PathReport => ({ ...report, path: rows[report.path] });
  const dropped = (verdict: number) => countVerdict(counters, verdict);
  let monitor: Monitor | null = null;
  let end = (_silent?: boolean) => {};
  const begin = (bytes: Uint8Array | null) => {
    const state = bytes === null ? null : new StateReader(bytes);
    if (state !== null) {
      addressBook.restore(state, performance.now() | 0);
      restoreSecurities(state, part.securityPolicies, securities, crypto, clock.nowMs());
      neighbors.restore(state, interfaces.length);
    }
    const identity = identityOf(config, random, state);
    const report = (one: PathReport) => say({ reports: [own(one)] });
    const nowMs = () => clock.nowUs() / 1000;
    const watching = new Monitor(
      { paths, interfaces, generator, egress, security, random, identity, report },
      nowMs(),
      state,
    );
    monitor = watching;
    end = keepWatch({ monitor: watching, resolver, egress, interfaces, ports, devices, clock, dropped });
  };
  const stop = (silent: boolean) => {
    end(silent);
    end = () => {};
  };
  return {
    begin,
    reloadKeys: (policies) => void rotateKeys(part.securityPolicies, policies, securities, crypto, clock.nowMs()),
    leave: () => {
      stop(true);
      const out = new StateWriter();
      addressBook.save(out);
      saveSecurities(out, securities);
      neighbors.save(out);
      monitor?.save(out);
      return out.finish();
    },
    close: () => {
      stop(false);
      for (const device of devices) device.close();
    },
  };
}

/** The configuration of the watched paths alone, and which row each has in the whole one. */
function watchedPart(config: Config): { config: Config; rows: number[] } {
  const rows: number[] = [];
  let row = 0;
  const peers = config.peers.map((peer) => ({
    ...peer,
    paths: peer.paths.filter(({ bfd }) => {
      if (bfd.enabled) rows.push(row);
      row++;
      return bfd.enabled;
    }),
  }));
  const names = new Set(peers.flatMap(({ paths }) => paths.map((path) => path.interface)));
  const interfaces = config.interfaces.filter(({ name }) => names.has(name));
  const limits = { ...config.limits, waypointPairsPerPath: 16 };
  return { config: { ...config, peers, interfaces, limits }, rows };
}

/** The ports of the interfaces as the engine wants them: IPv6 in its own form. `workers`: it is one of so many. */
export function inOwnForm(
  { interfaces, peers }: Pick<Config, "interfaces" | "peers">,
  ports: readonly Port[],
  workers = 1,
): Port[] {
  const fabric = new Set(peers.flatMap(({ paths }) => paths.map((path) => path.interface)));
  return ports.map((port, row) => {
    const item = interfaces[row];
    if (!isIpv6(item)) return port;
    const own = new Ipv6Port(port, addressBook, workers > 1);
    if (!fabric.has(item.name)) own.problems = new ParameterProblems(port, addressBook, item.addresses);
    return own;
  });
}

function isIpv6({ addresses }: InterfaceConfig): boolean {
  return isName(addresses[0].address);
}

/** Two ports on one wire, of the classes that the interfaces have: for the warm-up. */
function wiredPorts(config: Config): DevicePort[] {
  const backends = [...new Set(config.interfaces.map(({ backend }) => backend))];
  return openWire().map((end, row) => {
    const options = { name: `lan${row}`, device: "", end };
    return backends[row % backends.length] === "af-packet" ? new AfPacketPort(options) : new LivePort(options);
  });
}

function openLivePort(config: Config, item: InterfaceConfig, log: Log): DevicePort {
  const { name, device, promiscuous } = item;
  const ipv6 = isIpv6(item);
  try {
    const mac = item.routerAdvertisements ? macOfDevice(device) : null;
    const groups = ipv6 ? groupsOf(ownAddresses(config, item), addressBook, mac) : undefined;
    const options = { name, device, promiscuous, mtu: item.mtu ?? undefined, ipv6, groups };
    if (item.backend === "af-packet") {
      const port = openAfPacketPort(options, log);
      if (port !== null) return port;
    }
    const port = new LivePort(options);
    if (port.offloadError !== undefined)
      log.warn({ interface: name, error: port.offloadError.message }, "receive offloads stay on");
    return port;
  } catch (error) {
    throw new OperatorError(`interface ${name}, device ${device}: ${(error as Error).message}`);
  }
}

function macOfDevice(device: string): Uint8Array {
  const mac = new Uint8Array(6);
  native().interfaceInfo(device, mac);
  return mac;
}

/** Of the interface, and of pools that are the outside of others. */
function ownAddresses(config: Config, item: InterfaceConfig): number[] {
  return [...item.addresses.map(({ address }) => address), ...natAddressesOn(config, item)];
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

/** Null, and said why, where the kernel cannot do it and libpcap must. */
function openAfPacketPort(options: DevicePortOptions, log: Log): AfPacketPort | null {
  try {
    return new AfPacketPort(options);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "EOFFLOAD") throw error;
    const { name, device } = options;
    log.warn({ interface: name, device, error: message }, "backend af-packet is not possible here; using libpcap");
    return null;
  }
}

/**
 * Run the engine on capture files: frames enter in timestamp order on a virtual clock, what leaves interface IF is
 * written to txDir/IF.pcap. ARP is answered for every address, so that frames find their way. Returns the counters.
 */
export async function replayCaptures(
  config: Config,
  options: { rx: readonly { interface: string; file: string }[]; txDir: string; seed: number; anyLinkType?: boolean },
): Promise<Record<string, number>> {
  mkdirSync(options.txDir, { recursive: true });
  const clock = new ManualClock();
  const captures: ReplayPort[] = [];
  try {
    for (const item of config.interfaces) {
      const rx = options.rx.find((capture) => capture.interface === item.name);
      captures.push(
        new ReplayPort({
          name: item.name,
          mac: macOf(config, item),
          mtu: item.mtu ?? 1500,
          clock,
          txPath: join(options.txDir, `${item.name}.pcap`),
          ...(rx === undefined ? {} : { rxPath: rx.file }),
          ...(options.anyLinkType === true ? { anyLinkType: true } : {}),
        }),
      );
    }
    startTogether(captures);
    const ports = inOwnForm(config, captures).map((port) => new AnsweringPort(port));
    const random = new SeededRandom(options.seed);
    const wallMs = () => captures[0].originSeconds * 1000 + clock.nowMs();
    const router = buildRouter(config, ports, {
      clock,
      random,
      acceptAnyMac: true,
      crypto: nativeCrypto(native()),
      wallMs,
    });
    for (;;) {
      const next = Math.min(...captures.map((capture) => capture.nextMs()));
      if (next === Number.POSITIVE_INFINITY) break;
      passTime(router, clock, next);
      while (router.engine.turn(clock.nowMs()) > 0);
    }
    const damaged = captures.find((capture) => capture.fault !== undefined)?.fault;
    if (damaged !== undefined) throw new OperatorError(`${damaged.message} (what came before it was replayed)`);
    return readCounters(router);
  } catch (error) {
    throw error instanceof OperatorError ? error : new OperatorError((error as Error).message);
  } finally {
    for (const capture of captures) capture.close();
  }
}

const STEP_MS = 100;
/** Longer silences are crossed in one step after this much time in small ones. */
const SMALL_STEPS_MS = 20_000;

/** Let time pass until `targetMs` with the engine's timers served on the way. */
function passTime(router: Router, clock: ManualClock, targetMs: number): void {
  const end = Math.min(targetMs, clock.nowMs() + SMALL_STEPS_MS);
  while (clock.nowMs() + STEP_MS < end) {
    clock.advance(STEP_MS);
    while (router.engine.turn(clock.nowMs()) > 0);
  }
  clock.moveTo(targetMs);
  // Whatever expired meanwhile is gone before the next packet is looked at.
  while (router.engine.tick(clock.nowMs()));
}

/** Say what would happen to a packet: one real engine, nobody's network. */
export function explainPacket(config: Config, options: { interface: string; packet: PacketDescription }): Explanation {
  const clock = new ManualClock(1);
  const memory = config.interfaces.map(
    (item) => new MemoryPort({ name: item.name, mac: macOf(config, item), mtu: item.mtu ?? 1500 }),
  );
  const ports = memory.map((port) => new AnsweringPort(port));
  // No peer answers here, so no path is watched.
  const unwatched = config.peers.map((peer) => ({
    ...peer,
    paths: peer.paths.map((path) => ({ ...path, bfd: { ...path.bfd, enabled: false } })),
  }));
  const max = Math.min(config.sessions.max, 1024);
  const small = { ...config, peers: unwatched, sessions: { ...config.sessions, max } };
  const router = buildRouter(small, ports, { clock, random: new SeededRandom(1), acceptAnyMac: true });
  return explain(router, memory, clock, options.interface, options.packet);
}

/** The configured MAC address, or a locally administered one by the interface's place. */
export function macOf(config: Config, item: InterfaceConfig): Uint8Array {
  if (item.mac !== null) return Uint8Array.from(item.mac.split(":"), (byte) => Number.parseInt(byte, 16));
  return Uint8Array.of(0x02, 0x57, 0x4d, 0, 0, config.interfaces.indexOf(item) + 1);
}

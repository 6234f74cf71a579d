// The composition root: of what concrete parts a router is made, and which port a device has. A router is the same engine over different ports: live
// devices (live-router.ts), capture files and memory (offline-router.ts), links of a simulated world (tests). A second
// I/O backend is one line here.

import type { Clock } from "./base/clock.ts";
import { tuneCompiler } from "./base/compiler.ts";
import type { Log } from "./base/log.ts";
import { type RandomSource, SystemRandom } from "./base/random.ts";
import { StateReader, StateWriter } from "./base/state.ts";
import { compileInterfaces, compileMirror, compilePaths, compilePolicy, natAddressesOn } from "./control/compile.ts";
import {
  compileSecurity,
  mayHaveSessionKeys,
  restoreSecurities,
  rotateKeys,
  saveSecurities,
} from "./control/compile-security.ts";
import type { Config, InterfaceConfig, SecurityPolicyConfig } from "./control/config.ts";
import { Events } from "./control/events.ts";
import { Loops } from "./control/loops.ts";
import { MonitorLosses } from "./control/monitor-losses.ts";
import { OperatorError } from "./control/operator-error.ts";
import { PathReports } from "./control/path-reports.ts";
import type { Router } from "./control/router-parts.ts";
import { nativeCrypto } from "./crypto/native-crypto.ts";
import { nodeCrypto } from "./crypto/node-crypto.ts";
import { KEY_STRIDE, type PacketCrypto } from "./crypto/packet-crypto.ts";
import { ANSWERS_WITHHELD, COUNTERS } from "./engine/counters.ts";
import { Egress } from "./engine/egress.ts";
import { Engine } from "./engine/engine.ts";
import { FABRIC_PAYLOAD_MAX, FabricFragments } from "./engine/fabric-fragments.ts";
import { FastPath } from "./engine/fast-path.ts";
import { Generator } from "./engine/generate.ts";
import { InbandMetrics } from "./engine/inband-metrics.ts";
import { IpFragments } from "./engine/ip-fragments.ts";
import { Outcomes } from "./engine/outcomes.ts";
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
import { type DevicePortOptions, openWire } from "./io/device-port.ts";
import { LivePort } from "./io/live-port.ts";
import { MemoryPort } from "./io/memory-port.ts";
import { native, tableMemory } from "./io/native.ts";
import type { NativeClock } from "./io/native-clock.ts";
import type { DevicePort, Port } from "./io/port.ts";
import { groupsOf } from "./ipv6/groups.ts";
import { Ipv6Port } from "./ipv6/ipv6-port.ts";
import { ParameterProblems } from "./ipv6/parameter-problems.ts";
import { Losses } from "./monitor/losses.ts";
import type { FromMonitor } from "./monitor/messages.ts";
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
import type { FrameRing } from "./table/frame-ring.ts";
import { HoldQueue } from "./table/hold-queue.ts";
import { NatTable } from "./table/nat-table.ts";
import { SessionTable } from "./table/session-table.ts";
import { TimerWheel } from "./table/timer-wheel.ts";
import { ETHERNET_HEADER } from "./wire/flow-key.ts";
import { MetadataWriter } from "./wire/metadata.ts";
import { DROP_REASONS } from "./wire/verdict.ts";

export type { Router } from "./control/router-parts.ts";

tuneCompiler();

/** Of routers on live ports. */
export const liveMeans = () => ({ crypto: nativeCrypto(native()), wallMs: Date.now });
/** Frames that the monitor takes and makes are few, and short but for MTU probes. */
const WATCHED_BYTES = 2048;
const WATCHED_RING_FRAMES = 512;
/** How often the monitor says what it has dropped. */
const LOSSES_MS = 1000;
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
  const metadata = new SessionMetadata(writer, table, flows, policy, config.router);
  const security = new PacketSecurity({ crypto, random, wallMs, seed });
  const tunnel = new Tunnel(egress);
  const signals = new Signals({ sessions, metadata, writer, egress, generator, counters, security, tunnel });
  const payload = new PayloadSecurity({ sessions, policy, security, crypto });
  const duplication = new Duplication(sessions, policy);
  const reroute = new Reroute(sessions, policy, duplication);
  const retrigger = new Retrigger(sessions, signals);
  const samples = new DropSamples(DROP_REASONS.length);
  const monitorLosses = new MonitorLosses(samples);
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
    monitorLosses,
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

/** Ports on the devices of the paths that are watched, and from `begin` on their monitor, which goes on with another's state or anew. */
export function openWatch(
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
  const { crypto, wallMs } = liveMeans();
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
  const losses = new Losses(
    counters,
    part.interfaces.map((item) => config.interfaces.indexOf(item)),
  );
  const tellLosses = () => {
    const report = losses.report(devices, clock.nowUs() / 1000);
    if (report !== null) say({ losses: report });
  };
  const telling = setInterval(tellLosses, LOSSES_MS);
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
    end = keepWatch({ monitor: watching, resolver, egress, interfaces, ports, devices, clock, losses });
  };
  const stop = (silent: boolean) => {
    clearInterval(telling);
    tellLosses();
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
export function wiredPorts(config: Config): DevicePort[] {
  const backends = [...new Set(config.interfaces.map(({ backend }) => backend))];
  return openWire().map((end, row) => {
    const options = { name: `lan${row}`, device: "", end };
    return backends[row % backends.length] === "af-packet" ? new AfPacketPort(options) : new LivePort(options);
  });
}

/** The interface's device, opened with the backend that the configuration names. Throws OperatorError. */
export function openLivePort(config: Config, item: InterfaceConfig, log: Log): DevicePort {
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
export function ownAddresses(config: Config, item: InterfaceConfig): number[] {
  return [...item.addresses.map(({ address }) => address), ...natAddressesOn(config, item)];
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

/** The configured MAC address, or a locally administered one by the interface's place. */
export function macOf(config: Config, item: InterfaceConfig): Uint8Array {
  if (item.mac !== null) return Uint8Array.from(item.mac.split(":"), (byte) => Number.parseInt(byte, 16));
  return Uint8Array.of(0x02, 0x57, 0x4d, 0, 0, config.interfaces.indexOf(item) + 1);
}

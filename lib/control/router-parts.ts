// What a built router consists of, for the parts of control/ that look at a running one (show, metrics, explain).

import type { Clock } from "../base/clock.ts";
import type { PacketCrypto } from "../crypto/packet-crypto.ts";
import type { Egress } from "../engine/egress.ts";
import type { Engine } from "../engine/engine.ts";
import type { PacketSecurity } from "../engine/packet-security.ts";
import type { Retrigger } from "../engine/retrigger.ts";
import type { SlowPath } from "../engine/slow-path.ts";
import type { Strays } from "../engine/strays.ts";
import type { Port } from "../io/port.ts";
import type { Monitor } from "../monitor/monitor.ts";
import type { RouterInterface } from "../peer/router-interface.ts";
import type { Sessions } from "../session/open.ts";
import type { Policy } from "../session/policy.ts";
import type { Reroute } from "../session/reroute.ts";
import type { SessionMetadata } from "../session/session-metadata.ts";
import type { CounterSet } from "../table/counter-set.ts";
import type { DropSamples } from "../table/drop-samples.ts";
import type { FragmentTable } from "../table/fragment-table.ts";
import type { Securities } from "./compile.ts";
import type { Config } from "./config.ts";
import type { Events } from "./events.ts";
import type { Loops } from "./loops.ts";
import type { MonitorLosses } from "./monitor-losses.ts";
import type { PathReports } from "./path-reports.ts";

export interface Router {
  readonly config: Config;
  readonly clock: Clock;
  readonly crypto: PacketCrypto;
  /** ports[i] carries interfaces[i]. */
  readonly ports: readonly Port[];
  readonly interfaces: readonly RouterInterface[];
  readonly policy: Policy;
  readonly securities: Securities;
  readonly security: PacketSecurity;
  readonly metadata: SessionMetadata;
  /** fragments[i] is what comes by paths[i]. */
  readonly ipFragments: FragmentTable;
  readonly samples: DropSamples;
  readonly fragments: readonly FragmentTable[];
  readonly sessions: Sessions;
  readonly reroute: Reroute;
  readonly retrigger: Retrigger;
  /** Takes in what the monitor reports. */
  readonly reports: PathReports;
  readonly events: Events;
  /** Sessions that go in a circle, for the log. */
  readonly loops: Loops;
  /** Watches paths in this very thread; null = another thread does, or nobody. */
  readonly monitor: Monitor | null;
  /** Of that other thread. */
  readonly monitorLosses: MonitorLosses;
  readonly egress: Egress;
  readonly slow: SlowPath;
  readonly engine: Engine;
  readonly counters: CounterSet;
  /** The way to the router's other workers; null where this is all of it. */
  readonly strays: Strays | null;
}

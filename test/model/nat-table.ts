// Slow twin of table/nat-table.ts: lists. Which of the free ports a mapping gets is the table's own affair; what it may get is not.

import { NAT_PORT_FIRST, NAT_PORTS, type NatInside } from "../../lib/table/nat-table.ts";

export interface SlowMapping {
  readonly inside: NatInside;
  readonly outside: number;
  readonly port: number;
  references: number;
}

export class SlowNatTable {
  readonly mappings: SlowMapping[] = [];
  readonly #capacity: number;
  readonly #quarantineMs: number;
  /** Until when a port rests: [address, protocol, port] as text. */
  readonly #rests = new Map<string, number>();

  constructor(capacity: number, quarantineMs: number) {
    this.#capacity = capacity;
    this.#quarantineMs = quarantineMs;
  }

  find(inside: NatInside): SlowMapping | undefined {
    return this.mappings.find((mapping) => keyOf(mapping.inside) === keyOf(inside));
  }

  get isFull(): boolean {
    return this.mappings.length === this.#capacity;
  }

  /** Why a mapping must not have been given this port; null = it may. */
  objection(inside: NatInside, outside: number, port: number, nowMs: number): string | null {
    if (this.isFull) return "there was no room";
    if (port < NAT_PORT_FIRST || port >= NAT_PORT_FIRST + NAT_PORTS) return `port ${port}`;
    if (this.withOutside(outside, port, inside.protocol) !== undefined) return `port ${port} is another's`;
    const until = this.#rests.get([outside, inside.protocol, port].join());
    return until !== undefined && nowMs < until ? `port ${port} rests` : null;
  }

  add(inside: NatInside, outside: number, port: number): void {
    this.mappings.push({ inside, outside, port, references: 1 });
  }

  release(mapping: SlowMapping, nowMs: number): void {
    if (--mapping.references > 0) return;
    this.mappings.splice(this.mappings.indexOf(mapping), 1);
    this.#rests.set([mapping.outside, mapping.inside.protocol, mapping.port].join(), nowMs + this.#quarantineMs);
  }

  withOutside(outside: number, port: number, protocol: number): SlowMapping | undefined {
    return this.mappings.find(
      (mapping) => mapping.outside === outside && mapping.port === port && mapping.inside.protocol === protocol,
    );
  }
}

function keyOf({ address, port, protocol, tenant, pool, origin }: NatInside): string {
  return [address, port, protocol, tenant, pool, origin].join();
}

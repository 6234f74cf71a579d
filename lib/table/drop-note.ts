// What the router knew of a packet when it decided about it, beside the frame: which session it was of, by which peer path it
// came, what its metadata said, and what policy made of that. Whoever decides writes it down in the one note there is; where the
// packet is dropped, the sample of its reason keeps it (drop-samples.ts), and in all cases the note is clean for the next packet.

import type { StateReader, StateWriter } from "../base/state.ts";
import { addressBook, isName } from "./address-book.ts";

/** An address, and what it stands for where it is a name: names are given to others after a while. */
export interface NotedAddress {
  readonly address: number;
  readonly words: readonly number[] | null;
}

export function noteAddress(address: number): NotedAddress {
  const words = isName(address) ? [0, 1, 2, 3].map((n) => addressBook.word(address, n) ?? 0) : null;
  return { address, words };
}

/** The address as it is called now; 0 = it is an IPv6 address, and the book has no room for it. */
export function addressNow({ address, words }: NotedAddress): number {
  if (words === null) return address;
  const [w0, w1, w2, w3] = words;
  return addressBook.enter(w0, w1, w2, w3, performance.now() | 0);
}

export function saveAddress(out: StateWriter, { address, words }: NotedAddress): void {
  out.i32(address);
  out.flag(words !== null);
  for (const word of words ?? []) out.i32(word);
}

export function restoreAddress(from: StateReader): NotedAddress {
  const address = from.i32();
  return { address, words: from.flag() ? [from.i32(), from.i32(), from.i32(), from.i32()] : null };
}

/** Rows are -1, texts are empty where nothing is known. */
export class DropNote {
  /** The packet was of a session, or its metadata told of one. */
  hasUuid = false;
  readonly uuid = new Int32Array(4);
  /** That session was known here, and the packet went in this direction of it. */
  isKnown = false;
  direction = 0;
  /** Row of the peer path that it came by. */
  path = -1;
  tenant = -1;
  service = -1;
  /** Where a session that goes in a circle would go, or went before: row of the peer path. */
  toward = -1;
  /** The session's addresses, ports and protocol, as metadata or its row has them. */
  hasContext = false;
  readonly context = new Int32Array(4);
  /** Names that its metadata said. */
  toldTenant = "";
  toldService = "";
  toldRouter = "";
  #isClean = true;

  /** Nothing is written here. */
  get isClean(): boolean {
    return this.#isClean;
  }

  clear(): void {
    if (this.#isClean) return;
    this.#isClean = true;
    this.hasUuid = false;
    this.isKnown = false;
    this.path = -1;
    this.tenant = -1;
    this.service = -1;
    this.toward = -1;
    this.hasContext = false;
    this.toldTenant = "";
    this.toldService = "";
    this.toldRouter = "";
  }

  /** What policy found: the rows of tenant and service. */
  classified(tenant: number, service: number): void {
    this.#isClean = false;
    this.tenant = tenant;
    this.service = service;
  }

  /** It came by the peer path in this row. */
  cameBy(path: number): void {
    this.#isClean = false;
    this.path = path;
  }

  /** Its metadata said these names. */
  told(tenant: string, service: string, router: string): void {
    this.#isClean = false;
    this.toldTenant = tenant;
    this.toldService = service;
    this.toldRouter = router;
  }

  /** It is of this session. */
  session(uuid: Int32Array, context: Int32Array, row: number, direction: number): void {
    this.#isClean = false;
    this.isKnown = true;
    this.direction = direction;
    this.identify(uuid, row * 4);
    this.setContext(context, row * 4);
  }

  /** The four words of `uuid` from `at` on. */
  identify(uuid: Int32Array, at = 0): void {
    this.#isClean = false;
    this.hasUuid = true;
    for (let n = 0; n < 4; n++) this.uuid[n] = uuid[at + n];
  }

  setContext(context: Int32Array, at = 0): void {
    this.#isClean = false;
    this.hasContext = true;
    for (let n = 0; n < 4; n++) this.context[n] = context[at + n];
  }

  /** What is written here, to keep. */
  copy(): KnownOfDrop {
    const [source, destination, ports, protocol] = this.context;
    return {
      uuid: this.hasUuid ? this.uuid.slice() : null,
      isKnown: this.isKnown,
      direction: this.direction,
      path: this.path,
      tenant: this.tenant,
      service: this.service,
      toward: this.toward,
      context: this.hasContext
        ? { source: noteAddress(source), destination: noteAddress(destination), ports, protocol }
        : null,
      toldTenant: this.toldTenant,
      toldService: this.toldService,
      toldRouter: this.toldRouter,
    };
  }
}

/** A note that was kept: its fields are DropNote's. */
export interface KnownOfDrop {
  readonly uuid: Int32Array | null;
  readonly isKnown: boolean;
  readonly direction: number;
  readonly path: number;
  readonly tenant: number;
  readonly service: number;
  readonly toward: number;
  readonly context: {
    readonly source: NotedAddress;
    readonly destination: NotedAddress;
    readonly ports: number;
    readonly protocol: number;
  } | null;
  readonly toldTenant: string;
  readonly toldService: string;
  readonly toldRouter: string;
}

export function saveKnown(out: StateWriter, known: KnownOfDrop): void {
  const { uuid, context } = known;
  out.flag(uuid !== null);
  if (uuid !== null) out.words(uuid, 0, 4);
  out.flag(known.isKnown);
  for (const number of [known.direction, known.path, known.tenant, known.service, known.toward]) out.i32(number);
  out.flag(context !== null);
  if (context !== null) {
    saveAddress(out, context.source);
    saveAddress(out, context.destination);
    out.i32(context.ports);
    out.i32(context.protocol);
  }
  for (const text of [known.toldTenant, known.toldService, known.toldRouter]) out.text(text);
}

export function restoreKnown(from: StateReader): KnownOfDrop {
  const uuid = from.flag() ? new Int32Array(4) : null;
  if (uuid !== null) from.words(uuid, 0, 4);
  const isKnown = from.flag();
  const [direction, path, tenant, service, toward] = Array.from({ length: 5 }, () => from.i32());
  const context = from.flag()
    ? { source: restoreAddress(from), destination: restoreAddress(from), ports: from.i32(), protocol: from.i32() }
    : null;
  const [toldTenant, toldService, toldRouter] = [from.text(), from.text(), from.text()];
  return { uuid, isKnown, direction, path, tenant, service, toward, context, toldTenant, toldService, toldRouter };
}

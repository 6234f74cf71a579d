// Which sessions have a mapping of source NAT for their source: a list for each mapping, newest first, through columns of the
// sessions' rows. 4 bytes a mapping and 8 a session, taken at construction.

const NONE = -1;

export class MappingSessions {
  /** By mapping. */
  readonly #newest: Int32Array;
  // By session: its neighbors in the list. They mean nothing while it is in none.
  readonly #newer: Int32Array;
  readonly #older: Int32Array;

  constructor(mappings: number, sessions: number) {
    this.#newest = new Int32Array(mappings).fill(NONE);
    this.#newer = new Int32Array(sessions);
    this.#older = new Int32Array(sessions);
  }

  /** The session of the mapping that was added last; -1 = it has none. */
  newest(mapping: number): number {
    return this.#newest[mapping];
  }

  /** Call once of a session that is in no list. */
  add(mapping: number, session: number): void {
    const before = this.#newest[mapping];
    this.#newest[mapping] = session;
    this.#newer[session] = NONE;
    this.#older[session] = before;
    if (before !== NONE) this.#newer[before] = session;
  }

  /** Call once of a session that was added to this mapping's. */
  remove(mapping: number, session: number): void {
    const newer = this.#newer[session];
    const older = this.#older[session];
    if (newer === NONE) this.#newest[mapping] = older;
    else this.#older[newer] = older;
    if (older !== NONE) this.#newer[older] = newer;
  }
}

/** A mistake of ours, never of the network or the operator: the process should stop and be mended. */
export class InvariantError extends Error {
  override name = "InvariantError";
}

/** Throw InvariantError with `message` unless `condition` holds. Never call it on a hot path. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

// placeholder until path choice is merged
import type { Sessions } from "./open.ts";

export function nextDownstream(sessions: Sessions, session: number): number {
  const { table, paths } = sessions;
  const current = table.downstream.path[session];
  if (paths[current].up) return current;
  const name = paths[current].peerName;
  return paths.find((p) => p.peerName === name && p.up)?.row ?? -1;
}

export function nextUpstream(sessions: Sessions, session: number): number {
  const { table, paths } = sessions;
  const current = table.upstream.path[session];
  const name = paths[current].peerName;
  return paths.find((p) => p.peerName === name && p.up)?.row ?? -1;
}

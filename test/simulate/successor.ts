// A process that goes on with a router's state.

import { StateWriter } from "../../lib/base/state.ts";
import { RouterRestorer, saveRouter } from "../../lib/control/router-state.ts";
import type { Router } from "../../lib/router.ts";
import type { TwoRouters } from "./topologies.ts";

/** The router's state, as it is handed over. */
export function piecesOf(router: Router): Uint8Array[] {
  return [...saveRouter(router)].map((piece) => piece.slice());
}

/** The router `name` goes on in a fresh one on the same ports. */
export function takeOver(net: Pick<TwoRouters, "world" | "west" | "east">, name: "west" | "east"): Router {
  const { world } = net;
  const before = world.routers.get(name)!;
  const out = new StateWriter();
  before.monitor?.save(out);
  const after = world.restart(name, before.monitor === null ? undefined : out.finish());
  const restorer = new RouterRestorer(after);
  for (const piece of piecesOf(before)) restorer.take(piece);
  restorer.end();
  net[name] = after;
  return after;
}

// Of a live session in words (explain-session.ts): which way it was sent, what its addresses became on it, and what would move it.

import type { PeerRoute, PeerServicePath, Resiliency } from "../session/service-route.ts";
import { FLOW_NEW_DESTINATION, FLOW_NEW_PORTS, FLOW_SHIFT } from "../table/flow-table.ts";
import { FORWARD, REVERSE } from "../table/session-table.ts";
import { PROTOCOL_TCP } from "../wire/flow-key.ts";
import { formatSocket } from "./address-text.ts";
import type { Told } from "./explain-told.ts";
import { count, SIDE_NAMES } from "./explain-told.ts";
import { priorityOf, routeText, sessionAnswer, standingText } from "./snapshot.ts";

/** The service-route and policy it follows, and how each path of the route stands for it. */
export function tellRoute(told: Told): void {
  const { sessions, policy, config } = told.router;
  const service = policy.services[sessions.table.service[told.session]];
  const taken = sessions.table.servicePath[told.session];
  const local = service.localRoutes.find(({ row }) => row === taken);
  if (local !== undefined) {
    const several = service.localRoutes.length;
    const why =
      several > 1
        ? `of ${several} destinations, the one of this source while it has room`
        : "the service's destination on this router";
    told.say("route", routeText(config.serviceRoutes[local.serviceRoute]), why);
    return;
  }
  const route = service.peerRoute;
  const now = route?.paths.find(({ row }) => row === taken);
  if (route === null || now === undefined) return;
  const full =
    service.localRoutes.length > 0
      ? "its destinations on this router had no room"
      : "it has no destination on this router";
  told.say("route", routeText(config.serviceRoutes[now.serviceRoute]), full);
  const { name, strategy, resiliency } = route.policy;
  told.say("policy", `${strategy}, ${resiliency}`, name === "" ? "the service names no policy" : `policy ${name}`);
  for (const candidate of route.paths) tellCandidate(told, route, candidate, now);
}

function tellCandidate(told: Told, route: PeerRoute, candidate: PeerServicePath, now: PeerServicePath): void {
  const { sessions } = told.router;
  const path = sessions.paths[candidate.path];
  const priority = priorityOf(candidate);
  const vector =
    path.vector === "" ? "no vector" : `vector ${path.vector}${priority === null ? "" : `, priority ${priority}`}`;
  const standing = standingText(told.standing(route.policy, candidate, now));
  const isSecond = sessions.secondPath(told.session, REVERSE) === candidate.path;
  const why = candidate === now ? "taken" : isSecond ? "taken for the copies" : "not taken";
  const load = `${count(path.sessions, "session")}`;
  const first = why === "not taken" && standing === standingText("usable") ? ", but another comes first" : "";
  told.say("path", told.pathName(path), `${why}: ${standing}${first}; ${vector}, cost ${candidate.cost}, ${load}`);
}

/** What its addresses become where it leaves. */
export function tellNat(told: Told): void {
  const { sourceNat, destination } = sessionAnswer(told.router, told.session);
  const { table, flows } = told.router.sessions;
  const isTold = table.presented.has(told.session);
  if (sourceNat !== null)
    told.say(
      "source-nat",
      sourceNat,
      isTold ? "told in metadata: the session's last router presents it" : "what its source leaves as",
    );
  else if (told.path(REVERSE) === null) told.say("source-nat", "none", "its source leaves as it is");
  if (told.path(REVERSE) !== null) return;
  const base = table.forwardFlow[told.session] << FLOW_SHIFT;
  const target = formatSocket(flows.words[base + FLOW_NEW_DESTINATION], flows.words[base + FLOW_NEW_PORTS] & 0xffff);
  if (target !== destination) told.say("target", target, `in the place of ${destination}`);
}

/** How often it has moved, and what would move it now. */
export function tellMoves(told: Told): void {
  const { sessions, policy } = told.router;
  const { table } = sessions;
  const row = told.session;
  const moves = table.moves[row];
  const times = moves === 255 ? "255 times or more" : moves === 1 ? "once" : `${moves} times`;
  const upstream = told.path(FORWARD);
  if (upstream !== null) {
    const other = sessions.paths.find(({ peer, up, row: at }) => peer === upstream.peer && up && at !== upstream.row);
    const own =
      other === undefined
        ? "this router has no other path to it"
        : `when this one is down, ${told.pathName(other)} is taken`;
    told.say("move", "by its peer", `${SIDE_NAMES[FORWARD]} peer ${upstream.peerName} decides; ${own}`);
  }
  const current = told.path(REVERSE);
  const route = policy.services[table.service[row]].peerRoute;
  if (current === null || route === null) {
    if (upstream === null) told.say("move", "never", "it goes to no peer");
    return;
  }
  const isBlocked = current.blocksTcp && table.downstream.wire[row] === PROTOCOL_TCP;
  const next = sessions.choice.rechoose(route, current.row, table.upstream.path[row], told.nowMs);
  const now = route.paths.find(({ path }) => path === current.row);
  const others =
    now === undefined
      ? []
      : route.paths.filter((each) => each !== now && told.standing(route.policy, each, now) === "usable");
  const to =
    others.length === 0
      ? "no other path can be used now, so it waits for its own"
      : `now that would be ${route.policy.strategy === "hunt" ? "" : "one of "}${(route.policy.strategy === "hunt" ? others.slice(0, 1) : others).map(({ path }) => told.pathName(sessions.paths[path])).join(" or ")}`;
  const outcome =
    next !== null && next.path !== current.row
      ? `to ${told.pathName(sessions.paths[next.path])} with its next packet`
      : isBlocked
        ? "to UDP on the same path with its next packet"
        : moves === 0
          ? "has not moved"
          : `has moved ${times}`;
  told.say(
    "move",
    outcome,
    `${SIDE_NAMES[REVERSE]}: ${MOVES[route.policy.resiliency]}${route.policy.resiliency === "none" ? "" : `; ${to}`}`,
  );
}

const MOVES: Record<Resiliency, string> = {
  none: "it stays on its path whatever becomes of that (resiliency none)",
  failover: "it moves when its path is down, or breaks a threshold that another path keeps",
  "revertible-failover":
    "it moves when its path is down, or breaks a threshold that another path keeps, and back when a better one recovers",
  "packet-duplication": "it moves when both of its paths are down, or break a threshold that another path keeps",
};

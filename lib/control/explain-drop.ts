// The last packet that was dropped for a reason, in words: first what was known of it when it was dropped, as it was noted then; then
// what the running router would decide about it now, asked of the very functions that decide (session/classify.ts, path-choice.ts),
// which change nothing. Limits, port pairs and neighbors are not tried: that would take something.

import { viewOf } from "../base/bytes.ts";
import { isOwnAddress } from "../peer/router-interface.ts";
import { Classification, classifyMetadata, classifyPacket } from "../session/classify.ts";
import { addressNow, type KnownOfDrop } from "../table/drop-note.ts";
import type { DropSample } from "../table/drop-samples.ts";
import { FORWARD } from "../table/session-table.ts";
import {
  ANY_MAC,
  decodeFrame,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_PROTOCOL,
  KEY_ROW_WORDS,
  KEY_SOURCE,
} from "../wire/flow-key.ts";
import {
  DROP_ACCESS_DENIED,
  DROP_NO_TENANT,
  DROP_REASONS,
  DROP_UNKNOWN_TENANT,
  OK,
  verdictName,
  verdictSentence,
} from "../wire/verdict.ts";
import { formatSocket } from "./address-text.ts";
import { type Step, tellRoute } from "./explain.ts";
import { loopText } from "./loops.ts";
import { pathText, uuidText } from "./names.ts";
import type { Router } from "./router-parts.ts";
import { printDuration } from "./show.ts";
import { protocolName, sampleFrame, sampleText } from "./snapshot.ts";

export interface DropSteps {
  /** When it was dropped, in milliseconds before the answer. */
  readonly agoMs: number;
  /** What was decided then. */
  readonly steps: Step[];
  /** What would be decided now; `verdict` is "open", "of a session", "unknown" or "drop.<reason>". */
  readonly now: { readonly verdict: string; readonly steps: Step[] };
}

/** Of drop reason number `reason`; null = no frame was at hand. */
export function explainDrop(router: Router, reason: number): DropSteps | null {
  const sample = router.samples.of(reason);
  if (sample === null) return null;
  const steps: Step[] = [];
  const frame = sampleFrame(router, reason, sample);
  tellFrame(router, steps, sample, frame);
  if (sample.known !== null) tellKnown(router, steps, sample.known);
  else
    steps.push({
      step: "flow",
      outcome: "none",
      reason: "it was dropped for what it is, and no session of its was looked for or found",
    });
  const { name, sentence } = DROP_REASONS[reason];
  if (name === "route-loop" && sample.known !== null) tellLoop(router, steps, sample.known);
  steps.push({ step: "drop", outcome: `drop.${name}`, reason: sentence });
  return { agoMs: router.clock.nowMs() - sample.atMs, steps, now: decideNow(router, sample, frame) };
}

function tellFrame(router: Router, steps: Step[], sample: DropSample, frame: Uint8Array): void {
  const { name } = router.interfaces[sample.interfaceId];
  const text = sampleText(router, sample, frame);
  const ago = printDuration(router.clock.nowMs() - sample.atMs);
  steps.push({ step: "receive", outcome: `interface ${name}`, reason: `${text}, ${ago} ago` });
}

function tellKnown(router: Router, steps: Step[], known: KnownOfDrop): void {
  const path = router.sessions.paths[known.path];
  if (path !== undefined)
    steps.push({ step: "peer", outcome: path.peerName, reason: `it came by ${pathText(router.interfaces, path)}` });
  if (known.uuid !== null) {
    const way = known.direction === FORWARD ? "toward the server" : "toward the initiator";
    const reason = known.isKnown
      ? `this router knew the session; the packet went ${way}`
      : "its metadata told of it, and it was not known here";
    steps.push({ step: "session", outcome: uuidText(known.uuid), reason: `${reason}${contextText(known)}` });
  } else steps.push({ step: "session", outcome: "none", reason: "no session has these addresses and ports" });
  if (known.toldTenant !== "" || known.toldService !== "" || known.toldRouter !== "") {
    const said = [`tenant ${known.toldTenant || "none"}`, `service ${known.toldService || "none"}`];
    steps.push({
      step: "metadata",
      outcome: said.join(", "),
      reason: `the session began at router ${known.toldRouter || "that it does not say"}`,
    });
  }
  const tenant = router.policy.tenants[known.tenant];
  const service = router.policy.services[known.service];
  if (tenant !== undefined) steps.push({ step: "tenant", outcome: tenant.name, reason: "" });
  if (service !== undefined) steps.push({ step: "service", outcome: service.name, reason: "" });
}

function contextText({ context }: KnownOfDrop): string {
  if (context === null) return "";
  const [source, destination] = [addressNow(context.source), addressNow(context.destination)];
  const ends = `${formatSocket(source, context.ports >>> 16)} > ${formatSocket(destination, context.ports & 0xffff)}`;
  return `: ${protocolName(context.protocol)} ${ends}`;
}

function tellLoop(router: Router, steps: Step[], known: KnownOfDrop): void {
  const from = router.sessions.paths[known.path];
  if (from === undefined) return;
  const toward = router.sessions.paths[known.toward];
  const service = router.policy.services[known.service]?.name ?? known.toldService;
  const isBack = !known.isKnown && toward !== undefined;
  const peers =
    toward === undefined || toward.peerName === from.peerName
      ? `peer ${from.peerName}`
      : `peers ${from.peerName} and ${toward.peerName}`;
  steps.push({
    step: "loop",
    outcome: peers,
    reason: loopText(service, from.peerName, toward?.peerName ?? null, isBack),
  });
}

function decideNow(router: Router, sample: DropSample, frame: Uint8Array): DropSteps["now"] {
  const steps: Step[] = [];
  const { known } = sample;
  const session = known?.uuid == null ? -1 : router.sessions.withUuid(known.uuid);
  if (known?.uuid != null && session >= 0) {
    steps.push({ step: "session", outcome: uuidText(known.uuid), reason: "it lives: ask explain --session about it" });
    return { verdict: "of a session", steps };
  }
  const found = new Classification();
  if (known !== null && router.sessions.paths[known.path] !== undefined) {
    if (known.context === null || known.toldTenant === "")
      return unknown(steps, "what its metadata would have said is not known");
    const { source, destination, ports, protocol } = known.context;
    const context = Int32Array.of(addressNow(source), addressNow(destination), ports, protocol);
    return decided(
      router,
      steps,
      classifyMetadata(router.policy, known.toldTenant, known.toldService, context, found),
      found,
      known.path,
    );
  }
  const key = new Int32Array(KEY_ROW_WORDS);
  const at = router.interfaces[sample.interfaceId];
  const decoded = decodeFrame(viewOf(frame), 0, frame.length, sample.interfaceId, ANY_MAC, 0, key, 0, at.isIpv6);
  if (decoded !== OK) return unknown(steps, `the frame itself decides: ${verdictName(decoded)}`);
  if (router.sessions.flows.find(key[KEY_SOURCE], key[KEY_DESTINATION], key[KEY_PORTS], key[KEY_PROTOCOL]) >= 0) {
    steps.push({ step: "flow", outcome: "found", reason: "a session has these addresses and ports now" });
    return { verdict: "of a session", steps };
  }
  if (isOwnAddress(at, key[KEY_DESTINATION]))
    return unknown(steps, "it is for the router itself: who sends it and what it carries decide, not the policy");
  return decided(router, steps, classifyPacket(router.policy, key, found), found, -1);
}

function unknown(steps: Step[], reason: string): DropSteps["now"] {
  steps.push({ step: "decide", outcome: "not asked", reason });
  return { verdict: "unknown", steps };
}

/** What classification has found, and where the session would go that the packet would open. */
function decided(
  router: Router,
  steps: Step[],
  verdict: number,
  found: Classification,
  from: number,
): DropSteps["now"] {
  const { policy, sessions, clock } = router;
  const reason = (...of: number[]) => (of.includes(verdict) ? verdictSentence(verdict) : "");
  const refused = { verdict: `drop.${verdictName(verdict)}`, steps };
  const tenant = policy.tenants[found.tenant];
  steps.push({ step: "tenant", outcome: tenant?.name ?? "none", reason: reason(DROP_NO_TENANT, DROP_UNKNOWN_TENANT) });
  if (tenant === undefined) return refused;
  const service = policy.services[found.service];
  if (service === undefined) {
    steps.push({ step: "service", outcome: "none", reason: verdictSentence(verdict) });
    return refused;
  }
  steps.push({ step: "service", outcome: service.name, reason: "" });
  steps.push({
    step: "access",
    outcome: service.allowed[tenant.row] ? "allowed" : "denied",
    reason: reason(DROP_ACCESS_DENIED),
  });
  if (verdict === DROP_ACCESS_DENIED) return refused;
  tellRoute(router, steps, service, found.route, -1, from);
  if (verdict !== OK) {
    steps[steps.length - 1].reason = verdictSentence(verdict);
    return refused;
  }
  const { route } = found;
  if (route?.kind === "peer" && sessions.choice.choose(route, from, clock.nowMs()) === null) {
    const { refusal } = sessions.choice;
    steps.push({ step: "open", outcome: `drop.${verdictName(refusal)}`, reason: verdictSentence(refusal) });
    return { verdict: `drop.${verdictName(refusal)}`, steps };
  }
  steps.push({
    step: "open",
    outcome: "a session",
    reason: "as far as policy and paths go; limits, port pairs and neighbors were not tried",
  });
  return { verdict: "open", steps };
}

// Every counter of the engine, by number. The drop reasons come first, so that a drop verdict v is counter v - DROP.
//
// Every frame received, every segment that a super-frame was split into and every packet put together from IPv4 or fabric
// fragments ends in one of three ways, once:
//
//   frames.received + frames.split + ip.reassembled + fabric.reassembled + strays.received
//     = frames.forwarded + frames.consumed + drops + strays.sent
//
// without the drops that come later, of what was counted as forwarded or consumed or was made here: hold-full,
// neighbor-unreachable, tx-full, tx-error, fabric-fragment-timeout, fabric-fragments-full, ip-fragment-timeout, ip-fragments-full, and the copies of ARP
// messages in stray-ring-full.
// Strays are 0 where there is one worker; over all workers as many are received as were sent.

import type { CounterSet } from "../table/counter-set.ts";
import { CONSUMED, DROP, DROP_REASONS } from "../wire/verdict.ts";

const names = DROP_REASONS.map((reason) => ({ name: `drop.${reason.name}`, sentence: reason.sentence }));

function counter(name: string, sentence: string): number {
  return names.push({ name, sentence }) - 1;
}

export const FRAMES_RECEIVED = counter("frames.received", "Frames taken from all interfaces.");
export const FRAMES_FORWARDED = counter(
  "frames.forwarded",
  "Frames that left again as part of a session; a super-frame counts once.",
);
export const FRAMES_CONSUMED = counter(
  "frames.consumed",
  "Frames that were meant for the router and go no further: ARP, control messages, fabric fragments.",
);
export const FRAMES_SPLIT = counter(
  "frames.split",
  "Segments that super-frames were cut to: for metadata in one of them, or to be signed and encrypted each.",
);
export const FRAMES_HELD = counter("frames.held", "Frames that waited for a neighbor's address.");
export const METADATA_RECEIVED = counter("metadata.received", "Packets that arrived with session metadata.");
export const METADATA_SENT = counter("metadata.sent", "Packets that left with session metadata.");
export const METADATA_NOT_CARRIED = counter(
  "metadata.not-carried",
  "Packets whose metadata had attributes unknown here that were not passed on to the next router: more than 128 bytes, or no room.",
);
export const METADATA_GENERATED = counter(
  "metadata.generated",
  "Packets made only to carry metadata or a control message, for want of traffic.",
);
export const METADATA_MARKED = counter(
  "metadata.false-positive-marked",
  "Payloads that looked like metadata and left behind a false-positive marker.",
);
export const METADATA_UNMARKED = counter("metadata.false-positive-unmarked", "False-positive markers taken off.");
export const FABRIC_FRAGMENTS_SENT = counter(
  "fabric.fragments-sent",
  "Fabric fragments sent, for packets that did not fit the path with what was added to them.",
);
export const IP_FRAGMENTS_SENT = counter(
  "ip.fragments-sent",
  "IPv4 fragments sent to plain networks, of packets that were too long for them and may be fragmented.",
);
export const IP_REASSEMBLED = counter("ip.reassembled", "Packets put together from IPv4 fragments.");
export const FABRIC_REASSEMBLED = counter("fabric.reassembled", "Packets put together from fabric fragments.");
export const DUPLICATES_SENT = counter(
  "duplicates.sent",
  "Copies of packets sent over a second path, under packet duplication.",
);
export const TCP_RESETS_SENT = counter("tcp.resets-sent", "Resets that answered TCP segments of unknown sessions.");
export const ICMP_SENT = counter("icmp.time-exceeded-sent", "ICMP time exceeded messages sent.");
export const ICMP_REFUSED_SENT = counter(
  "icmp.refused-sent",
  "ICMP unreachable messages sent to hosts of tenants with `refused: reject`.",
);
export const ICMP_TOO_BIG_SENT = counter(
  "icmp.too-big-sent",
  "ICMP fragmentation needed messages sent: what may be at most, with what is put on the session's packets taken off.",
);
export const ICMP_PASSED = counter(
  "icmp.errors-passed",
  "ICMP errors about packets of sessions that were passed on to who had sent those.",
);
export const ECHO_REPLIES_SENT = counter("icmp.echo-replies-sent", "Pings of the router's own addresses answered.");
export const ARP_REQUESTS_SENT = counter("arp.requests-sent", "ARP requests sent.");
export const ARP_REPLIES_SENT = counter("arp.replies-sent", "ARP requests for our addresses answered.");
export const ARP_DISPUTED = counter(
  "arp.disputed",
  "ARP messages that claim the address of a neighbor in use for another station; it keeps it as long as it answers.",
);
export const ARP_CLAIMED = counter(
  "arp.own-claimed",
  "ARP messages in which another station claims an address of ours.",
);
export const ARP_DEFENDED = counter(
  "arp.own-defended",
  "Announcements that an address is ours, after another station claimed it; one in 10 s on an interface.",
);
export const ANSWERS_WITHHELD = counter(
  "answers.withheld",
  "Resets, ICMP messages, ping replies and control messages not sent: too many in this second, or longer than what asked.",
);
export const STRAYS_SENT = counter(
  "strays.sent",
  "Frames that a worker handed to the next one, because they are not its own.",
);
export const STRAYS_RECEIVED = counter("strays.received", "Frames that a worker took over from the one before it.");
export const SESSIONS_RECOVERED = counter(
  "sessions.recovered",
  "Sessions that a peer told this router again after it had lost them.",
);
export const SLOW_PATH_PACKETS = counter("slow-path.packets", "Packets that the fast path handed to the slow path.");

/** Name and sentence of every counter, in order. */
export const COUNTERS: readonly { readonly name: string; readonly sentence: string }[] = names;

/** Count what became of a frame that nobody has counted as forwarded: dropped, or taken in by the router itself. */
export function countVerdict(counters: CounterSet, verdict: number): void {
  if (verdict >= DROP) counters.increment(dropCounter(verdict));
  else if (verdict === CONSUMED) counters.increment(FRAMES_CONSUMED);
}

/** The counter of a drop verdict. */
export function dropCounter(verdict: number): number {
  return verdict - DROP;
}

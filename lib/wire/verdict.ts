// What a step of a packet's way decided, as one small integer. Text exists only here.
//
//   0            OK     go on
//   1 .. 4       PUNT   leave the fast path: which hand takes it is the number
//   5            CONSUMED
//   6            HANDED_OVER
//   16 ..        DROP   the reason, one of DROP_REASONS; every drop is counted under "drop.<name>"
//
// The list is low in the house so that every floor may name a reason, and there is exactly one list.

export const OK = 0;

/** No flow knows this packet: classify it, or open a session from its metadata. */
export const PUNT_MISS = 1;
export const PUNT_ARP = 2;
/** A flow was found, but the packet or the flow needs care: metadata, TCP flags, a stale generation, no neighbor. */
export const PUNT_SESSION = 3;
/** An ICMP error: it belongs to the session of the packet it quotes. */
export const PUNT_ICMP_ERROR = 4;
/** A piece of a packet (RFC 791): its key has no ports, its payload is what is behind the IPv4 header. */
export const PUNT_FRAGMENT = 7;

/** The frame did its work here and goes no further: ARP, a control message, a fabric fragment. Nothing is lost. */
export const CONSUMED = 5;
/** Another worker of this router goes on with the frame. */
export const HANDED_OVER = 6;

/** The first verdict that is a drop. */
export const DROP = 16;

interface DropReason {
  /** Kebab-case, stable: it is the counter's name behind "drop." */
  readonly name: string;
  /** One sentence for the operator: what happened, and what to look at. */
  readonly sentence: string;
}

const reasons: DropReason[] = [];

function reason(name: string, sentence: string): number {
  reasons.push({ name, sentence });
  return DROP + reasons.length - 1;
}

// Frames that cannot be read (wire/)
export const DROP_RUNT = reason(
  "runt",
  "The frame is too short for an Ethernet header, or for the IPv4 header behind it.",
);
export const DROP_TRUNCATED = reason(
  "truncated",
  "The frame was captured only in part, so it cannot be forwarded whole.",
);
export const DROP_NOT_OURS = reason("not-ours", "The destination MAC address is another station's.");
export const DROP_LOOP = reason("loop", "The source MAC address is this interface's own: a frame of ours came back.");
export const DROP_SOURCE_MAC = reason("source-mac", "The source MAC address is a group address.");
export const DROP_VLAN = reason("vlan", "The frame has a VLAN tag; this version handles untagged frames.");
export const DROP_ETHERTYPE = reason("ethertype", "Neither IPv4 nor ARP.");
export const DROP_IPV6 = reason("ipv6", "An IPv6 packet on an interface that has no IPv6 address.");
export const DROP_IPV6_EXTENSION = reason(
  "ipv6-extension",
  "Extension headers that do not fit, more than eight, or with a hop of their own (RFC 5095).",
);
export const DROP_IPV6_OPTION = reason(
  "ipv6-option",
  "An option of an extension header that whoever does not know it must drop (RFC 8200, 4.2); no option goes beyond the first router.",
);
export const DROP_UDP_UNCHECKED = reason(
  "udp-unchecked",
  "UDP without a checksum over IPv6, which RFC 8200 does not allow.",
);
export const DROP_NEIGHBOR_MALFORMED = reason(
  "neighbor-malformed",
  "A neighbor solicitation or advertisement that RFC 4861 does not allow, or one from beyond the link.",
);
export const DROP_LISTENER_QUERY = reason(
  "listener-query-malformed",
  "A multicast listener query that RFC 3810 does not allow: not from this link, without router alert, of a wrong length or checksum.",
);
export const DROP_ADDRESSES_FULL = reason(
  "addresses-full",
  "A packet with an IPv6 address of no session, while more of them are in use or were seen just now than there is room for.",
);
export const DROP_ARP_MALFORMED = reason("arp-malformed", "An ARP message that RFC 826 does not allow.");
export const DROP_ARP_LIMIT = reason(
  "arp-limit",
  "An ARP request for an address of ours, of a station that is no neighbor in use: over 1000 a second get no answer.",
);
export const DROP_IP_VERSION = reason("ip-version", "EtherType says IPv4, the version field does not.");
export const DROP_IP_HEADER_LENGTH = reason(
  "ip-header-length",
  "The IPv4 header length is under 20 bytes or past the packet's end.",
);
export const DROP_IP_TOTAL_LENGTH = reason(
  "ip-total-length",
  "The IPv4 total length is shorter than its header or longer than the frame.",
);
export const DROP_IP_CHECKSUM = reason(
  "ip-checksum",
  "The IPv4 header checksum of a lead packet is wrong, so no session is opened on its word (RFC 1812, 5.2.2).",
);
export const DROP_IP_ADDRESS = reason(
  "ip-address",
  "A source or destination address that is never forwarded (RFC 1812, 5.3.7): loopback, multicast, broadcast, zero.",
);
export const DROP_IP_FRAGMENT = reason(
  "ip-fragment-malformed",
  "An IPv4 fragment that cannot be right: its length is no multiple of 8, it contradicts the others, or the packet would be too long. All of its packet goes.",
);
export const DROP_IP_FRAGMENT_TIMEOUT = reason(
  "ip-fragment-timeout",
  "IPv4 fragments whose packet was not complete within 15 seconds.",
);
export const DROP_IP_FRAGMENT_FULL = reason(
  "ip-fragments-full",
  "IPv4 fragments that made room for newer ones: limits.ip-fragments is reached.",
);
export const DROP_L4_HEADER = reason(
  "l4-header",
  "The TCP, UDP or ICMP header is cut short or gives an impossible length.",
);
export const DROP_FRAME_TOO_LONG = reason(
  "frame-too-long",
  "Longer than the interface can have received in one piece, and not TCP, so it cannot be cut into segments.",
);

// Who may talk to whom (session/)
export const DROP_LOCAL_ADDRESS = reason(
  "local-address",
  "Addressed to the router itself, which offers no service there.",
);
export const DROP_NO_TENANT = reason("no-tenant", "The source belongs to no tenant on this interface.");
export const DROP_NO_SERVICE = reason("no-service", "No service has this destination, protocol and port.");
export const DROP_ACCESS_DENIED = reason("access-denied", "The service does not list this tenant under access.");
export const DROP_NO_ROUTE = reason("no-route", "The service has no service-route on this router.");
export const DROP_NO_RETURN_ROUTE = reason(
  "no-return-route",
  "Replies could not go back: the source is not on-link and the interface has no gateway, or it is in another interface's subnet.",
);
export const DROP_ROUTE_LOOP = reason(
  "route-loop",
  "The session would go in a circle: the service-route leads back to the peer that it came from, or it has passed this router before.",
);
export const DROP_PATH_DOWN = reason(
  "path-down",
  "The session's path is down, or for a new one every path of the peers that the service-routes name.",
);
export const DROP_PATH_QUALITY = reason(
  "path-quality",
  "Paths are up, but each breaks a threshold of the service policy (best-effort is off) or has a vector that is never used.",
);
export const DROP_ROUTE_SESSION_LIMIT = reason(
  "route-session-limit",
  "Every service-route that could take another session has reached its max-sessions.",
);
export const DROP_TCP_MID_FLOW = reason(
  "tcp-mid-flow",
  "A TCP segment of no known session and not a SYN; answered with a reset, if the service's transport-state-enforcement says so.",
);
export const DROP_RECOVERING = reason(
  "recovering",
  "A packet of no known session just after the start: it may be one of a session that a peer is about to give back.",
);
export const DROP_SESSION_TABLE_FULL = reason(
  "session-table-full",
  "sessions.max is reached and no half-open session could make room.",
);
export const DROP_TENANT_SESSION_LIMIT = reason(
  "tenant-session-limit",
  "The tenant has as many sessions as its max-sessions allows.",
);
export const DROP_TENANT_HALF_OPEN_LIMIT = reason(
  "tenant-half-open-limit",
  "The tenant has as many half-open sessions as its max-half-open allows.",
);
export const DROP_HALF_OPEN_LIMIT = reason(
  "half-open-limit",
  "There are as many half-open sessions as limits.half-open allows.",
);
export const DROP_WAYPOINT_PORTS = reason(
  "waypoint-ports",
  "Every waypoint port pair of the path is in use or in quarantine.",
);
export const DROP_NAT_PORTS = reason(
  "nat-ports",
  "Every port of the source's address in the service-route's source NAT is in use or in quarantine.",
);
export const DROP_NAT_UNMAPPED = reason(
  "nat-unmapped",
  "The destination is an address of source NAT, and no session of the sender's tenant has that port there; or a peer tells of a session to a host here that has begun none through it.",
);
export const DROP_FLOW_CONFLICT = reason(
  "flow-conflict",
  "Another session already has these addresses and ports, and it is not this sender's to replace.",
);

// Waypoint packets and metadata (session/)
export const DROP_UNKNOWN_SESSION = reason(
  "unknown-session",
  "A waypoint packet without metadata for a session this router does not know.",
);
export const DROP_NOT_A_PEER = reason(
  "not-a-peer",
  "A waypoint packet whose source is not an address of a configured peer, nor where BFD has last heard one with a dynamic address.",
);
export const DROP_METADATA_MALFORMED = reason(
  "metadata-malformed",
  "Metadata whose lengths, version or attributes do not add up.",
);
export const DROP_METADATA_CONTEXT = reason(
  "metadata-context",
  "Metadata without the session context, identifier, tenant or service that opening a session needs.",
);
export const DROP_METADATA_CHECKSUM = reason(
  "metadata-checksum",
  "A packet with metadata whose checksum is wrong: nothing in it is believed.",
);
export const DROP_METADATA_UNEXPECTED = reason(
  "metadata-unexpected",
  "Metadata that speaks of another session than the one whose waypoint ports it came on.",
);
export const DROP_METADATA_MISSING = reason(
  "metadata-missing",
  "A reverse packet without metadata before the peer's reverse metadata was seen.",
);
export const DROP_SIGNATURE_WRONG = reason(
  "signature-wrong",
  "The digest at the packet's end is another: altered on the way, or signed with another key.",
);
export const DROP_SIGNATURE_MISSING = reason(
  "signature-missing",
  "A packet of a peer that has to sign it is too short to have a digest.",
);
export const DROP_CLOCK_SKEW = reason(
  "clock-skew",
  "The digest is right for another time: the two routers' clocks differ, or the packet is an old one.",
);
export const DROP_KEY_VERSION = reason(
  "key-version",
  "The metadata names a version of the keys that this router does not have, or has no more.",
);
export const DROP_METADATA_CIPHER = reason(
  "metadata-cipher",
  "The metadata cannot be decrypted with the keys of this peer, or is in clear where it must not be.",
);
export const DROP_PAYLOAD_CIPHER = reason(
  "payload-cipher",
  "The payload cannot be decrypted with the keys of the session, or is in clear where it must not be.",
);
export const DROP_PAYLOAD_CHECKSUM = reason(
  "payload-checksum",
  "The TCP or UDP checksum of a packet to encrypt or decrypt is wrong: encryption would hide the damage.",
);
export const DROP_SESSION_KEY = reason(
  "session-key",
  "Metadata of a session that must have a payload key of its own has none, one of a wrong length, or another one than before.",
);
export const DROP_KEY_IN_CLEAR = reason(
  "key-in-clear",
  "A session with a payload key of its own, and a peer on its way whose metadata is not encrypted: the key must not travel in clear.",
);
export const DROP_SECURITY_POLICY = reason(
  "security-policy",
  "A session that is to be encrypted otherwise than this router's service says, or in clear where it says encrypted.",
);
export const DROP_DUPLICATE = reason(
  "duplicate",
  "The later one of the two copies of a packet that came over two paths, as packet duplication sends them.",
);
export const DROP_DUPLICATES_FULL = reason(
  "duplicates-full",
  "A peer sends a session's packets over a second path, and limits.duplicated-sessions is reached; they are taken from the first.",
);
export const DROP_REPLAY = reason(
  "replay",
  "Metadata that would open a session has opened one before: somebody sends it a second time.",
);
export const DROP_UNKNOWN_TENANT = reason(
  "unknown-tenant",
  "The metadata names a tenant that this router's configuration does not have.",
);
export const DROP_UNKNOWN_SERVICE = reason(
  "unknown-service",
  "The metadata names a service that this router's configuration does not have.",
);
export const DROP_SERVICE_MISMATCH = reason(
  "service-mismatch",
  "The metadata's destination is outside the service it names.",
);
export const DROP_CONTROL_UNKNOWN = reason(
  "control-unknown",
  "A control message with a reason this router does not know.",
);
export const DROP_UDP_CHECKSUM = reason(
  "udp-checksum",
  "A packet carried in UDP between routers whose UDP checksum is wrong.",
);
export const DROP_TCP_URGENT = reason(
  "tcp-urgent",
  "A TCP segment with the urgent flag on a path where TCP goes as UDP, which has no place for the urgent pointer.",
);
export const DROP_TCP_IN_UDP = reason(
  "tcp-in-udp",
  "A packet of a TCP session that a peer sends as UDP, and there is no TCP header in it, or an impossible one.",
);
export const DROP_FRAGMENT_MALFORMED = reason(
  "fabric-fragment-malformed",
  "A fabric fragment whose offset or length cannot be right.",
);
export const DROP_FRAGMENT_TABLE_FULL = reason(
  "fabric-fragments-full",
  "A fabric fragment whose packet made room for another: too many are being put together at once.",
);
export const DROP_FRAGMENT_TIMEOUT = reason(
  "fabric-fragment-timeout",
  "A fabric fragment whose other pieces did not arrive in time.",
);

// Forwarding (engine/)
export const DROP_TTL = reason(
  "ttl",
  "The time to live ran out here; hosts get ICMP time exceeded, at a bounded rate.",
);
export const DROP_SLOW_PATH_FULL = reason(
  "slow-path-full",
  "More packets of unknown sessions than the slow path takes in a turn, or than there is time for beside established ones.",
);
export const DROP_STRAY_RING_FULL = reason(
  "stray-ring-full",
  "A frame that belongs to another worker, which was too busy to take it; also copies of ARP messages for the other workers.",
);
export const DROP_EXCEEDS_MTU = reason("exceeds-mtu", "Larger than the MTU of the interface it would leave by.");
export const DROP_HOLD_FULL = reason("hold-full", "Too many frames already wait for this neighbor's address.");
export const DROP_NEIGHBOR_UNREACHABLE = reason("neighbor-unreachable", "The next hop does not answer ARP.");
export const DROP_NEIGHBOR_TABLE_FULL = reason(
  "neighbor-table-full",
  "The neighbor table has no room for another next hop.",
);
export const DROP_TX_FULL = reason("tx-full", "The device's transmit queue would not take the frame.");
export const DROP_TX_ERROR = reason("tx-error", "The device refused the frame (down, gone, or too long for it).");
export const DROP_ICMP_ERROR = reason(
  "icmp-error",
  "An ICMP error that quotes no packet of a session here, or cannot be read; source quench and redirects too.",
);
export const DROP_ICMP_TYPE = reason("icmp-type", "An ICMP message that opens no session: only an echo request does.");

// Path monitoring (wire/bfd.ts, peer/bfd-session.ts)
export const DROP_BFD_LENGTH = reason(
  "bfd-length",
  "A BFD packet cut short, or whose length field says less than its header or more than the packet has.",
);
export const DROP_BFD_VERSION = reason("bfd-version", "A BFD packet of another version than 1.");
export const DROP_BFD_MULTIPLIER = reason(
  "bfd-multiplier",
  "A BFD packet with a detection multiplier of 0: the session could never stay up.",
);
export const DROP_BFD_MULTIPOINT = reason(
  "bfd-multipoint",
  "A BFD packet with the multipoint bit, which RFC 5880 reserves.",
);
export const DROP_BFD_DISCRIMINATOR = reason(
  "bfd-discriminator",
  "A BFD packet without its sender's discriminator, or without ours in a state that knows it (Init, Up).",
);
export const DROP_BFD_AUTHENTICATION = reason(
  "bfd-authentication",
  "A BFD packet with an authentication section of RFC 5880; peers sign with the digest of their security policy instead.",
);
export const DROP_BFD_METADATA = reason(
  "bfd-metadata",
  "A BFD packet of a peer without metadata, or whose metadata lacks the router's name, its node or the sequence number.",
);
export const DROP_BFD_METADATA_UNEXPECTED = reason(
  "bfd-metadata-unexpected",
  "A BFD packet with metadata on a path that is monitored with plain RFC 5881 or 5883.",
);
export const DROP_BFD_TTL = reason(
  "bfd-ttl",
  "A single-hop BFD packet whose TTL is not 255: it was not sent on this link (RFC 5881, 5).",
);
export const DROP_BFD_SESSION = reason(
  "bfd-session",
  "A BFD packet for a discriminator that is not of a session with its sender; after a restart of ours, until the peer notices.",
);
export const DROP_BFD_PEER = reason(
  "bfd-peer",
  "A BFD packet of another router than the peer whose path it came by, or of a second one behind the same NAT: look at the addresses of both.",
);
export const DROP_BFD_ECHO = reason(
  "bfd-echo",
  "A BFD echo that is neither ours come back nor asked for: too many, or not of this peer.",
);
export const DROP_BFD_SEQUENCE = reason(
  "bfd-sequence",
  "A BFD packet that came twice, or later than one sent after it.",
);
export const DROP_BFD_ADMIN_DOWN = reason(
  "bfd-admin-down",
  "A BFD packet for a path that is administratively down on this router.",
);

export const DROP_FIREWALL_TEST = reason(
  "firewall-test",
  "A packet to or from TCP port 1280 or 1283, or a BFD packet of the firewall detector, that is no test and answers none, or came before: also resets of firewalls.",
);

/** Every reason in order; DROP_REASONS[verdict - DROP]. */
export const DROP_REASONS: readonly DropReason[] = reasons;

/** The name of a verdict for people: "ok", "punt", or the drop reason's name. */
export function verdictName(verdict: number): string {
  if (verdict === OK) return "ok";
  if (verdict === CONSUMED) return "consumed";
  if (verdict === HANDED_OVER) return "handed-over";
  if (verdict < DROP) return "punt";
  return reasons[verdict - DROP]?.name ?? "unknown";
}

/** The sentence of a drop reason; an empty string for verdicts that are none. */
export function verdictSentence(verdict: number): string {
  return reasons[verdict - DROP]?.sentence ?? "";
}

// The packets by which two routers find out whether something between them keeps TCP of theirs away (protocol sheet 2.5;
// the form is ours, README.md has it). A burst is numbered, and has at most 24 packets, each with a place of its own:
//
//   place    0 .. 3     4 .. 7      8 .. 11           over TCP: the tests
//            TCP SYN    Mid-flow    TCP SYN Jumbo
//   place   12 .. 15   16 .. 19    20 .. 23           over UDP: the same in everything else, the controls
//
// Each is answered once, over what it came by and at most as long, with the places over TCP that the peer has had of the burst.

/** As operators know them. */
export const TEST_NAMES = ["TCP SYN", "Mid-flow", "TCP SYN Jumbo"] as const;
export const TESTS = TEST_NAMES.length;
/** A SYN with payload, as every session begins. */
export const TEST_SYN = 0;
/** A segment of a connection that nobody has seen begin, as of a session that has moved. */
export const TEST_MID_FLOW = 1;
/** A SYN as long as the path takes. */
export const TEST_JUMBO = 2;

/** Packets of one test in a burst (protocol sheet 2.5). */
export const BURST = 4;
/** The first place that goes over UDP. */
export const CONTROLS = TESTS * BURST;
/** Places of a burst. */
export const PLACES = 2 * CONTROLS;

/** Protocol sheet 2.5: where SYNs go, and answers to them come from; BFD's number, of TCP. */
export const TEST_PORT_SYN = 1280;
/** The same of what is no SYN. */
export const TEST_PORT_MID_FLOW = 1283;
/** Tests come from these ports, each burst from others: below waypoint ports, so that no session has them. */
const SOURCE_PORT_FIRST = 8192;
const SOURCE_PORTS = 8192;

/** How long small tests are: as an answer of the router with the longest name, encrypted and signed, so none is longer. */
export const SMALL_TEST_BYTES = 320;

/** Which test a place is of. */
export function testAt(place: number): number {
  return Math.floor((place % CONTROLS) / BURST);
}

export function isControl(place: number): boolean {
  return place >= CONTROLS;
}

/** Where the test at this place goes to. */
export function testPort(place: number): number {
  return testAt(place) === TEST_MID_FLOW ? TEST_PORT_MID_FLOW : TEST_PORT_SYN;
}

/** Where it comes from: a connection of its own, and none that a firewall knows from bursts before. */
export function testSourcePort(number: number, place: number): number {
  return SOURCE_PORT_FIRST + ((number * CONTROLS + place) % SOURCE_PORTS);
}

/** Whether a TCP packet with these ports, `source << 16 | destination`, may be a test or an answer to one. */
export function isTestPorts(ports: number): boolean {
  return isTestPort(ports & 0xffff) || isTestPort(ports >>> 16);
}

function isTestPort(port: number): boolean {
  return port === TEST_PORT_SYN || port === TEST_PORT_MID_FLOW;
}

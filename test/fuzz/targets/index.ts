// The targets by name, each with what it promises. A target is loaded when it is run, after code is traced.

import type { Target } from "../fuzzer.ts";

interface Entry {
  /** What no input may change. */
  readonly promise: string;
  /** It runs the addon, as test/sanitize/build.sh makes it for fuzzing. */
  readonly isNative?: boolean;
  /** Files of the corpus are named for the outcome, and the outcome is fixed by what others wrote. */
  readonly isNamedForOutcome?: boolean;
  load(): Promise<Target>;
}

export const TARGETS: Readonly<Record<string, Entry>> = {
  frame: {
    promise: "no frame makes the decoder throw, look past its end or differ from its slow twin",
    isNamedForOutcome: true,
    load: async () => (await import("./frame.ts")).target,
  },
  metadata: {
    promise: "no metadata makes its parser throw or look past the end, and what it says survives being written again",
    load: async () => (await import("./metadata.ts")).target,
  },
  "from-lan": {
    promise: "no frames from a LAN make a router throw, lose a frame or a session, or send what is no frame",
    load: async () => (await import("./engine.ts")).fromLan,
  },
  "from-peer": {
    promise: "no frames from a peer's address make a router throw or lose a session, nor a stranger's touch one",
    load: async () => (await import("./engine.ts")).fromPeer,
  },
  ipv6: {
    promise:
      "no frames of IPv6 make a router throw, lose a frame or a session, make more names than there are addresses, or send what is no IPv6",
    load: async () => (await import("./ipv6.ts")).target,
  },
  keys: {
    promise: "nothing sent without the keys touches a session, and nothing with them makes a router throw",
    load: async () => (await import("./keys.ts")).target,
  },
  config: {
    promise: "no configuration is refused without a place and a mend, and each that is accepted makes a router",
    load: async () => (await import("./config.ts")).target,
  },
  admin: {
    promise: "every request to the control socket has its answer, and none is the last",
    load: async () => (await import("./admin.ts")).target,
  },
  capture: {
    promise: "no capture file makes the reader leave its memory, or give other frames to another memory",
    isNative: true,
    load: async () => (await import("./capture.ts")).target,
  },
  rows: {
    promise: "no columns make the addon's digests, ciphers and sums leave their memory or differ from their plain twin",
    isNative: true,
    load: async () => (await import("./rows.ts")).target,
  },
  vnet: {
    promise: "no virtio_net_hdr makes the af-packet port leave its memory or tell the kernel what it refuses",
    isNative: true,
    load: async () => (await import("./vnet.ts")).target,
  },
};

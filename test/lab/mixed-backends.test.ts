import { hostSuite } from "./host-suite.ts";

// One router takes frames from af-packet to libpcap, the other from libpcap to af-packet.
hostSuite("two-routers", {
  backends: { west: { lan: "af-packet", wan: "libpcap" }, east: { lan: "libpcap", wan: "af-packet" } },
  plainWires: true,
});

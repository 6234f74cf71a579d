import { hostSuite } from "./host-suite.ts";

const both = { lan: "af-packet", wan: "af-packet" } as const;

// What the routers leave to the kernel, the kernel finishes before the wire, where tshark judges it.
hostSuite("two-routers", { backends: { west: both, east: both }, plainWires: true });

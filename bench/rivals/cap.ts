// The job by the npm package `cap`, which captures and injects: one callback and one pcap_sendpacket a frame, both on
// the one buffer it fills. Its documented way, an EventEmitter, is bypassed: the addon calls whatever `emit` it finds on
// its object, and 7 % of the frames more get through when that is ours. Takes the arguments of reference/forward.c.

import { createRequire } from "node:module";
import { forwardFrame, RING_BYTES, SNAPLEN, takeEnds } from "./job.ts";

interface Capture {
  open(device: string, filter: string, bufferBytes: number, buffer: Buffer): string;
  send(buffer: Buffer, length: number): void;
}

// It has no types of its own.
const { Cap } = createRequire(import.meta.url)("cap") as { Cap: new () => Capture };

const { ends, flows } = takeEnds(process.argv.slice(2));
const captures = ends.map(({ device, mac }, row) => {
  const frame = Buffer.alloc(SNAPLEN);
  class Direct extends Cap {
    emit(_event: string, length: number): void {
      const route = forwardFrame(flows, row, frame, length);
      if (route !== undefined) captures[route.device].send(frame, length);
    }
  }
  const capture = new Direct();
  capture.open(device, `ip and ether dst ${mac}`, RING_BYTES, frame);
  return capture;
});
console.log("ready");

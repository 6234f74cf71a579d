// A port on a Linux network device, through a packet socket that hands over super-frames and partial checksums as the
// kernel has them (PACKET_VNET_HDR): what a sender left to hardware stays left to hardware, all the way through. GRO and
// LRO stay on, for here every super-frame saves work.
//
// TypeScript does nothing for each frame. The kernel takes whatever the columns describe; what it cannot take (a
// super-frame with a finished checksum, or one it refuses) is finished in software, by the same code as for libpcap.

import { takeChecksumBack } from "../wire/offload.ts";
import { type DevicePortOptions, NativePort } from "./device-port.ts";
import { native } from "./native.ts";
import { FRAME_CHECKSUM_PARTIAL, type FrameBatch } from "./port.ts";
import { WireFrames } from "./wire-frames.ts";

export interface AfPacketPortOptions extends DevicePortOptions {
  /** How much may wait in the kernel, as its own accounting has it: a short frame counts for up to 1,280 bytes. */
  readonly bufferBytes?: number;
}

const RECEIVE_BYTES = 32 << 20;
/** Frames received at once. Only what is used of a slot is ever real memory. */
const SLOTS = 64;

export class AfPacketPort extends NativePort {
  override readonly framesMax = SLOTS;
  readonly takesSuperFrames = true;
  readonly #wire: WireFrames;
  /** Where portTxOffload stopped, and whether the kernel had refused that row. */
  readonly #stopped = new Int32Array(2);

  /** Throws an Error with `.code`: ENODEV, EPERM, ENETDOWN, ELINKTYPE, EFILTER, or EOFFLOAD where libpcap must do. */
  constructor(options: AfPacketPortOptions) {
    super(options, SLOTS * native().packetSlotBytes, (addon, { filter, deviceMtu, mtu }) =>
      addon.packetOpen(
        options.device,
        filter,
        deviceMtu,
        mtu,
        options.bufferBytes ?? RECEIVE_BYTES,
        options.promiscuous ?? false,
      ),
    );
    this.#wire = new WireFrames(this.facts.mtu, this.counted, (bytes, offset, length, from, to) =>
      this.native.portTx(this.handle, bytes, offset, length, from, to),
    );
  }

  tx(batch: FrameBatch, from: number, to: number): number {
    if (this.closed) return 0;
    const { bytes, offset, length, flags, segmentSize } = batch;
    const stopped = this.#stopped;
    let sent = 0;
    for (let row = from; row < to; ) {
      sent += this.native.portTxOffload(this.handle, bytes, offset, length, flags, segmentSize, row, to, stopped);
      row = stopped[0];
      if (row === to) break;
      if (stopped[1] === 0 && makePartial(batch, row)) continue;
      sent += this.#wire.tx(batch, row, row + 1);
      row++;
    }
    return sent;
  }
}

/** Take back the checksum of a super-frame, which only the kernel's own partial one lets it cut. False when it is wrong: the damage must stay. */
function makePartial(batch: FrameBatch, row: number): boolean {
  if (!takeChecksumBack(batch.bytes, batch.offset[row], batch.length[row])) return false;
  batch.flags[row] |= FRAME_CHECKSUM_PARTIAL;
  return true;
}

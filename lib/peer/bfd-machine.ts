// The states of a BFD session (RFC 5880, 6.2, 6.8.4, 6.8.6, 6.8.16), as one function without anything beside it.
//
//             received   AdminDown   Down    Init    Up      detection time passed
//   AdminDown            ·           ·       ·       ·       ·                           enabled: Down
//   Down                 ·           Init    Up      ·       ·                           disabled: AdminDown
//   Init                 Down        ·       Up      Up      Down                        disabled: AdminDown
//   Up                   Down        Down    ·       ·       Down                        disabled: AdminDown
//
// The diagnostic tells the peer why the session last went down, so on the way up it is kept until Up.

import {
  BFD_ADMIN_DOWN,
  BFD_DOWN,
  BFD_INIT,
  BFD_UP,
  DIAGNOSTIC_ADMIN_DOWN,
  DIAGNOSTIC_DETECTION_TIME,
  DIAGNOSTIC_NEIGHBOR_DOWN,
  DIAGNOSTIC_NONE,
} from "../wire/bfd.ts";

// Events. The first four are the state a packet came with.
export const RECEIVED_ADMIN_DOWN = BFD_ADMIN_DOWN;
export const RECEIVED_DOWN = BFD_DOWN;
export const RECEIVED_INIT = BFD_INIT;
export const RECEIVED_UP = BFD_UP;
export const DETECTION_TIME_PASSED = 4;
export const DISABLED = 5;
export const ENABLED = 6;

/** Where an event leads, and the diagnostic from then on; DIAGNOSTIC_KEPT = the one before. */
export interface Transition {
  readonly state: number;
  readonly diagnostic: number;
}

export const DIAGNOSTIC_KEPT = -1;

const toAdminDown: Transition = { state: BFD_ADMIN_DOWN, diagnostic: DIAGNOSTIC_ADMIN_DOWN };
const enabled: Transition = { state: BFD_DOWN, diagnostic: DIAGNOSTIC_KEPT };
const toInit: Transition = { state: BFD_INIT, diagnostic: DIAGNOSTIC_KEPT };
const toUp: Transition = { state: BFD_UP, diagnostic: DIAGNOSTIC_NONE };
const neighborDown: Transition = { state: BFD_DOWN, diagnostic: DIAGNOSTIC_NEIGHBOR_DOWN };
const timedOut: Transition = { state: BFD_DOWN, diagnostic: DIAGNOSTIC_DETECTION_TIME };

/** Where `event` leads from `state`; undefined when state and diagnostic stay as they are. */
export function nextBfdState(state: number, event: number): Transition | undefined {
  if (event === DISABLED) return state === BFD_ADMIN_DOWN ? undefined : toAdminDown;
  switch (state) {
    case BFD_ADMIN_DOWN:
      // Packets are discarded, and there is no detection time.
      return event === ENABLED ? enabled : undefined;
    case BFD_DOWN:
      if (event === RECEIVED_DOWN) return toInit;
      return event === RECEIVED_INIT ? toUp : undefined;
    case BFD_INIT:
      if (event === RECEIVED_INIT || event === RECEIVED_UP) return toUp;
      if (event === RECEIVED_ADMIN_DOWN) return neighborDown;
      return event === DETECTION_TIME_PASSED ? timedOut : undefined;
    case BFD_UP:
      if (event === RECEIVED_DOWN || event === RECEIVED_ADMIN_DOWN) return neighborDown;
      return event === DETECTION_TIME_PASSED ? timedOut : undefined;
    default:
      return undefined;
  }
}

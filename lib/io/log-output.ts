import { constants, fstatSync, openSync, writeSync } from "node:fs";
import type { Put } from "../base/log.ts";
import { native } from "./native.ts";

const STANDARD_ERROR = 2;
const { O_APPEND, O_NOCTTY, O_NONBLOCK, O_WRONLY } = constants;

/**
 * The log's lines to what `fd` is, standard error unless told, without waiting for its reader: a descriptor that does not wait is opened for it, because that
 * of others who have `fd` too may wait. Where that is not permitted, and `fd` is no socket, a write may wait.
 */
export function logOutput(fd = STANDARD_ERROR): Put {
  if (fstatSync(fd).isSocket()) {
    const { sendNow } = native();
    return (bytes, from) => sendNow(fd, bytes, from);
  }
  const own = reopened(fd) ?? fd;
  return (bytes, from) => writeSync(own, bytes, from);
}

function reopened(fd: number): number | null {
  try {
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
  } catch {
    return null;
  }
}

import { type Logger, pino } from "pino";

// The one logger. Fixed field names, so that a line can be searched for: interface, peer, service, tenant, uuid,
// reason, error. Never called per packet: packets are counted, not logged.

export type Log = Logger;

/** A logger that writes JSON lines to standard error, so that standard output stays free for data. `level` as in pino. */
export function createLog(level: string): Log {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination(2));
}

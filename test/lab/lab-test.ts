import test, { type ExecutionContext } from "ava";
import { labUnavailable } from "./lab.ts";

/** Why this machine can open no lab; undefined when it can. */
export const missing = labUnavailable();

/** A serial test that needs a lab: skipped with the reason where none can be opened. */
export function labTest(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (missing === undefined) test.serial(title, body);
  else test.skip(`${title} (skipped: ${missing})`, body);
}

/** A test that is not run, for the reason that its title gives. */
labTest.skip = (title: string, body: (t: ExecutionContext) => Promise<void>): void => {
  test.skip(title, body);
};

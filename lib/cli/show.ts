import { setTimeout as sleep } from "node:timers/promises";
import { Argument, Command } from "commander";
import { askRouter } from "../control/admin-socket.ts";
import { counterReference } from "../control/metrics.ts";
import { printAnswer, printCounterReference, SHOW_RESOURCES, type ShowResource } from "../control/show.ts";
import { CommandError, type Context, readText } from "./context.ts";

const EXAMPLES = `
Asks the running router. --socket PATH, or control.socket of the configuration, or /run/waymark.sock
says which one.

Examples:
  waymark show sessions
  waymark show sessions -c west.yaml --json
  waymark show interfaces --watch
  waymark show counters --describe         # what each counter means; needs no router`;

const WATCH_INTERVAL_MS = 1_000;
const CLEAR_SCREEN = "\x1b[H\x1b[2J";

interface Options {
  config?: string;
  socket?: string;
  watch?: true;
  json?: true;
  describe?: true;
}

export function showCommand(context: Context): Command {
  return new Command("show")
    .description("show what a running router holds")
    .addArgument(new Argument("<what>", "what to show").choices(SHOW_RESOURCES))
    .option("-c, --config <file>", "configuration of the router to ask")
    .option("--socket <path>", "socket of the router to ask")
    .option("--watch", "ask again every second until interrupted")
    .option("--describe", "counters only: print each counter's name and meaning")
    .option("--json", "print the router's answer as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (what: ShowResource, options: Options, command: Command) => {
      if (options.describe && what !== "counters") command.error("error: --describe goes with counters only");
      if (options.describe) return describeCounters(context, options.json === true);
      const socket = await socketOf(options);
      do {
        const answer = await askRouter(socket, what);
        const text = options.json ? `${JSON.stringify(answer)}\n` : printChecked(what, answer, socket);
        if (!options.watch || options.json) context.out(text);
        else context.out(context.isTerminal ? `${CLEAR_SCREEN}${text}` : `${text}\n`);
        if (options.watch) await sleep(WATCH_INTERVAL_MS);
      } while (options.watch);
    });
}

function describeCounters(context: Context, json: boolean): void {
  context.out(json ? `${JSON.stringify(counterReference, null, 2)}\n` : printCounterReference(counterReference));
}

/** The socket that -c or --socket names. */
export async function socketOf(options: { socket?: string; config?: string }): Promise<string> {
  if (options.socket !== undefined) return options.socket;
  const { DEFAULT_SOCKET, readSocketPath } = await import("../control/config-source.ts");
  return options.config === undefined ? DEFAULT_SOCKET : readSocketPath(readText(options.config), options.config);
}

function printChecked(what: ShowResource, answer: object, socket: string): string {
  try {
    return printAnswer(what, answer);
  } catch {
    throw new CommandError(`what the router at ${socket} answered is not a list of ${what}: is it another version?`);
  }
}

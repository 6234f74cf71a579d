import { Command, InvalidArgumentError } from "commander";
import { TextError } from "../control/address-text.ts";
import { askRouter } from "../control/admin-socket.ts";
import type { Explanation, Step } from "../control/explain.ts";
import type { DropExplanation, SessionExplanation } from "../control/explain-live.ts";
import { type PacketDescription, parsePacket } from "../control/packet-text.ts";
import { printDuration } from "../control/show.ts";
import { CommandError, type Context, loadConfig, requireInterface } from "./context.ts";
import { socketOf } from "./show.ts";

const EXAMPLES = `
--packet: what would happen to it. PACKET is 'tcp|udp ADDRESS:PORT > ADDRESS:PORT' (of IPv6 [ADDRESS]:PORT) or
'icmp ADDRESS > ADDRESS'; behind a tcp packet may stand flags (syn ack fin rst psh urg), without them it is a SYN.
It goes through a fresh engine of the configuration: nothing is sent, and no running router is asked.

--session, --drop: ask the running router, which -c or --socket names. ID is the begin of a session's identifier, as
long as no other session has it, or its addresses as hosts or a wire have them: 'udp 10.1.0.2:40000 > 10.2.0.2:53'.
REASON is what show drops lists: its last packet, what was decided about it then, and what would be decided now.

Examples:
  waymark explain -c west.yaml --rx lan0 --packet 'tcp 10.1.0.2:40000 > 10.2.0.2:443'
  waymark explain -c west.yaml --rx lan0 --packet 'tcp 10.1.0.2:40000 > 10.2.0.2:443 ack'
  waymark explain -c west.yaml --rx lan0 --packet 'icmp 10.1.0.2 > 10.2.0.2' --json
  waymark explain --session 6a32b132
  waymark explain --session 'udp 198.18.0.1:16510 > 198.18.0.2:16511'
  waymark explain --drop route-loop`;

interface Options {
  config?: string;
  socket?: string;
  rx?: string;
  packet?: PacketDescription;
  session?: string;
  drop?: string;
  json?: true;
}

export function explainCommand(context: Context): Command {
  return new Command("explain")
    .description("say what would happen to a packet, what becomes of a live session's, or why packets were dropped")
    .option("-c, --config <file>", "configuration file")
    .option("--socket <path>", "socket of the router to ask")
    .option("--rx <IF>", "interface that the packet enters")
    .option("--packet <packet>", "the packet, such as 'udp 10.1.0.2:5000 > 10.2.0.2:53'", parsePacketOption)
    .option("--session <ID>", "a session of the running router")
    .option("--drop <REASON>", "the last packet that the running router dropped for this reason")
    .option("--json", "print verdict and steps as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options, command: Command) => {
      const { packet, session, drop } = options;
      const asked = [packet, session, drop].filter((each) => each !== undefined).length;
      if (asked !== 1) command.error("error: write one of --packet, --session and --drop");
      if (packet !== undefined) return explainPacket(context, { ...options, packet }, command);
      if (options.rx !== undefined) command.error("error: --rx goes with --packet only");
      const query = new URLSearchParams(session !== undefined ? { session } : { drop: drop ?? "" });
      const socket = await socketOf(options);
      const answer = await askRouter(socket, `explain?${query}`);
      context.out(options.json ? `${JSON.stringify(answer, null, 2)}\n` : printChecked(answer, socket));
    });
}

async function explainPacket(
  context: Context,
  { config: file, socket, rx, packet, json }: Options & { packet: PacketDescription },
  command: Command,
): Promise<void> {
  if (file === undefined) command.error("error: --packet needs -c FILE");
  if (rx === undefined) command.error("error: --packet needs --rx IF");
  if (socket !== undefined) command.error("error: --socket goes with --session and --drop only");
  const config = await loadConfig(context, file);
  requireInterface(config, rx);
  const { explainPacket } = await context.loadRouter();
  const explanation = await explainPacket(config, { interface: rx, packet });
  context.out(json ? `${JSON.stringify(explanation, null, 2)}\n` : printExplanation(explanation));
}

function parsePacketOption(text: string): PacketDescription {
  try {
    return parsePacket(text);
  } catch (error) {
    if (!(error instanceof TextError)) throw error;
    throw new InvalidArgumentError(`${error.message}: ${error.mend}.`);
  }
}

function printExplanation({ verdict, steps }: Explanation): string {
  return `${printSteps(steps)}verdict: ${verdict}\n`;
}

function printSteps(steps: readonly Step[]): string {
  const width = steps.reduce((widest, { step }) => Math.max(widest, step.length), 0);
  const lines = steps.map(({ step, outcome, reason }, index) => {
    const why = reason === "" ? "" : `: ${reason}`;
    return `${String(index + 1).padStart(2)}. ${step.padEnd(width)}  ${outcome}${why}\n`;
  });
  return lines.join("");
}

function printChecked(answer: object, socket: string): string {
  try {
    return "session" in answer ? printSession(answer as SessionExplanation) : printDrop(answer as DropExplanation);
  } catch {
    throw new CommandError(`what the router at ${socket} answered is no explanation: is it another version?`);
  }
}

function printSession({ worker, steps }: SessionExplanation): string {
  return `${printSteps(steps)}${worker === undefined ? "" : `worker: ${worker}\n`}`;
}

function printDrop({ drop, count, sentence, sample }: DropExplanation): string {
  const head = `drop.${drop}: ${count} ${count === 1 ? "packet" : "packets"}. ${sentence}\n`;
  if (sample === null) return `${head}Of none the frame was at hand when it was counted.\n`;
  const { agoMs, steps, now, worker } = sample;
  const where = worker === undefined ? "" : `, by worker ${worker}`;
  return `${head}
The last one, ${printDuration(agoMs)} ago${where}, as it was decided then:
${printSteps(steps)}
What this router would decide about it now:
${printSteps(now.steps)}verdict: ${now.verdict}
`;
}

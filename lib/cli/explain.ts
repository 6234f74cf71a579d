import { Command, InvalidArgumentError } from "commander";
import { TextError } from "../control/address-text.ts";
import type { Explanation } from "../control/explain.ts";
import { type PacketDescription, parsePacket } from "../control/packet-text.ts";
import { type Context, loadConfig, requireInterface } from "./context.ts";

const EXAMPLES = `
PACKET is 'tcp|udp ADDRESS:PORT > ADDRESS:PORT' (of IPv6 [ADDRESS]:PORT) or 'icmp ADDRESS > ADDRESS'; behind a tcp packet may stand
flags (syn ack fin rst psh urg), without them it is a SYN. Nothing is sent, and no running router is asked.

Examples:
  waymark explain -c west.yaml --rx lan0 --packet 'tcp 10.1.0.2:40000 > 10.2.0.2:443'
  waymark explain -c west.yaml --rx lan0 --packet 'tcp 10.1.0.2:40000 > 10.2.0.2:443 ack'
  waymark explain -c west.yaml --rx lan0 --packet 'icmp 10.1.0.2 > 10.2.0.2' --json`;

export function explainCommand(context: Context): Command {
  return new Command("explain")
    .description("say what would happen to a packet, step by step")
    .requiredOption("-c, --config <file>", "configuration file")
    .requiredOption("--rx <IF>", "interface that the packet enters")
    .requiredOption("--packet <packet>", "the packet, such as 'udp 10.1.0.2:5000 > 10.2.0.2:53'", parsePacketOption)
    .option("--json", "print verdict and steps as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async (options: { config: string; rx: string; packet: PacketDescription; json?: true }) => {
      const config = await loadConfig(context, options.config);
      requireInterface(config, options.rx);
      const { explainPacket } = await context.loadRouter();
      const explanation = await explainPacket(config, { interface: options.rx, packet: options.packet });
      context.out(options.json ? `${JSON.stringify(explanation, null, 2)}\n` : printExplanation(explanation));
    });
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
  const width = steps.reduce((widest, { step }) => Math.max(widest, step.length), 0);
  const lines = steps.map(({ step, outcome, reason }, index) => {
    const why = reason === "" ? "" : `: ${reason}`;
    return `${String(index + 1).padStart(2)}. ${step.padEnd(width)}  ${outcome}${why}`;
  });
  return `${[...lines, `verdict: ${verdict}`].join("\n")}\n`;
}

import { Command } from "commander";
import { CommandError, type Context, countProblems, readText } from "./context.ts";

const EXAMPLES = `
Prints every problem as FILE:LINE:COL  path  what is wrong  how to mend it.
Exits 0 when the configuration can be used (warnings allowed) and 1 when it cannot.

Examples:
  waymark check -c /etc/waymark/west.yaml
  waymark check -c west.yaml --json`;

export function checkCommand(context: Context): Command {
  return new Command("check")
    .description("validate a configuration and print every problem")
    .requiredOption("-c, --config <file>", "configuration file")
    .option("--json", "print the problems as JSON")
    .addHelpText("after", EXAMPLES)
    .action(async ({ config: file, json }: { config: string; json?: true }) => {
      const { parseConfig, formatProblem } = await import("../control/config.ts");
      const { config, problems } = parseConfig(readText(file), file);
      const ok = config !== null;
      if (json) context.out(`${JSON.stringify({ file, ok, problems }, null, 2)}\n`);
      else for (const problem of problems) context.out(`${formatProblem(problem)}\n`);
      if (!ok) throw new CommandError(`${file} cannot be used: ${countProblems(problems)}`);
      if (!json) context.out(`${file} can be used: ${countProblems(problems)}\n`);
    });
}

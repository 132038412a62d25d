import type { Command } from "commander";
import { type CommandLine, examples } from "../commandLine.ts";

const shells = ["bash", "zsh", "fish"] as const;
type Shell = (typeof shells)[number];

interface Words {
  /** The commands that lead here: `env set`. */
  readonly path: string;
  readonly words: readonly string[];
}

export function addCompletionCommand(program: Command, line: CommandLine): void {
  program
    .command("completion")
    .description("print a shell's completion script")
    .addArgument(program.createArgument("<SHELL>").choices(shells))
    .addHelpText(
      "after",
      examples(
        "bash: source <(lode completion bash)",
        "zsh:  source <(lode completion zsh)",
        "fish: lode completion fish | source",
      ),
    )
    .action((shell: Shell) => {
      const words = wordsOf(program, "");
      line.context.stdout.write(shell === "fish" ? fishScript(words) : bashScript(words, shell));
    });
}

function wordsOf(command: Command, path: string): readonly Words[] {
  const names = command.commands.filter((child) => child.name() !== "help");
  const options = command.options
    .filter((option) => !option.hidden)
    .flatMap((option) => option.long ?? []);
  return [
    { path, words: [...names.map((child) => child.name()), ...options, "--help"] },
    ...names.flatMap((child) => wordsOf(child, `${path} ${child.name()}`.trim())),
  ];
}

/** App names are completed too; without a cloud there are none. */
function bashScript(all: readonly Words[], shell: "bash" | "zsh"): string {
  const cases = all
    .map(
      ({ path, words }) =>
        `    ${JSON.stringify(path)}) words=${JSON.stringify(words.join(" "))} ;;`,
    )
    .join("\n");
  const paths = all.map(({ path }) => path).filter((path) => path !== "");
  const prefix = shell === "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "";
  return `${prefix}_lode() {
  local current=\${COMP_WORDS[COMP_CWORD]} path="" word next words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    next="\${path:+$path }$word"
    case "$next" in
      ${paths.map((path) => JSON.stringify(path)).join("|")}) path=$next ;;
    esac
  done
  case "$path" in
${cases}
  esac
  if [ -n "$path" ] && [ "\${current#-}" = "$current" ]; then
    words="$words $(lode apps --quiet 2>/dev/null)"
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _lode lode
`;
}

function fishScript(all: readonly Words[]): string {
  const top = all.find(({ path }) => path === "")?.words ?? [];
  const commands = top.filter((word) => !word.startsWith("-"));
  const lines = [
    "complete -c lode -f",
    `complete -c lode -n __fish_use_subcommand -a ${JSON.stringify(commands.join(" "))}`,
    "complete -c lode -n 'not __fish_use_subcommand' -a '(lode apps --quiet 2>/dev/null)'",
    "complete -c lode -n '__fish_seen_subcommand_from deploy' -F",
  ];
  for (const { path, words } of all) {
    if (path === "") continue;
    const seen = path
      .split(" ")
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join("; and ");
    for (const word of words) {
      const what = word.startsWith("--") ? `-l ${word.slice(2)}` : `-a ${word}`;
      lines.push(`complete -c lode -n '${seen}' ${what}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

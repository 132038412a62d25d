import type { Command } from "../release.ts";

/** Folders of installed commands, as the program sees them. */
export interface CommandFolders {
  readonly nodeModules: boolean;
  readonly venv: boolean;
}

/** Where every program finds its release. */
export const releaseRoot = "/app";

/** A line as its author means it: with the commands of its own dependencies on PATH. */
export function shellCommand(line: string, folders: CommandFolders): Command {
  const paths: string[] = [];
  if (folders.venv) paths.push(`${releaseRoot}/.venv/bin`);
  if (folders.nodeModules) paths.push(`${releaseRoot}/node_modules/.bin`);
  const prefix = paths.length === 0 ? "" : `export PATH="${paths.join(":")}:$PATH"; `;
  return { kind: "shell", line: `${prefix}${withExec(line)}` };
}

const keywords = /^(?:if|then|else|elif|fi|for|do|done|while|until|case|esac|\{|!)$/;
const builtins = /^(?:cd|export|set|unset|eval|exec|source|\.|trap|wait|read|exit|umask|:)$/;

/**
 * The last command of a plain list is exec'd, so that signals reach the program and no shell
 * stays in memory. Whatever is not surely plain is left as it is.
 */
function withExec(line: string): string {
  // What is quoted cannot end a command; the length stays, so positions do.
  const bare = line.replace(/"(?:\\.|[^"\\])*"|'[^']*'/g, (quoted) => "q".repeat(quoted.length));
  if (/["'`|()#\n\\]|(?:^|[^&])&(?:[^&]|$)/.test(bare)) return line;
  const firsts = bare.split(/&&|;/).map((command) => command.trim().split(/\s+/)[0] ?? "");
  if (firsts.some((first) => keywords.test(first))) return line;
  const last = firsts.at(-1) ?? "";
  if (!/^[\w./@%+,:-]+$/.test(last) || builtins.test(last)) return line;
  const head = line.slice(0, /^.*(?:&&|;)/.exec(bare)?.[0].length ?? 0);
  return `${head}${head === "" ? "" : " "}exec ${line.slice(head.length).trimStart()}`;
}

/** A word that the shell reads back as exactly this text. */
export function shellWord(text: string): string {
  return /^[\w./@%+,:=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

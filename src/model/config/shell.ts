import type { Command } from "../release.ts";

/** Folders of installed commands, as the program sees them. */
export interface CommandFolders {
  readonly nodeModules: boolean;
  readonly venv: boolean;
}

/** Where every program finds its release. */
export const releaseRoot = "/app";

/**
 * A line as its author means it: with the commands of its own dependencies on PATH. A simple
 * command is exec'd, so that signals reach the program and no shell stays in memory.
 */
export function shellCommand(line: string, folders: CommandFolders): Command {
  const paths: string[] = [];
  if (folders.venv) paths.push(`${releaseRoot}/.venv/bin`);
  if (folders.nodeModules) paths.push(`${releaseRoot}/node_modules/.bin`);
  const prefix = paths.length === 0 ? "" : `export PATH="${paths.join(":")}:$PATH"; `;
  return { kind: "shell", line: `${prefix}${isSimple(line) ? "exec " : ""}${line}` };
}

const builtins = /^(?:cd|export|set|unset|eval|exec|source|\.|if|for|while|case|until|trap|:)$/;

/** One command with plain words and expansions: nothing that needs the shell to stay. */
function isSimple(line: string): boolean {
  const [first = ""] = line.split(/\s+/);
  const plain = /^[\w./@%+,:-]+$/.test(first) && !builtins.test(first);
  return plain && !/[;&|<>()`\n!]|\$\(/.test(line);
}

/** A word that the shell reads back as exactly this text. */
export function shellWord(text: string): string {
  return /^[\w./@%+,:=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

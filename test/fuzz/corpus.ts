import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One way to be out of step, as a file: a comment on what it tries, then its bytes. */
export interface Seed {
  readonly name: string;
  readonly text: string;
}

const folder = join(import.meta.dir, "corpus");
const escapes: Readonly<Record<string, string>> = { r: "\r", n: "\n", t: "\t", "\\": "\\" };

/**
 * The bytes that a file describes: line ends of the file itself are none of them, `\r`, `\n`,
 * `\t`, `\xNN` and `\\` are what they say, and `{a*100}` is a hundred times `a`.
 */
export function bytesOf(file: string): string {
  return file
    .replace(/^#.*\n/gm, "")
    .replaceAll("\n", "")
    .replace(/\{(.)\*(\d+)\}/g, (_, piece: string, times: string) => piece.repeat(Number(times)))
    .replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, code?: string, letter?: string) =>
      code === undefined
        ? (escapes[letter ?? ""] ?? "")
        : String.fromCharCode(Number.parseInt(code, 16)),
    );
}

/** In the order of their names, so that a run can be repeated. */
export function loadCorpus(kind: "requests" | "answers"): readonly Seed[] {
  return readdirSync(join(folder, kind))
    .sort()
    .map((file) => ({
      name: file.replace(/\.txt$/, ""),
      text: bytesOf(readFileSync(join(folder, kind, file), "utf8")),
    }));
}

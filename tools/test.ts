// `npm test`: unit tests beside the code, then test/ (real clouds on this machine). The arguments,
// if any, are files or folders to run instead. The last line is the sum of all runs.

import { join } from "node:path";

const root = join(import.meta.dir, "..");

interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Runs one group with its output shown as it comes; the counts are in the runner's summary. */
async function runGroup(title: string, paths: readonly string[]): Promise<Tally> {
  process.stdout.write(`\n── ${title} ──\n`);
  const child = Bun.spawn([join(root, "tools/bun"), "test", ...paths], {
    cwd: root,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "pipe",
    env: { ...process.env, ...(process.stderr.isTTY ? { FORCE_COLOR: "1" } : {}) },
  });
  let tail = "";
  for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
    process.stderr.write(chunk);
    tail = (tail + chunk).slice(-4000);
  }
  const code = await child.exited;
  const plain = Bun.stripANSI(tail);
  const count = (word: string) => {
    const found = [...plain.matchAll(new RegExp(`^\\s*(\\d+) ${word}$`, "gm"))];
    return Number(found.at(-1)?.[1] ?? 0);
  };
  const failed = count("fail") + count("errors?");
  // A runner that died before its summary has failed, whatever it counted.
  return {
    passed: count("pass"),
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: count("skip"),
  };
}

const chosen = process.argv.slice(2);
const groups: readonly (readonly [string, readonly string[]])[] =
  chosen.length > 0
    ? [["chosen tests", chosen]]
    : [
        ["unit tests", ["./src", "./tools"]],
        ["end to end, on this machine", ["./test"]],
      ];
const tallies: Tally[] = [];
for (const [title, paths] of groups) tallies.push(await runGroup(title, paths));
const sum = (pick: (tally: Tally) => number) =>
  tallies.reduce((total, tally) => total + pick(tally), 0);
const failed = sum((tally) => tally.failed);
const skipped = sum((tally) => tally.skipped);
process.stdout.write(
  `\n${sum((tally) => tally.passed)} passed, ${failed} failed` +
    `${skipped > 0 ? `, ${skipped} skipped` : ""}\n`,
);
process.exit(failed === 0 ? 0 : 1);

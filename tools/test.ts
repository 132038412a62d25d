// `npm test`: what `npm run check` checks, unit tests beside the code, then test/ (real clouds on
// this machine). Arguments are files or folders to run instead. The last line is the sum.

import { join } from "node:path";

const root = join(import.meta.dir, "..");
const bun = join(root, "tools/bun");

interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

interface Group {
  readonly title: string;
  readonly argv: readonly string[];
  /** How the group's own output counts, each at the beginning of a line. */
  readonly passed: RegExp;
  readonly failed: RegExp;
}

function tests(title: string, ...paths: readonly string[]): Group {
  // No test measures speed: the limit only ends one that hangs.
  const argv = [bun, "test", "--timeout=60000", ...paths];
  return { title, argv, passed: /^ *(\d+) pass$/gm, failed: /^ *(\d+) (?:fail|errors?)$/gm };
}

const everything: readonly Group[] = [
  {
    title: "format, lint, types, architecture",
    argv: [bun, "tools/check.ts"],
    passed: /^passed /gm,
    failed: /^FAILED /gm,
  },
  tests("unit tests", "./src", "./sim", "./bench"),
  tests("end to end, on this machine", "./test"),
];

/** Runs one group with its output shown as it comes. */
async function runGroup(group: Group): Promise<Tally> {
  process.stdout.write(`\n── ${group.title} ──\n`);
  const child = Bun.spawn([...group.argv], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : {}) },
  });
  let tail = "";
  const show = async (output: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const bytes of output) {
      const text = decoder.decode(bytes, { stream: true });
      process.stdout.write(text);
      tail = (tail + text).slice(-8000);
    }
  };
  await Promise.all([show(child.stdout), show(child.stderr)]);
  const code = await child.exited;
  const plain = Bun.stripANSI(tail);
  const sum = (pattern: RegExp) =>
    [...plain.matchAll(pattern)].reduce((total, match) => total + Number(match[1] ?? 1), 0);
  const failed = sum(group.failed);
  // A runner that died before its summary has failed, whatever it counted.
  return {
    passed: sum(group.passed),
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: sum(/^ *(\d+) skip$/gm),
  };
}

const chosen = process.argv.slice(2);
const groups = chosen.length > 0 ? [tests("chosen tests", ...chosen)] : everything;
const tallies: Tally[] = [];
for (const group of groups) tallies.push(await runGroup(group));
const sum = (count: (tally: Tally) => number) =>
  tallies.reduce((total, tally) => total + count(tally), 0);
const failed = sum((tally) => tally.failed);
const skipped = sum((tally) => tally.skipped);
process.stdout.write(
  `\n${sum((tally) => tally.passed)} passed, ${failed} failed` +
    `${skipped > 0 ? `, ${skipped} skipped` : ""}\n`,
);
process.exit(failed === 0 ? 0 : 1);

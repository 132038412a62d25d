import { createColors } from "picocolors";
import type { CliContext } from "./context.ts";
import type { Failure } from "./failure.ts";

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const framePeriodMs = 100;

export interface Printer {
  readonly colors: ReturnType<typeof createColors>;
  /** A line of the command's result. */
  line(text: string): void;
  json(value: unknown): void;
  /** What goes on, for people: lines, with nothing of it under `--json`. */
  progress(text: string): void;
  /** The present step: on a terminal one line that moves, elsewhere nothing. */
  status(text: string | null): void;
  table(columns: readonly string[], rows: readonly (readonly string[])[]): void;
  /** A table in place of what `screen` drew before; off a terminal, below it. */
  screen(head: string, columns: readonly string[], rows: readonly (readonly string[])[]): void;
  failure(failure: Failure): void;
}

/** Results go to standard output, failures to standard error; colours only to terminals. */
export function createPrinter(context: CliContext, asJson: boolean): Printer {
  const { stdout, stderr, env } = context;
  const plain = env["NO_COLOR"] !== undefined && env["NO_COLOR"] !== "";
  const colors = createColors(stdout.isTerminal && !plain);
  const moving = stdout.isTerminal && !asJson && env["TERM"] !== "dumb";
  let statusText: string | null = null;
  let frame = 0;
  let timer: ReturnType<typeof setInterval> | null = null;

  function draw(): void {
    if (statusText === null) return;
    const width = Math.max(10, context.terminal.size().columns - 3);
    const mark = colors.cyan(frames[frame++ % frames.length] ?? "");
    stdout.write(`\r\x1b[K${mark} ${statusText.slice(0, width)}`);
  }

  function write(text: string): void {
    if (statusText !== null) stdout.write("\r\x1b[K");
    stdout.write(`${text}\n`);
    draw();
  }

  return {
    colors,
    line: write,
    json: (value) => write(JSON.stringify(value)),
    progress: (text) => {
      if (!asJson) write(text);
    },
    status(text) {
      if (!moving || text === statusText) return;
      statusText = text;
      if (text === null) {
        if (timer !== null) clearInterval(timer);
        timer = null;
        stdout.write("\r\x1b[K");
        return;
      }
      timer ??= setInterval(draw, framePeriodMs);
      draw();
    },
    table: (columns, rows) => {
      for (const text of tableLines(columns, rows)) write(text.trimEnd());
    },
    screen(head, columns, rows) {
      const lines = [head, ...tableLines(columns, rows)].map((text) => text.trimEnd());
      if (!stdout.isTerminal || env["TERM"] === "dumb") {
        stdout.write(`${lines.join("\n")}\n\n`);
        return;
      }
      const size = context.terminal.size();
      const shown = lines.slice(0, Math.max(2, size.rows - 1));
      const text = shown.map((each) => `${each.slice(0, size.columns)}\x1b[K\n`).join("");
      // Over what is there, then away with the rest: nothing flickers.
      stdout.write(`\x1b[H${text}\x1b[J`);
    },
    failure({ message, remedy, details }) {
      if (asJson) {
        stderr.write(`${JSON.stringify({ error: { message, remedy, details } })}\n`);
        return;
      }
      const red = createColors(stderr.isTerminal && !plain).red;
      for (const detail of details) stderr.write(`  ${detail}\n`);
      stderr.write(`${red("error:")} ${message}${remedy === null ? "" : `; ${remedy}`}\n`);
    },
  };
}

function tableLines(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const all = [columns.map((column) => column.toUpperCase()), ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => row[index]?.length ?? 0)));
  return all.map((row) => row.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join("  "));
}

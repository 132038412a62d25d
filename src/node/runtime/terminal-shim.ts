// Runs inside a sandbox, as the app: `bun terminal-shim.ts COLUMNS ROWS ARGV…`. It gives ARGV
// a terminal of the sandbox's own, so that no terminal of the host is ever within reach.
//
// On its standard input come frames of one JSON line each: {"data": base64}, {"columns", "rows"}
// or {"signal"}; its standard output is what the terminal shows.
//
// Self-contained (this text is embedded in the lode executable and written out for apps).

type Frame =
  | { readonly data: string }
  | { readonly columns: number; readonly rows: number }
  | { readonly signal: NodeJS.Signals };

async function main(columns: number, rows: number, argv: readonly string[]): Promise<void> {
  const output = Bun.stdout.writer();
  // Made by the spawn itself, the terminal becomes the program's controlling one; a ready-made
  // `Bun.Terminal` does not, and shells then have no job control.
  const program = Bun.spawn([...argv], {
    terminal: {
      cols: columns,
      rows,
      data: (_terminal, data) => {
        output.write(data);
        output.flush();
      },
    },
  });
  const { terminal } = program;
  if (terminal === undefined) throw new Error("the program got no terminal");

  function apply(frame: Frame): void {
    if ("data" in frame) terminal?.write(Buffer.from(frame.data, "base64"));
    else if ("signal" in frame) program.kill(frame.signal);
    else terminal?.resize(frame.columns, frame.rows);
  }

  const input = (async () => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of Bun.stdin.stream()) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) apply(JSON.parse(line) as Frame);
    }
    // The other side is gone: what a closed window does to its programs.
    program.kill("SIGHUP");
  })();
  input.catch(() => program.kill("SIGHUP"));

  const code = await program.exited;
  // What the program wrote last may still be on its way through the terminal.
  await Bun.sleep(20);
  await output.end();
  process.exit(code);
}

const [columns, rows, ...argv] = process.argv.slice(2);
await main(Number(columns), Number(rows), argv);

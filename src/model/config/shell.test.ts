import { expect, test } from "bun:test";
import { shellCommand, shellWord } from "./shell.ts";

const none = { nodeModules: false, venv: false };

function line(text: string, folders = none): string {
  const command = shellCommand(text, folders);
  return command.kind === "shell" ? command.line : "";
}

test("the last command of a plain list is exec'd", () => {
  expect(line("node server.js --port $PORT")).toBe("exec node server.js --port $PORT");
  expect(line("./server")).toBe("exec ./server");
  expect(line('cp -n "a && b" c && node x')).toBe('cp -n "a && b" c && exec node x');
  expect(line("cd api; node x")).toBe("cd api; exec node x");
  expect(line("a&&b")).toBe("a&& exec b");
  expect(line("a || b && c")).toBe("a || b && c");
});

test("whatever is not plain is left as it is", () => {
  const lines = ["a | b", "(a; b)", "a &", "a > b 2>&1", "cd x", "A=1 b", "if a; then b; fi", "a;"];
  const more = [
    "for i in a; do b; done",
    "`a`",
    "$(a)",
    "a # b",
    "a \\",
    "'a",
    "export A=1",
    "{ a; }",
  ];
  for (const text of [...lines, ...more]) expect(line(text)).toBe(text);
});

test("commands of the dependencies are on PATH", () => {
  expect(line("a", { nodeModules: true, venv: true })).toBe(
    'export PATH="/app/.venv/bin:/app/node_modules/.bin:$PATH"; exec a',
  );
});

test("the shell runs the same with exec as without", () => {
  const lines = [
    "echo one",
    "echo one && echo 'two && three'",
    "false && echo never",
    'echo "a; b"; echo "$0 $X"',
    "cd / && pwd",
    "cd /; pwd",
    "X=2; echo $X",
    "true && false",
    "if true; then echo yes; fi",
    "for i in 1 2; do echo $i; done",
    "echo a | tr a b",
    "echo $((1 + 2))",
  ];
  for (const text of lines) {
    const run = (script: string) => {
      const { exitCode, stdout } = Bun.spawnSync(["sh", "-c", script], { env: { X: "1" } });
      return { exitCode, output: stdout.toString() };
    };
    expect(run(line(text))).toEqual(run(text));
  }
});

test("a word is read back by the shell as it was", () => {
  for (const word of ["plain", "a b", "it's", '"$HOME"', "a;b", "", "*", "\\"]) {
    const { stdout } = Bun.spawnSync(["sh", "-c", `printf %s ${shellWord(word)}`]);
    expect(stdout.toString()).toBe(word);
  }
});

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { exceptions, rules, tidyFaults } from "./tidy.ts";

const root = join(import.meta.dir, "..");

/** Every file that is, or is about to be, in the repository. */
function files(): readonly string[] {
  const listed = Bun.spawnSync(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
    { cwd: root },
  );
  expect(listed.exitCode).toBe(0);
  const paths = listed.stdout.toString().split("\0").filter(Boolean);
  return [...new Set(paths)].filter((path) => existsSync(join(root, path)));
}

test("every file is tidy", async () => {
  const paths = files();
  expect(paths.length).toBeGreaterThan(100);
  const faults: string[] = [];
  for (const path of paths)
    faults.push(...tidyFaults(path, await Bun.file(join(root, path)).text()));
  expect(faults).toEqual([]);
});

test("each exception names a rule and a file that exist", () => {
  for (const [name, paths] of Object.entries(exceptions)) {
    expect(rules.map((rule) => rule.name)).toContain(name);
    for (const path of Object.keys(paths)) expect(existsSync(join(root, path))).toBe(true);
  }
});

test("each rule can fail", () => {
  const failing: readonly (readonly [string, string, string])[] = [
    ["line-length", "a.ts", `const a = ${"1 + ".repeat(30)}1;`],
    ["line-length", "a.test.ts", `const a = ${"1 + ".repeat(30)}1;`],
    ["leftover", "a.md", "TODO later"],
    ["leftover", "src/a.ts", "// FIXME"],
    ["machine-path", "a.json", '"dir": "/home/alice/src"'],
    ["machine-path", "a.ts", 'open("/work/main/x")'],
    ["machine-path", "package-lock.json", '  "resolved": "https://example.org/a.tgz"'],
  ];
  for (const [name, path, line] of failing) {
    expect(tidyFaults(path, `\n${line}\n`)[0]).toStartWith(`${path}:2 ${name}: `);
  }
  expect(new Set(failing.map(([name]) => name)).size).toBe(rules.length);
});

test("what must be allowed is", () => {
  expect(tidyFaults("a.ts", `// ${"x".repeat(200)}`)).toHaveLength(1);
  expect(tidyFaults("a.ts", "x".repeat(200))).toEqual([]);
  expect(tidyFaults("a.test.ts", `expect(x).toBe("${"word ".repeat(30)}");`)).toEqual([]);
  expect(tidyFaults("a.md", `prose ${"word ".repeat(40)}`)).toEqual([]);
  expect(tidyFaults("a.ts", 'join(home, "work/x"); "/app/work/"; "/rooted/"; todos;')).toEqual([]);
});

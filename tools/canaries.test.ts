// Every checker is shown something wrong: one that lets it pass has stopped working.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import rules from "../.dependency-cruiser.mjs";

const root = join(import.meta.dir, "..");
// Each starts real tools, on a machine that may be busy.
setDefaultTimeout(60_000);

let scratch = "";

beforeAll(() => {
  // Inside the repository, where node_modules is found; .build is not checked itself.
  mkdirSync(join(root, ".build"), { recursive: true });
  scratch = mkdtempSync(join(root, ".build/canary-"));
});

afterAll(() => rmSync(scratch, { recursive: true }));

/** A little repository with this one's configuration. */
function plant(name: string, files: Readonly<Record<string, string>>): string {
  const folder = join(scratch, name);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

function run(folder: string, tool: string, ...args: readonly string[]) {
  const argv = [join(root, "node_modules/.bin", tool), ...args];
  const { exitCode, stdout, stderr } = Bun.spawnSync(argv, { cwd: folder });
  return { exitCode, output: `${stdout}${stderr}` };
}

describe("the compiler", () => {
  function compile(name: string, path: string, text: string): string {
    const folder = plant(`compile/${name}`, {
      [path]: text,
      "src/model/a.ts": "export const a = 1;\n",
    });
    cpSync(join(root, "tsconfig.base.json"), join(folder, "tsconfig.base.json"));
    for (const project of ["base", "model", "fabric", "node", "node/decide"]) {
      mkdirSync(join(folder, "src", project), { recursive: true });
      const config = join("src", project, "tsconfig.json");
      cpSync(join(root, config), join(folder, config));
    }
    return run(folder, "tsc", "--build", dirname(path)).output;
  }

  test("refuses an import of a folder that is not listed", () => {
    const text = 'import type { a } from "../model/a.ts";\nexport type A = typeof a;\n';
    expect(compile("upward", "src/base/b.ts", text)).toContain("TS6307");
  });

  test("refuses what is outside in a pure folder", () => {
    const outside = ["Bun.version", "process.pid", "fetch", "setTimeout", "console"];
    const text = outside.map((name, index) => `export const x${index}: unknown = ${name};\n`);
    for (const folder of ["base", "node/decide"]) {
      const output = compile(`outside/${folder}`, `src/${folder}/b.ts`, text.join(""));
      expect(output.match(/error TS2\d+/g)).toHaveLength(outside.length);
    }
  });

  test("accepts what is right", () => {
    const text = 'import { a } from "../model/a.ts";\nexport const b: number = a;\n';
    expect(compile("fine", "src/node/b.ts", text)).toBe("");
  });
});

describe("Biome", () => {
  function lint(name: string, files: Readonly<Record<string, string>>): string {
    const folder = plant(`lint/${name}`, files);
    cpSync(join(root, "biome.json"), join(folder, "biome.json"));
    cpSync(join(root, "tools/lint"), join(folder, "tools/lint"), { recursive: true });
    const { exitCode, output } = run(folder, "biome", "ci", "--vcs-enabled=false", "src");
    expect(exitCode === 0).toBe(!output.includes("━━"));
    return output;
  }

  test("finds time and randomness in pure folders, and only there", () => {
    const impure = ["Date.now()", "new Date()", "Math.random()", "performance.now()"];
    const text = impure.map((call, index) => `export const x${index} = ${call};\n`).join("");
    const folders = ["base", "model", "policy", "scheduler", "metering"];
    const pure = [...folders, "node/decide", "gateway/balance"];
    const files = Object.fromEntries(pure.map((folder) => [`src/${folder}/a.ts`, text]));
    const found = lint("pure", files).match(/Pure folder: take/g);
    expect(found).toHaveLength(pure.length * impure.length);
    expect(lint("impure", { "src/node/a.ts": text, "src/base/a.test.ts": text })).not.toContain(
      "━━",
    );
  });

  test("finds functions and files that are too long, promises forgotten, wrong format", () => {
    const lines = (count: number) => "  x += 1;\n".repeat(count);
    const long = (count: number) =>
      `export function f(x: number) {\n${lines(count)}  return x;\n}\n`;
    expect(lint("function-70", { "src/a.ts": long(60) })).not.toContain("━━");
    expect(lint("function-71", { "src/a.ts": long(80) })).toContain("noExcessiveLinesPerFunction");
    const constants = (count: number) =>
      Array.from({ length: count }, (_, index) => `export const x${index} = 1;\n`).join("");
    expect(lint("file-500", { "src/a.ts": constants(490) })).not.toContain("━━");
    expect(lint("file-501", { "src/a.ts": constants(510) })).toContain("noExcessiveLinesPerFile");
    expect(lint("tests", { "src/a.test.ts": constants(510) })).not.toContain("━━");
    expect(lint("tests-1001", { "src/a.test.ts": constants(1010) })).toContain("LinesPerFile");
    const forgotten = "async function f(): Promise<void> {}\nexport function g() {\n  f();\n}\n";
    expect(lint("forgotten", { "src/a.ts": forgotten })).toContain("noFloatingPromises");
    expect(lint("format", { "src/a.ts": "export const a = 'b'\n" })).toContain("format");
  });
});

/** For each rule of .dependency-cruiser.mjs, a file that breaks it. */
const violations: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "no-cycles": { "src/base/a.ts": 'import "./b.ts";', "src/base/b.ts": 'import "./a.ts";' },
  resolvable: { "src/node/a.ts": 'import "./absent.ts";' },
  "no-tests-in-production": {
    "src/node/a.ts": 'import "./b.test.ts";',
    "src/node/b.test.ts": 'import "bun:test";',
  },
  "adapters-apart": {
    "src/fabric/memory/a.ts": 'import "../sqlite/b.ts";',
    "src/fabric/sqlite/b.ts": "",
  },
  "ports-without-adapters": {
    "src/fabric/a.ts": 'import "./memory/b.ts";',
    "src/fabric/memory/b.ts": "",
  },
  "api-modules-apart": { "src/api/ec2/a.ts": 'import "../s3/b.ts";', "src/api/s3/b.ts": "" },
  "nobody-imports-main": { "src/node/a.ts": 'import "../up/b.ts";', "src/up/b.ts": "" },
  "no-dead-modules": { "src/main.ts": "", "src/node/a.ts": "" },
  "owned-packages-only": { "src/node/a.ts": 'import "@swc/core";' },
  "layer-clients": { "src/clients/a.ts": 'import "../control/b.ts";', "src/control/b.ts": "" },
  "layer-api": { "src/api/a.ts": 'import "../control/b.ts";', "src/control/b.ts": "" },
};

/** The rules that are made from tables are broken alike. */
function violationOf(rule: string): Readonly<Record<string, string>> {
  const listed = violations[rule];
  if (listed !== undefined) return listed;
  const [kind, ...rest] = rule.split("-");
  const name = rest.join("-");
  const folder =
    name === "node-decide" || name === "gateway-balance" ? name.replace("-", "/") : name;
  const up = "../".repeat(folder.split("/").length);
  const other = { "src/portal/b.ts": "export const b = 1;" };
  if (kind === "layer") return { [`src/${folder}/a.ts`]: `import "${up}portal/b.ts";`, ...other };
  if (kind === "pure") return { [`src/${folder}/a.ts`]: 'import "node:fs";' };
  return { "src/control/a.ts": `import "${name}";` };
}

describe("dependency-cruiser", () => {
  function cruise(name: string, files: Readonly<Record<string, string>>): readonly string[] {
    const folder = plant(`cruise/${name}`, files);
    const config = ["--config", join(root, ".dependency-cruiser.mjs")];
    const { output } = run(folder, "depcruise", ...config, "--output-type", "json", "src");
    const { summary } = JSON.parse(output) as {
      summary: { violations: { rule: { name: string } }[] };
    };
    return summary.violations.map((violation) => violation.rule.name);
  }

  test("sees a violation of every rule", () => {
    const names = rules.forbidden.map((rule) => rule.name);
    // All in one tree, so each rule's files get names of their own.
    const planted = names.flatMap((name, index) =>
      Object.entries(violationOf(name)).map(([path, text]) => {
        const own = (where: string) => where.replace(/\/([ab])(\.test)?\.ts/g, `/$1${index}$2.ts`);
        return [own(path), own(text)] as const;
      }),
    );
    const seen = new Set(cruise("violations", Object.fromEntries(planted)));
    expect(names.filter((name) => !seen.has(name))).toEqual([]);
    expect(names.length).toBeGreaterThan(30);
  });

  test("accepts what is right, and sees type imports", () => {
    const files = {
      "src/main.ts": 'import "./api/native/a.ts";',
      "src/api/native/a.ts": 'import type { B } from "../../control/operations.ts"; import "hono";',
      "src/control/operations.ts": "export type B = 1;",
    };
    expect(cruise("fine", files)).toEqual([]);
    const upward = 'import type { B } from "../control/operations.ts"; export type A = B;';
    expect(cruise("types", { ...files, "src/api/native/a.ts": upward })).toContain("resolvable");
    expect(cruise("types-upward", { ...files, "src/base/a.ts": upward })).toContain("layer-base");
  });
});

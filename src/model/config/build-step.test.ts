import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { Digest } from "../names.ts";
import type { BuildStep, ManifestEntry } from "../release.ts";
import { compareEntries } from "./manifest.ts";
import { resolveConfig } from "./resolve.ts";
import { filesToRead } from "./tree.ts";

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

type Files = Readonly<Record<string, string>>;

function steps(files: Files, toolVersions = ""): readonly BuildStep[] {
  const entries = Object.entries(files).map(([path, text]): ManifestEntry => {
    const digest = sha256(text) as Digest;
    return { kind: "file", path, digest, size: text.length, executable: false };
  });
  const manifest = { entries: entries.sort(compareEntries) };
  const contents = new Map(filesToRead(manifest).map((path) => [path, files[path] ?? ""]));
  const resolved = resolveConfig(manifest, contents, { sha256, toolVersions });
  if (!resolved.ok) throw new Error(resolved.error.message);
  return resolved.value.build;
}

function only(files: Files, toolVersions = ""): BuildStep {
  const [step, ...more] = steps(files, toolVersions);
  if (step === undefined || more.length > 0) throw new Error("expected one step");
  return step;
}

const dependent = '{"scripts":{"start":"node ."},"dependencies":{"a":"1"}}';

describe("packages are installed by the lock file's own manager", () => {
  const berry = "YARN_NODE_LINKER=node-modules npx --yes -p @yarnpkg/cli-dist";
  const cases: readonly (readonly [string, Files, string])[] = [
    ["npm", { "package-lock.json": "" }, "npm ci --no-audit --no-fund --omit=dev"],
    ["npm, shrinkwrapped", { "npm-shrinkwrap.json": "" }, "npm ci --no-audit --no-fund --omit=dev"],
    ["bun", { "bun.lock": "" }, "bun install --frozen-lockfile --production"],
    ["bun, binary", { "bun.lockb": "" }, "bun install --frozen-lockfile --production"],
    ["pnpm", { "pnpm-lock.yaml": "" }, "npx --yes pnpm@10 install --frozen-lockfile --prod"],
    [
      "yarn",
      { "yarn.lock": "" },
      "npx --yes yarn@1.22.22 install --frozen-lockfile --non-interactive --production=true",
    ],
    ["yarn berry", { "yarn.lock": "", ".yarnrc.yml": "" }, `${berry}@4 yarn install --immutable`],
    ["none", {}, "npm install --no-audit --no-fund --omit=dev"],
  ];
  for (const [what, lock, command] of cases) {
    test(what, () => {
      const step = only({ "package.json": dependent, ...lock, "src/a.js": "" });
      expect(step.commands).toEqual([command]);
      expect(step.inputs).toEqual(["package.json", ...Object.keys(lock)].sort());
      expect(step).toMatchObject({ produces: "dependencies", output: "node_modules" });
      expect(step.cacheKey).toMatch(/^[0-9a-f]{64}$/);
    });
  }

  test("in the version that package.json names", () => {
    const named = (manager: string) => dependent.replace("{", `{"packageManager":"${manager}",`);
    const command = (manager: string, lock: string) =>
      only({ "package.json": named(manager), [lock]: "" }).commands[0];
    expect(command("pnpm@9.1.2+sha512.abc", "pnpm-lock.yaml")).toStartWith("npx --yes pnpm@9.1.2 ");
    expect(command("yarn@1.22.1", "yarn.lock")).toStartWith("npx --yes yarn@1.22.1 ");
    expect(command("yarn@4.5.0", "yarn.lock")).toStartWith(`${berry}@4.5.0 yarn`);
    expect(command("pnpm@1; rm -rf /", "pnpm-lock.yaml")).toStartWith("npx --yes pnpm@1 ");
    expect(command("npm@11.0.0", "pnpm-lock.yaml")).toStartWith("npx --yes pnpm@10 ");
  });
});

describe("development packages are installed", () => {
  const manifest = (scripts: Files) =>
    JSON.stringify({ scripts, dependencies: { a: "1" }, devDependencies: { tsx: "4" } });
  const install = (scripts: Files) =>
    steps({ "package.json": manifest(scripts), "package-lock.json": "" })[0]?.commands[0];

  test("only when something needs them", () => {
    expect(install({ start: "node a.js" })).toEndWith("--omit=dev");
    expect(install({ start: "tsx a.ts" })).toEndWith("--include=dev");
    expect(install({ start: "node a.js", build: "tsc" })).toEndWith("--include=dev");
    expect(install({ start: "node a.js", prepare: "husky" })).toEndWith("--include=dev");
  });
});

describe("a layer's key", () => {
  const files = { "package.json": dependent, "package-lock.json": "one", "a.js": "1" };
  const key = (changed: Files, versions = "") => only({ ...files, ...changed }, versions).cacheKey;

  test("depends on the lock file and on what installing reads, not on the app", () => {
    expect(key({ "a.js": "2", "b.js": "3" })).toBe(key({}));
    expect(key({ "package.json": dependent.replace("node .", "node b.js") })).toBe(key({}));
    expect(key({ "package.json": dependent.replace("{", '{"version":"2.0.0",') })).toBe(key({}));
    expect(key({ "package-lock.json": "two" })).not.toBe(key({}));
    expect(key({ ".npmrc": "x" })).not.toBe(key({}));
    expect(key({ "package.json": dependent.replace('"1"', '"2"') })).not.toBe(key({}));
    expect(key({}, "node 22")).not.toBe(key({}));
  });

  test("depends on every file where installing may read any", () => {
    const local = dependent.replace('"1"', '"file:./lib"');
    expect(only({ ...files, "package.json": local }).inputs).toBeNull();
    expect(key({ "package.json": local, "a.js": "2" })).not.toBe(key({ "package.json": local }));
    const scripted = dependent.replace('"start"', '"postinstall":"x","start"');
    expect(only({ ...files, "package.json": scripted }).inputs).toBeNull();
  });

  test("of a build depends on every file, the environment and the layers under it", () => {
    const built = dependent.replace('"start"', '"build":"x","start"');
    const app = (changed: Files) => {
      const [layer, build, ...more] = steps({ ...files, "package.json": built, ...changed });
      expect([layer?.produces, build?.produces, more.length]).toEqual(["dependencies", "app", 0]);
      expect(build).toMatchObject({ inputs: null, output: ".", commands: ["npm run build"] });
      return build?.cacheKey;
    };
    expect(app({})).toBe(app({}));
    expect(app({ "a.js": "2" })).not.toBe(app({}));
    expect(app({ "package-lock.json": "two" })).not.toBe(app({}));
    const toml = (value: string) => ({ "lode.toml": `run = "a"\nenv = { A = "${value}" }` });
    expect(app(toml("1"))).not.toBe(app(toml("2")));
  });
});

test("workspaces are installed and built in one step over all files", () => {
  const manifest = '{"workspaces":["a"],"scripts":{"start":"x","build":"y"}}';
  expect(only({ "package.json": manifest, "bun.lock": "", "a/package.json": "{}" })).toMatchObject({
    produces: "app",
    inputs: null,
    commands: ["bun install --frozen-lockfile", "bun run build"],
    output: ".",
  });
});

test("nothing is installed without dependencies, or over an uploaded node_modules", () => {
  expect(steps({ "package.json": '{"scripts":{"start":"x"}}', "package-lock.json": "" })).toEqual(
    [],
  );
  expect(steps({ "package.json": dependent, "node_modules/a/index.js": "" })).toEqual([]);
});

test("node_modules as a symbolic link is refused: a layer is mounted there", () => {
  const text = sha256(dependent) as Digest;
  const entries: readonly ManifestEntry[] = [
    { kind: "directory", path: "b" },
    { kind: "symlink", path: "node_modules", target: "b" },
    { kind: "file", path: "package.json", digest: text, size: 1, executable: false },
  ];
  const resolved = resolveConfig({ entries }, new Map([["package.json", dependent]]), { sha256 });
  expect(resolved).toMatchObject({ ok: false, error: { at: "node_modules" } });
});

describe("Python packages", () => {
  const app = { "app.py": "" };
  const pip = ".venv/bin/pip install --no-input --disable-pip-version-check";

  test("come from requirements.txt and what it includes", () => {
    const files = {
      ...app,
      "requirements.txt": "-r requirements/base.txt\n-c constraints.txt # pinned\nflask\n",
      "requirements/base.txt": "a==1 \\\n  --hash=sha256:0\n",
      "constraints.txt": "b<2",
      "other.py": "",
    };
    expect(only(files)).toMatchObject({
      produces: "dependencies",
      inputs: ["constraints.txt", "requirements.txt", "requirements/base.txt"],
      commands: ["python3 -m venv .venv", `${pip} -r requirements.txt`],
      output: ".venv",
    });
    expect(only({ ...files, "constraints.txt": "b<3" }).cacheKey).not.toBe(only(files).cacheKey);
  });

  test("may be local wheels; other local paths may read anything", () => {
    const wheel = { ...app, "wheels/a.whl": "w" };
    const inputs = (requirements: string) =>
      only({ ...wheel, "requirements.txt": requirements }).inputs;
    expect(inputs("./wheels/a.whl ; python_version > '3'")).toEqual([
      "requirements.txt",
      "wheels/a.whl",
    ]);
    expect(inputs("-e .")).toBeNull();
    expect(inputs("--find-links wheels\na")).toBeNull();
    expect(inputs("./lib")).toBeNull();
    expect(inputs("-r missing.txt")).toBeNull();
    expect(inputs("a @ file:///app/wheels/a.whl")).toBeNull();
    expect(inputs("-r requirements.txt\na")).toBeNull();
  });

  test("come from pyproject.toml when there is no requirements.txt", () => {
    const project = (text: string) => steps({ ...app, "pyproject.toml": text });
    expect(project("[project]\ndependencies = ['a>=1', \"b; x == 'y'\"]")[0]).toMatchObject({
      inputs: ["pyproject.toml"],
      commands: ["python3 -m venv .venv", `${pip} 'a>=1' 'b; x == '\\''y'\\'''`],
    });
    expect(project("[project]\nname = 'x'\n[build-system]\n")[0]).toMatchObject({
      inputs: null,
      commands: ["python3 -m venv .venv", `${pip} .`],
    });
    expect(project("[tool.black]\n")).toEqual([]);
    expect(project("[project]\ndependencies = []")).toEqual([]);
  });

  test("are not installed when there are none", () => {
    expect(steps({ ...app, "requirements.txt": "# nothing\n" })).toEqual([]);
  });
});

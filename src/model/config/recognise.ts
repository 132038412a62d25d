import { err, ok, type Result } from "../../base/result.ts";
import type { Limits } from "../limits.ts";
import { type ProcessType, webProcess } from "../names.ts";
import type { Command, RuntimeKind } from "../release.ts";
import type { Package } from "./javascript.ts";
import type { LodeToml } from "./lode-toml.ts";
import {
  entryCandidates,
  findFetchModule,
  findServerProgram,
  isModule,
  runtimeOf,
} from "./modules.ts";
import { type ConfigProblem, configProblem } from "./problem.ts";
import { parseProcfile, procfileName } from "./procfile.ts";
import { findExecutable, findGeneratedSite, findJar, findSite, jarLine } from "./programs.ts";
import { type PythonDependencies, pythonEntries, pythonStart } from "./python.ts";
import type { Tree } from "./tree.ts";

/** A shell line still lacks the PATH of its dependencies; a command is complete. */
export type Start = { readonly kind: "line"; readonly line: string } | Command;

export interface Recognised {
  readonly kind: RuntimeKind;
  readonly reason: string;
  readonly starts: ReadonlyMap<ProcessType, Start>;
  /** Whose dependencies it needs. */
  readonly javascript: boolean;
  readonly python: boolean;
}

export interface Surroundings {
  readonly tree: Tree;
  readonly toml: LodeToml | null;
  readonly manifest: Package | null;
  readonly python: PythonDependencies;
  readonly memory: Limits["memory"];
}

type Recogniser = (around: Surroundings) => Result<Recognised, ConfigProblem> | null;

/** What the author said comes first, then what the files tell; the first that knows decides. */
const recognisers: readonly Recogniser[] = [
  byLodeToml,
  byProcfile,
  byStartScript,
  byFetchModule,
  byServerProgram,
  byPython,
  byJar,
  byGeneratedSite,
  byExecutable,
  bySite,
];

export function recognise(around: Surroundings): Result<Recognised, ConfigProblem> {
  for (const recogniser of recognisers) {
    const recognised = recogniser(around);
    if (recognised === null) continue;
    return recognised.ok ? checkLines(recognised.value) : recognised;
  }
  return err(nothing(around));
}

const lineLengthMax = 8192;

function checkLines(recognised: Recognised): Result<Recognised, ConfigProblem> {
  for (const [process, start] of recognised.starts) {
    if (start.kind !== "line" || start.line.length <= lineLengthMax) continue;
    const message = `the command of ${process} is longer than ${lineLengthMax} characters`;
    return err(configProblem(message, { remedy: "put it into a script and run that" }));
  }
  return ok(recognised);
}

function line(text: string): Start {
  return { kind: "line", line: text };
}

function web(start: Start): ReadonlyMap<ProcessType, Start> {
  return new Map([[webProcess, start]]);
}

function byLodeToml(around: Surroundings): ReturnType<Recogniser> {
  const { toml, tree } = around;
  if (toml === null || (toml.run === null && toml.publish === null)) return null;
  const starts = new Map<ProcessType, Start>();
  const served = toml.process ?? webProcess;
  for (const [process, text] of toml.run ?? []) {
    starts.set(process, moduleStart(tree, text, process === served) ?? line(text));
  }
  if (toml.publish !== null) {
    if (starts.has(served)) {
      return err(
        configProblem(`lode.toml has both publish and a run line for ${served}`, {
          at: "lode.toml",
          remedy: "keep the one that should take requests",
        }),
      );
    }
    starts.set(served, { kind: "static", root: toml.publish });
  }
  const said = toml.run === null ? `publish = "${toml.publish}"` : namesOf(starts);
  const reason = `lode.toml says ${toml.run === null ? said : `how to run ${said}`}`;
  return ok({ kind: "lode.toml", reason, starts, javascript: true, python: true });
}

/** A line that is nothing but a module of the release. */
function moduleStart(tree: Tree, text: string, served: boolean): Start | null {
  const path = text.replace(/^\.\//, "");
  if (!isModule(path) || !tree.has(path)) return null;
  if (served) return { kind: "fetch", entry: path };
  return { kind: "argv", argv: [runtimeOf(path, tree.text(path) ?? ""), path] };
}

function namesOf(starts: ReadonlyMap<ProcessType, Start>): string {
  return [...starts.keys()].join(" and ");
}

function byProcfile({ tree }: Surroundings): ReturnType<Recogniser> {
  if (!tree.has(procfileName)) return null;
  const text = tree.text(procfileName);
  if (text === null) {
    return err(configProblem(`${procfileName} is too large to be read`, { at: procfileName }));
  }
  const processes = parseProcfile(text);
  if (!processes.ok) return processes;
  const starts = new Map([...processes.value].map(([name, text]) => [name, line(text)]));
  const reason = `Procfile says how to run ${namesOf(starts)}`;
  return ok({ kind: "procfile", reason, starts, javascript: true, python: true });
}

function byStartScript({ manifest }: Surroundings): ReturnType<Recogniser> {
  const start = manifest?.scripts["start"];
  if (manifest === null || start === undefined) return null;
  const before = manifest.scripts["prestart"];
  return ok({
    kind: "package.json",
    reason: `package.json has the start script "${start}"`,
    starts: web(line(before === undefined ? start : `${before} && ${start}`)),
    javascript: true,
    python: false,
  });
}

function byFetchModule({ tree, manifest }: Surroundings): ReturnType<Recogniser> {
  const entry = findFetchModule(tree, manifest);
  if (entry === null) return null;
  return ok({
    kind: "fetch",
    reason: `${entry} has a default export: its fetch is served`,
    starts: web({ kind: "fetch", entry }),
    javascript: true,
    python: false,
  });
}

/** No start script, but an entry that opens a server. */
function byServerProgram({ tree, manifest }: Surroundings): ReturnType<Recogniser> {
  const entry = findServerProgram(tree, manifest);
  if (entry === null) return null;
  const runtime = runtimeOf(entry, tree.text(entry) ?? "");
  return ok({
    kind: manifest === null ? "executable" : "package.json",
    reason: `${entry} opens a server: it is run by ${runtime} and must listen on $PORT`,
    starts: web({ kind: "argv", argv: [runtime, entry] }),
    javascript: true,
    python: false,
  });
}

function byPython({ tree, python }: Surroundings): ReturnType<Recogniser> {
  const start = pythonStart(tree, python.packages);
  if (start === null) return null;
  return ok({
    kind: "python",
    reason: start.reason,
    starts: web(line(start.line)),
    javascript: false,
    python: true,
  });
}

function byJar({ tree, memory }: Surroundings): ReturnType<Recogniser> {
  const jar = findJar(tree);
  if (jar === null) return null;
  return ok({
    kind: "jar",
    reason: `${jar} is the only jar: it is run by java and must listen on $PORT`,
    starts: web({ kind: "shell", line: jarLine(jar, memory) }),
    javascript: false,
    python: false,
  });
}

function byGeneratedSite({ manifest }: Surroundings): ReturnType<Recogniser> {
  const site = findGeneratedSite(manifest);
  if (site === null) return null;
  return ok({
    kind: "static",
    reason: `package.json builds a site with ${site.generator}: ${site.folder}/ is served`,
    starts: web({ kind: "static", root: site.folder }),
    javascript: true,
    python: false,
  });
}

function byExecutable({ tree }: Surroundings): ReturnType<Recogniser> {
  const path = findExecutable(tree);
  if (path === null) return null;
  return ok({
    kind: "executable",
    reason: `${path} is executable: it is run and must listen on $PORT`,
    starts: web({ kind: "argv", argv: [`./${path}`] }),
    javascript: false,
    python: false,
  });
}

function bySite({ tree }: Surroundings): ReturnType<Recogniser> {
  const folder = findSite(tree);
  if (folder === null) return null;
  const page = folder === "." ? "index.html" : `${folder}/index.html`;
  return ok({
    kind: "static",
    reason: `${page} is there: ${folder === "." ? "the folder" : `${folder}/`} is a static site`,
    starts: web({ kind: "static", root: folder }),
    javascript: false,
    python: false,
  });
}

const buildFiles: readonly (readonly [string, string])[] = [
  ["Dockerfile", "Lode builds no images; say in lode.toml how the app is built and run"],
  ["go.mod", 'add lode.toml with build = "go build -o server ." and run = "./server"'],
  ["Cargo.toml", 'add lode.toml with build = "cargo build --release" and the binary as run'],
  ["pom.xml", "build the jar first, or say in lode.toml how to build and run it"],
  ["build.gradle", "build the jar first, or say in lode.toml how to build and run it"],
  ["Gemfile", "add a Procfile with a line like web: bundle exec puma -p $PORT"],
  ["composer.json", "add a Procfile with a line like web: php -S 0.0.0.0:$PORT"],
];

function nothing({ tree, manifest }: Surroundings): ConfigProblem {
  if (tree.manifest.entries.length === 0) {
    return configProblem("the folder is empty", { remedy: "deploy a folder with an app in it" });
  }
  const hint = buildFiles.find(([file]) => tree.has(file));
  const missing = manifest === null ? "" : "; package.json is there, but has no start script";
  const [first, second] = entryCandidates;
  const looked = [
    "lode.toml with run or publish",
    "a Procfile",
    "package.json with a start script",
    `a module with a default export (${first}, ${second}, … src/main.mjs)`,
    `a Python entry (manage.py, ${pythonEntries.join(", ")})`,
    "one .jar",
    "one executable file (or bin/server, server, app)",
    "index.html (also in public, dist or build)",
  ];
  return configProblem(
    `nothing to run was recognised${missing}. Looked for: ${looked.join("; ")}`,
    {
      remedy: hint?.[1] ?? 'add a Procfile with a line like "web: ./my-server --port $PORT"',
    },
  );
}

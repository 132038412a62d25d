import { err, ok, type Result } from "../../base/result.ts";
import { parseBytes, parseCores, parseDurationMs } from "../../base/units.ts";
import { checkBounds, parseCpuBounds, parseMemoryBounds } from "../bounds.ts";
import type { Bounds } from "../limits.ts";
import { type AppName, type ProcessType, parseAppName, parseProcessType } from "../names.ts";
import type { Affinity, Egress } from "../release.ts";
import { parseAffinity } from "./affinity.ts";
import { parseCidr, parseHostName } from "./hosts.ts";
import type { ConfigProblem } from "./problem.ts";
import {
  checkLodeToml,
  keyProblem,
  parseToml,
  type TomlDocument,
  type TomlPath,
  type TomlTable,
} from "./toml.ts";

/** lode.toml with every value parsed; null where it says nothing. */
export interface LodeToml {
  readonly app: AppName | null;
  readonly run: ReadonlyMap<ProcessType, string> | null;
  readonly build: readonly string[] | null;
  readonly publish: string | null;
  readonly egress: Egress | null;
  readonly env: Readonly<Record<string, string>>;
  readonly cpu: Bounds | null;
  readonly memory: Bounds | null;
  readonly pids: number | null;
  readonly openFiles: number | null;
  /** Bytes. */
  readonly disk: number | null;
  readonly scaleMin: number | null;
  readonly scaleMax: number | null;
  readonly inFlight: number | null;
  readonly freezeMs: number | "never" | null;
  readonly idleMs: number | null;
  readonly healthPath: string | null;
  readonly healthTimeoutMs: number | null;
  readonly hosts: readonly string[];
  readonly affinity: Affinity | null;
  readonly process: ProcessType | null;
}

export const lodeTomlFile = "lode.toml";

/** Thrown inside this file only, so that the first wrong key ends the reading. */
class Refusal extends Error {
  readonly problem: ConfigProblem;

  constructor(problem: ConfigProblem) {
    super(problem.message);
    this.problem = problem;
  }
}

export function parseLodeToml(text: string): Result<LodeToml, ConfigProblem> {
  const document = parseToml(lodeTomlFile, text);
  if (!document.ok) return document;
  const checked = checkLodeToml(document.value);
  if (!checked.ok) return checked;
  try {
    return ok(read(new Reader(document.value)));
  } catch (cause) {
    if (cause instanceof Refusal) return err(cause.problem);
    throw cause;
  }
}

/** Values by path; the types were checked against the table of keys before. */
class Reader {
  readonly #document: TomlDocument;

  constructor(document: TomlDocument) {
    this.#document = document;
  }

  value(path: TomlPath): unknown {
    let value: unknown = this.#document.root;
    for (const part of path) {
      if (value === null || typeof value !== "object") return undefined;
      value = Object.hasOwn(value, part) ? (value as TomlTable)[part] : undefined;
    }
    return value;
  }

  table(path: TomlPath): readonly (readonly [string, unknown])[] {
    return Object.entries((this.value(path) ?? {}) as TomlTable);
  }

  refuse(path: TomlPath, message: string): never {
    throw new Refusal(keyProblem(this.#document, path, `${path.join(".")}: ${message}`));
  }

  /** The parsed value, or null when the key is absent. */
  parsed<Value>(
    path: TomlPath,
    parse: (text: string) => Result<Value, string>,
    value: unknown = this.value(path),
  ): Value | null {
    if (value === undefined) return null;
    const parsed = parse(String(value));
    return parsed.ok ? parsed.value : this.refuse(path, parsed.error);
  }

  integer(path: TomlPath, min: number, max: number): number | null {
    const value = this.value(path);
    if (value === undefined) return null;
    const number = Number(value);
    if (number >= min && number <= max) return number;
    return this.refuse(path, `${number} is not between ${min} and ${max}`);
  }

  /** One string or a list of them. */
  strings(path: TomlPath): readonly string[] | null {
    const value = this.value(path);
    if (value === undefined) return null;
    return Array.isArray(value) ? value.map(String) : [String(value)];
  }
}

function read(reader: Reader): LodeToml {
  const scaleMin = reader.integer(["scale", "min"], 0, 1000);
  const scaleMax = reader.integer(["scale", "max"], 1, 1000);
  if (scaleMin !== null && scaleMax !== null && scaleMin > scaleMax) {
    reader.refuse(["scale", "max"], `${scaleMax} is below scale.min, ${scaleMin}`);
  }
  const hosts = reader.strings(["http", "hosts"]) ?? [];
  const build = reader.strings(["build"]);
  return {
    app: reader.parsed(["app"], parseAppName),
    run: readRun(reader),
    build: build === null ? null : build.filter((line) => line.trim() !== ""),
    publish: reader.parsed(["publish"], parseFolder),
    egress: readEgress(reader),
    env: readEnv(reader),
    cpu: readBounds(reader, ["resources", "cpu"], parseCpuBounds, parseCores),
    memory: readBounds(reader, ["resources", "memory"], parseMemoryBounds, parseBytes),
    pids: reader.integer(["resources", "pids"], 1, 1_000_000),
    openFiles: reader.integer(["resources", "openFiles"], 16, 1_048_576),
    disk: reader.parsed(["resources", "disk"], parseDiskBytes),
    scaleMin,
    scaleMax,
    inFlight: reader.integer(["scale", "inFlight"], 1, 100_000),
    freezeMs: reader.parsed(["scale", "freeze"], parseFreezeMs),
    idleMs: reader.parsed(["scale", "idle"], parsePositiveDurationMs),
    healthPath: reader.parsed(["http", "health"], parseHealthPath),
    healthTimeoutMs: reader.parsed(["http", "timeout"], parsePositiveDurationMs),
    hosts: hosts.map((host) => reader.parsed(["http", "hosts"], parseHostName, host) ?? host),
    affinity: reader.parsed(["http", "affinity"], parseAffinity),
    process: reader.parsed(["http", "process"], parseProcessType),
  };
}

function readRun(reader: Reader): LodeToml["run"] {
  const value = reader.value(["run"]);
  if (value === undefined) return null;
  const lines = typeof value === "string" ? [["web", value] as const] : reader.table(["run"]);
  const processes = new Map<ProcessType, string>();
  for (const [name, line] of lines) {
    const path = typeof value === "string" ? ["run"] : ["run", name];
    const process = parseProcessType(name);
    if (!process.ok) reader.refuse(path, process.error);
    else if (String(line).trim() === "") reader.refuse(path, "the command is empty");
    else processes.set(process.value, String(line).trim());
  }
  if (processes.size === 0) reader.refuse(["run"], "the table names no process");
  return processes;
}

function readEnv(reader: Reader): Readonly<Record<string, string>> {
  const env: Record<string, string> = {};
  for (const [name, value] of reader.table(["env"])) {
    const fault = environmentFault(name, String(value));
    if (fault !== null) reader.refuse(["env", name], fault);
    env[name] = String(value);
  }
  return env;
}

/** Null when the variable may be set by users. */
export function environmentFault(name: string, value: string): string | null {
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)) {
    return `"${name}" is not a variable's name; use letters, digits and "_"`;
  }
  if (name === "PORT" || name.startsWith("LODE_")) return `${name} is given by Lode itself`;
  if (value.includes("\0")) return `the value of ${name} has a NUL byte`;
  if (value.length > 65_536) return `the value of ${name} is longer than 65536 characters`;
  return null;
}

function readEgress(reader: Reader): Egress | null {
  const value = reader.value(["egress"]);
  if (value === undefined) return null;
  if (value === "public" || value === "none") return { kind: value };
  if (typeof value === "string") {
    reader.refuse(["egress"], `"${value}" is neither "public", "none" nor a list of networks`);
  }
  const blocks = reader.strings(["egress"]) ?? [];
  const cidrs = blocks.map((block) => reader.parsed(["egress"], parseCidr, block) ?? block);
  return cidrs.length === 0 ? { kind: "public" } : { kind: "public-and", cidrs };
}

function readBounds(
  reader: Reader,
  path: TomlPath,
  parseText: (text: string) => Result<Bounds, string>,
  parseAmount: (text: string) => Result<number, string>,
): Bounds | null {
  const value = reader.value(path);
  if (value === undefined) return null;
  if (typeof value !== "object") return reader.parsed(path, parseText);
  const bounds = {
    min: reader.parsed([...path, "min"], parseAmount),
    max: reader.parsed([...path, "max"], parseAmount),
    burst: reader.parsed([...path, "burst"], parseAmount),
  };
  const { min, max, burst } = bounds;
  const checked = checkBounds(bounds, [min, max, burst].map((bound) => bound ?? "").join(":"));
  return checked.ok ? checked.value : reader.refuse(path, checked.error);
}

function parsePositiveDurationMs(text: string): Result<number, string> {
  const duration = parseDurationMs(text);
  if (!duration.ok || duration.value > 0) return duration;
  return err(`"${text}" is no time at all; write it like 30s or 5m`);
}

function parseFreezeMs(text: string): Result<number | "never", string> {
  return text === "never" ? ok("never") : parsePositiveDurationMs(text);
}

/** Below 16 MiB a file system has room for little but its own records. */
function parseDiskBytes(text: string): Result<number, string> {
  const bytes = parseBytes(text);
  if (!bytes.ok || bytes.value >= 16 * 1024 ** 2) return bytes;
  return err(`"${text}" is below the least, 16M`);
}

function parseHealthPath(text: string): Result<string, string> {
  if (/^\/[!-~]{0,1000}$/.test(text)) return ok(text);
  return err(`"${text}" is not a path of a URL; it begins with "/" and has no spaces`);
}

/** A folder of the release, normalised; the root is ".". */
function parseFolder(text: string): Result<string, string> {
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  if (text.startsWith("/") || parts.includes("..")) {
    return err(`"${text}" is not inside the app; name a folder of it, like "dist"`);
  }
  return ok(parts.length === 0 ? "." : parts.join("/"));
}

import { parse, TomlError } from "smol-toml";
import { err, ok, type Result } from "../../base/result.ts";
import { type Key, type KeyTable, lodeTomlKeys, type Shape, synonyms } from "./keys.ts";
import { type ConfigProblem, configProblem } from "./problem.ts";

export type TomlTable = Readonly<Record<string, unknown>>;

/** Where in the tables a value stands: `["http", "hosts"]`. */
export type TomlPath = readonly string[];

/** A document and the way back from a key to its line. */
export interface TomlDocument {
  readonly file: string;
  readonly text: string;
  readonly root: TomlTable;
}

export function parseToml(file: string, text: string): Result<TomlDocument, ConfigProblem> {
  try {
    return ok({ file, text, root: parse(text) });
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const reason = (cause.message.split("\n")[0] ?? "").replace(/^Invalid TOML document: /, "");
    return err(
      configProblem(`${file}, line ${cause.line}: not valid TOML: ${reason}`, {
        at: `${file}:${cause.line}`,
      }),
    );
  }
}

/** A problem with one key of a document, naming its line. */
export function keyProblem(
  document: TomlDocument,
  path: TomlPath,
  message: string,
  remedy?: string,
): ConfigProblem {
  const line = lineOf(document.text, path);
  return configProblem(`${document.file}, line ${line}: ${message}`, {
    at: `${document.file}:${line}`,
    ...(remedy === undefined ? {} : { remedy }),
  });
}

/** Refuses unknown keys and values of the wrong type. */
export function checkLodeToml(document: TomlDocument): Result<void, ConfigProblem> {
  return checkTable(document, document.root, lodeTomlKeys, []);
}

function checkTable(
  document: TomlDocument,
  table: TomlTable,
  keys: KeyTable,
  path: TomlPath,
): Result<void, ConfigProblem> {
  for (const [name, value] of Object.entries(table)) {
    const key = Object.hasOwn(keys, name) ? keys[name] : undefined;
    const here = [...path, name];
    if (key === undefined) return err(unknownKey(document, here, keys));
    const checked = checkValue(document, value, key, here);
    if (!checked.ok) return checked;
  }
  return ok(undefined);
}

function checkValue(
  document: TomlDocument,
  value: unknown,
  key: Key,
  path: TomlPath,
): Result<void, ConfigProblem> {
  const shape = key.shapes.find((candidate) => hasType(value, candidate));
  if (shape === undefined) return err(wrongType(document, value, key.shapes, path, key.example));
  if (shape.type === "table") return checkTable(document, value as TomlTable, shape.keys, path);
  if (shape.type !== "map") return ok(undefined);
  for (const [name, inner] of Object.entries(value as TomlTable)) {
    if (shape.values.some((candidate) => hasType(inner, candidate))) continue;
    return err(wrongType(document, inner, shape.values, [...path, name], key.example));
  }
  return ok(undefined);
}

function hasType(value: unknown, shape: Shape): boolean {
  switch (shape.type) {
    case "integer":
      return Number.isSafeInteger(value);
    case "list":
      return Array.isArray(value) && value.every((item) => typeof item === "string");
    case "map":
    case "table":
      return typeOf(value) === "a table";
    default:
      return typeof value === shape.type;
  }
}

const shapeNames: Readonly<Record<Shape["type"], string>> = {
  string: "a string",
  integer: "a whole number",
  number: "a number",
  boolean: "true or false",
  list: "a list of strings",
  map: "a table",
  table: "a table",
};

function typeOf(value: unknown): string {
  if (typeof value === "string") return "a string";
  if (typeof value === "number") return "a number";
  if (typeof value === "boolean") return "a boolean";
  if (Array.isArray(value)) return "a list";
  return value instanceof Date ? "a date" : "a table";
}

function wrongType(
  document: TomlDocument,
  value: unknown,
  shapes: readonly Shape[],
  path: TomlPath,
  example: string,
): ConfigProblem {
  const wanted = [...new Set(shapes.map((shape) => shapeNames[shape.type]))].join(" or ");
  return keyProblem(
    document,
    path,
    `${path.join(".")} must be ${wanted}, not ${typeOf(value)}`,
    `write it like: ${example}`,
  );
}

function unknownKey(document: TomlDocument, path: TomlPath, keys: KeyTable): ConfigProblem {
  const name = path.at(-1) ?? "";
  const nearest = nearestKey(name, path, keys);
  const remedy =
    nearest === null ? `known here: ${Object.keys(keys).join(", ")}` : `did you mean ${nearest}?`;
  return keyProblem(document, path, `unknown key ${path.join(".")}`, remedy);
}

/** A near spelling beside it, the same key in another table, or a synonym; else null. */
function nearestKey(name: string, path: TomlPath, keys: KeyTable): string | null {
  let best: { readonly key: string; readonly distance: number } | null = null;
  for (const key of Object.keys(keys)) {
    const distanceMax = Math.max(1, Math.floor(key.length / 3));
    if (Math.abs(name.length - key.length) > distanceMax) continue;
    const distance = editDistance(name.toLowerCase(), key.toLowerCase());
    if (distance > distanceMax) continue;
    if (best === null || distance < best.distance) best = { key, distance };
  }
  if (best !== null) return [...path.slice(0, -1), best.key].join(".");
  for (const [table, key] of Object.entries(lodeTomlKeys)) {
    if (table === name) return table;
    for (const shape of key.shapes) {
      if (shape.type === "table" && Object.hasOwn(shape.keys, name)) return `${table}.${name}`;
    }
  }
  return Object.hasOwn(synonyms, name) ? (synonyms[name] ?? null) : null;
}

/** Levenshtein's distance, with a swap of neighbours counting as one (optimal alignment). */
export function editDistance(left: string, right: string): number {
  const rows: number[][] = [Array.from({ length: right.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
  for (let row = 1; row <= left.length; row += 1) {
    const distances = [row];
    rows.push(distances);
    for (let column = 1; column <= right.length; column += 1) {
      const same = left[row - 1] === right[column - 1];
      const swapped = left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1];
      distances.push(
        Math.min(
          at(row - 1, column) + 1,
          at(row, column - 1) + 1,
          at(row - 1, column - 1) + (same ? 0 : 1),
          swapped ? at(row - 2, column - 2) + 1 : Number.POSITIVE_INFINITY,
        ),
      );
    }
  }
  return at(left.length, right.length);
}

/**
 * The line, from 1, on which a key (or the nearest table around it) is written. The parser
 * keeps no positions; this looks for headers and keys at the beginning of lines.
 */
export function lineOf(text: string, path: TomlPath): number {
  let table: TomlPath = [];
  // The quotes of the multi-line string that the line is in.
  let fence = null as string | null;
  let best = { line: 1, length: 0 };
  for (const [index, line] of text.split("\n").entries()) {
    const fences: readonly string[] = line.match(/"""|'''/g) ?? [];
    if (fence !== null) {
      if (fences.includes(fence)) fence = null;
      continue;
    }
    if (fences.length === 1) fence = fences[0] ?? null;
    const header = /^\s*\[{1,2}([^\]]+)\]/.exec(line);
    const key = /^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=/.exec(
      line,
    );
    if (header !== null) table = partsOf(header[1] ?? "");
    const here = header !== null ? table : key !== null ? [...table, ...partsOf(key[1] ?? "")] : [];
    const matches = here.length <= path.length && here.every((part, at) => part === path[at]);
    if (matches && here.length > best.length) best = { line: index + 1, length: here.length };
  }
  return best.line;
}

function partsOf(dotted: string): TomlPath {
  return (dotted.match(/[\w-]+|"[^"]*"|'[^']*'/g) ?? []).map((part) =>
    part.replace(/^["']|["']$/g, ""),
  );
}

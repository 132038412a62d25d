import { unreachable } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { parseDigest } from "../names.ts";
import type { Manifest, ManifestEntry } from "../release.ts";
import type { ManifestProblem } from "./problem.ts";

export interface ManifestLimits {
  readonly entriesMax: number;
  /** Sum of file sizes, bytes. */
  readonly totalBytesMax: number;
}

export const defaultManifestLimits: ManifestLimits = {
  entriesMax: 100_000,
  totalBytesMax: 4 * 1024 ** 3,
};

/** The kernel's PATH_MAX is 4096; the rest is left for where a node lays releases out. */
const pathBytesMax = 1024;
/** The kernel's NAME_MAX. */
const segmentBytesMax = 255;
/** Bounds the work that one hostile entry can cause. */
const segmentsMax = 64;
/** The kernel's MAXSYMLINKS. */
const linksMax = 40;

type Checked = Result<void, ManifestProblem>;
type SymlinkEntry = Extract<ManifestEntry, { kind: "symlink" }>;

/** The order of a manifest: by UTF-16 code units, as `<` has it. */
export function compareEntries(left: ManifestEntry, right: ManifestEntry): number {
  return left.path < right.path ? -1 : left.path > right.path ? 1 : 0;
}

/**
 * Refuses every tree that could reach outside its own root or mean two things at once. What
 * passes can be laid out entry by entry, in order, without looking at the disk in between.
 */
export function checkManifest(
  manifest: Manifest,
  limits: ManifestLimits = defaultManifestLimits,
): Checked {
  const { entries } = manifest;
  if (entries.length > limits.entriesMax) {
    return err({
      code: "tooLarge",
      message:
        `the upload has ${entries.length} entries; ` + `at most ${limits.entriesMax} are accepted`,
      remedy: "exclude what the app does not need with .lodeignore",
      at: null,
    });
  }
  const seen = new Map<string, ManifestEntry>();
  let previous = "";
  let totalBytes = 0;
  for (const entry of entries) {
    const checked = checkEntry(entry, previous, seen);
    if (!checked.ok) return checked;
    if (entry.kind === "file") totalBytes += entry.size;
    seen.set(entry.path, entry);
    previous = entry.path;
  }
  if (totalBytes > limits.totalBytesMax) {
    return err({
      code: "tooLarge",
      message:
        `the upload has ${formatBytes(totalBytes)}; ` +
        `at most ${formatBytes(limits.totalBytesMax)} are accepted`,
      remedy: "exclude what the app does not need with .lodeignore",
      at: null,
    });
  }
  return checkLinks(seen);
}

function checkEntry(
  entry: ManifestEntry,
  previous: string,
  seen: ReadonlyMap<string, ManifestEntry>,
): Checked {
  const { path } = entry;
  const fault = pathFault(path);
  if (fault !== null) return refuse(path, `${quoted(path)} cannot be a path: ${fault}`);
  if (seen.has(path)) return refuse(path, `${quoted(path)} is named twice`);
  if (path < previous) {
    return refuse(path, `entries must be sorted by path, but ${quoted(path)} is out of order`);
  }
  const placed = checkAncestors(path, seen);
  if (!placed.ok) return placed;
  switch (entry.kind) {
    case "directory":
      return ok(undefined);
    case "file": {
      const digest = parseDigest(entry.digest);
      if (!digest.ok) return refuse(path, `the digest of ${quoted(path)}: ${digest.error}`);
      if (Number.isSafeInteger(entry.size) && entry.size >= 0) return ok(undefined);
      return refuse(path, `the size of ${quoted(path)} is not a whole number of bytes`);
    }
    case "symlink":
      return checkTarget(entry);
    default:
      return unreachable(entry);
  }
}

/** Sorted order puts every ancestor before what lies under it. */
function checkAncestors(path: string, seen: ReadonlyMap<string, ManifestEntry>): Checked {
  for (let end = path.indexOf("/"); end !== -1; end = path.indexOf("/", end + 1)) {
    const ancestor = seen.get(path.slice(0, end));
    if (ancestor === undefined || ancestor.kind === "directory") continue;
    const what = ancestor.kind === "file" ? "a file" : "a symbolic link";
    return refuse(
      path,
      `${quoted(path)} cannot be there: ${quoted(ancestor.path)} is ${what}, not a folder`,
    );
  }
  return ok(undefined);
}

function checkTarget(entry: SymlinkEntry): Checked {
  const { path, target } = entry;
  const link = `the symbolic link ${quoted(path)}`;
  if (target === "") return refuse(path, `${link} points to nothing`);
  if (target.startsWith("/")) {
    return refuse(
      path,
      `${link} points to the absolute path ${quoted(target)}`,
      "make it relative, or exclude it with .lodeignore",
    );
  }
  const fault = textFault(target);
  if (fault !== null) return refuse(path, `${link} has a target that ${fault}`);
  if (target.split("/").length > segmentsMax) {
    return refuse(path, `${link} has a target of more than ${segmentsMax} parts`);
  }
  return ok(undefined);
}

/** Null when `path` is relative, normal and printable. */
function pathFault(path: string): string | null {
  if (path === "") return "it is empty";
  if (path.startsWith("/")) return "it is absolute";
  const fault = textFault(path);
  if (fault !== null) return `it ${fault}`;
  const segments = path.split("/");
  if (segments.length > segmentsMax) return `it has more than ${segmentsMax} parts`;
  for (const segment of segments) {
    if (segment === "") return "it has an empty part";
    if (segment === "." || segment === "..") return `it has the part "${segment}"`;
    if (byteLength(segment) > segmentBytesMax) {
      return `a part is longer than ${segmentBytesMax} bytes`;
    }
  }
  return null;
}

function textFault(text: string): string | null {
  if (/[\u0000-\u001f\u007f]/.test(text)) return "has a control character";
  if (text.includes("\\")) return "has a backslash";
  if (!text.isWellFormed()) return "is not valid Unicode";
  if (byteLength(text) > pathBytesMax) return `is longer than ${pathBytesMax} bytes`;
  return null;
}

function byteLength(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
  }
  return bytes;
}

/** Where a link leads in the end, and through how many links. */
type Resolved =
  | { readonly kind: "inside"; readonly path: string; readonly links: number }
  | { readonly kind: "outside" | "circle" | "deep" };

function checkLinks(tree: ReadonlyMap<string, ManifestEntry>): Checked {
  const resolved = new Map<string, Resolved>();
  for (const entry of tree.values()) {
    if (entry.kind !== "symlink") continue;
    const end = resolveLink(entry, tree, resolved, 1);
    if (end.kind === "inside") continue;
    const link = `the symbolic link ${quoted(entry.path)} → ${quoted(entry.target)}`;
    const remedy = "point it inside the folder, or exclude it with .lodeignore";
    if (end.kind === "outside") return refuse(entry.path, `${link} leaves the folder`, remedy);
    if (end.kind === "circle") return refuse(entry.path, `${link} runs in a circle`, remedy);
    return refuse(entry.path, `${link} leads through more than ${linksMax} links`, remedy);
  }
  return ok(undefined);
}

/** Each link is walked once: `resolved` remembers where it led. The first fault ends it all. */
function resolveLink(
  link: SymlinkEntry,
  tree: ReadonlyMap<string, ManifestEntry>,
  resolved: Map<string, Resolved>,
  depth: number,
): Resolved {
  const known = resolved.get(link.path);
  if (known !== undefined) return known;
  if (depth > linksMax) return { kind: "deep" };
  // Met again before it is known: the walk came back to it.
  resolved.set(link.path, { kind: "circle" });
  const end = walkTarget(link, tree, resolved, depth);
  resolved.set(link.path, end);
  return end;
}

function walkTarget(
  link: SymlinkEntry,
  tree: ReadonlyMap<string, ManifestEntry>,
  resolved: Map<string, Resolved>,
  depth: number,
): Resolved {
  let current = parentOf(link.path);
  let links = 1;
  for (const segment of link.target.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment === "..") {
      if (current === "") return { kind: "outside" };
      current = parentOf(current);
      continue;
    }
    current = current === "" ? segment : `${current}/${segment}`;
    const entry = tree.get(current);
    if (entry?.kind !== "symlink") continue;
    const end = resolveLink(entry, tree, resolved, depth + 1);
    if (end.kind !== "inside") return end;
    links += end.links;
    if (links > linksMax) return { kind: "deep" };
    current = end.path;
  }
  return { kind: "inside", path: current, links };
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

function refuse(path: string, message: string, remedy: string | null = null): Checked {
  return err({ code: "invalid", message, remedy, at: path.slice(0, 200) });
}

/** JSON quoting shows control characters and keeps a hostile name on one line. */
function quoted(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

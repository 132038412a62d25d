import type { Manifest, ManifestEntry } from "../release.ts";

export type FileEntry = Extract<ManifestEntry, { kind: "file" }>;

/** A text larger than this is never configuration. */
export const textBytesMax = 256 * 1024;

/** At most so many source files are read to find an entry point. */
const sourcesMax = 64;

const configuration = new Set([
  "lode.toml",
  "Procfile",
  "index.html",
  "package.json",
  "pnpm-workspace.yaml",
  "pyproject.toml",
  "requirements.txt",
]);

/**
 * The files whose content recognition looks at. Lock files are not among them: that they are
 * there, and their digest, is enough.
 */
export function filesToRead(manifest: Manifest): readonly string[] {
  const files = manifest.entries.filter(
    (entry) => entry.kind === "file" && entry.size <= textBytesMax,
  );
  const paths = files.map((entry) => entry.path);
  const named = paths.filter((path) => configuration.has(path) || isRequirements(path));
  const sources = paths.filter(isSource);
  sources.sort((left, right) => depthOf(left) - depthOf(right));
  return [...named, ...sources.slice(0, sourcesMax)];
}

function isRequirements(path: string): boolean {
  return /^(?:requirements[^/]*|requirements\/[^/]+|constraints[^/]*)\.txt$/.test(path);
}

/** JavaScript, TypeScript and Python in the root or in a folder that sources lie in. */
function isSource(path: string): boolean {
  return /^(?:(?:src|lib|dist|build|app|server|api)\/)?[^/]+\.(?:[cm]?[jt]s|[jt]sx|py)$/.test(path);
}

function depthOf(path: string): number {
  return path.split("/").length;
}

/** An upload as the recognisers see it: what is there, and the text of the small files. */
export class Tree {
  readonly manifest: Manifest;
  readonly #entries: ReadonlyMap<string, ManifestEntry>;
  readonly #contents: ReadonlyMap<string, string>;

  constructor(manifest: Manifest, contents: ReadonlyMap<string, string>) {
    this.manifest = manifest;
    this.#entries = new Map(manifest.entries.map((entry) => [entry.path, entry]));
    this.#contents = contents;
  }

  file(path: string): FileEntry | null {
    const entry = this.#entries.get(path);
    return entry?.kind === "file" ? entry : null;
  }

  entry(path: string): ManifestEntry | null {
    return this.#entries.get(path) ?? null;
  }

  has(path: string): boolean {
    return this.file(path) !== null;
  }

  /** Whether anything lies in this folder. */
  hasFolder(path: string): boolean {
    return this.manifest.entries.some((entry) => entry.path.startsWith(`${path}/`));
  }

  /** Null when it is not there, or is not a small file. */
  text(path: string): string | null {
    return this.#contents.get(path) ?? null;
  }

  files(matches: (path: string) => boolean): readonly FileEntry[] {
    const found: FileEntry[] = [];
    for (const entry of this.manifest.entries) {
      if (entry.kind === "file" && matches(entry.path)) found.push(entry);
    }
    return found;
  }
}

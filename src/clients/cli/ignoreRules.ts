import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import ignore, { type Ignore } from "ignore";

/** Later files win over earlier ones, so .lodeignore can take back what .gitignore said. */
const ruleFiles = [".gitignore", ".lodeignore"] as const;
const dependencyMarks = [
  "package.json",
  "package-lock.json",
  "bun.lock",
  "bun.lockb",
  "yarn.lock",
  "pnpm-lock.yaml",
];

/** The rules that hold in a folder: its own, and those of the folders around it. */
export interface IgnoreRules {
  /** The rules of a folder under this one, given its entries' names. */
  within(folder: string, names: ReadonlySet<string>): IgnoreRules;
  ignores(path: string, name: string, isFolder: boolean): boolean;
}

interface Layer {
  readonly base: string;
  readonly matcher: Ignore;
  /** Installed dependencies are made anew from the lock file, never uploaded. */
  readonly skipsModules: boolean;
}

/**
 * The rules for the tree under `root`. Those of the repository around it hold too, unless they
 * would ignore `root` itself: whoever deploys an ignored folder means it.
 */
export function rulesFor(root: string): IgnoreRules {
  const around = rulesOf(outerLayers(root));
  return around.ignores(root, "", true) ? rulesOf([]) : around;
}

function rulesOf(layers: readonly Layer[]): IgnoreRules {
  return {
    within: (folder, names) => {
      const layer = layerOf(folder, names);
      return layer === null ? rulesOf(layers) : rulesOf([...layers, layer]);
    },
    ignores: (path, name, isFolder) => {
      if (name === ".git") return true;
      if (name === "node_modules" && layers.some((layer) => layer.skipsModules)) return true;
      for (let index = layers.length - 1; index >= 0; index--) {
        const layer = layers[index];
        if (layer === undefined) continue;
        const inLayer = `${relative(layer.base, path)}${isFolder ? "/" : ""}`;
        const { ignored, unignored } = layer.matcher.test(inLayer);
        if (ignored) return true;
        if (unignored) return false;
      }
      return false;
    },
  };
}

function layerOf(folder: string, names: ReadonlySet<string>): Layer | null {
  const texts = ruleFiles.filter((file) => names.has(file)).map((file) => readText(folder, file));
  const skipsModules = dependencyMarks.some((mark) => names.has(mark));
  if (texts.length === 0 && !skipsModules) return null;
  const matcher = ignore({ ignorecase: false });
  for (const text of texts) matcher.add(text);
  return { base: folder, matcher, skipsModules };
}

function readText(folder: string, file: string): string {
  try {
    return readFileSync(join(folder, file), "utf8");
  } catch {
    return "";
  }
}

/** The rules of the folders around `root`, up to the top of its git repository. */
function outerLayers(root: string): readonly Layer[] {
  const layers: Layer[] = [];
  for (let folder = root; ; ) {
    if (existsSync(join(folder, ".git"))) return layers.reverse();
    const parent = dirname(folder);
    if (parent === folder) return [];
    folder = parent;
    const names = new Set(ruleFiles.filter((file) => existsSync(join(parent, file))));
    const layer = layerOf(folder, names);
    if (layer !== null) layers.push(layer);
  }
}

import type { BuildStep } from "../release.ts";
import type { Tree } from "./tree.ts";

export interface BuildContext {
  /** SHA-256 in lowercase hexadecimal. */
  readonly sha256: (text: string) => string;
  /** Versions of the tools that build; other versions give other layers. */
  readonly toolVersions?: string;
}

/** Raise it when a layer built before must not be used again. */
const layerFormat = 1;

/**
 * Names the layer by everything it is made from. `inputs` are release paths, null for all;
 * `after` are the keys of the layers it is built upon; `digests` stand in for those of files of
 * which only a part matters.
 */
export function buildStep(
  tree: Tree,
  context: BuildContext,
  step: Omit<BuildStep, "cacheKey">,
  extra: {
    readonly env?: Readonly<Record<string, string>>;
    readonly after?: readonly string[];
    readonly digests?: ReadonlyMap<string, string>;
  } = {},
): BuildStep {
  const wanted = step.inputs === null ? null : new Set(step.inputs);
  const inputs = tree.manifest.entries
    .filter((entry) => wanted === null || wanted.has(entry.path))
    .map((entry) => {
      if (entry.kind === "file") {
        return [entry.path, extra.digests?.get(entry.path) ?? entry.digest, entry.executable];
      }
      return entry.kind === "symlink" ? [entry.path, entry.target] : [entry.path];
    });
  const cacheKey = context.sha256(
    JSON.stringify([
      layerFormat,
      context.toolVersions ?? "",
      step.produces,
      step.output,
      step.commands,
      Object.entries(extra.env ?? {}).sort(([left], [right]) => (left < right ? -1 : 1)),
      extra.after ?? [],
      inputs,
    ]),
  );
  return { ...step, cacheKey };
}

import type { Limits } from "../limits.ts";
import type { Package } from "./javascript.ts";
import { shellWord } from "./shell.ts";
import type { Tree } from "./tree.ts";

/** The one runnable archive; null: none, or more than one. */
export function findJar(tree: Tree): string | null {
  const jars = tree.files((path) => /^(?:(?:target|build\/libs|dist)\/)?[^/]+\.jar$/.test(path));
  const runnable = jars.filter(
    ({ path }) => !/(?:^|\/)original-|-(?:sources|javadoc|plain|tests)\.jar$/.test(path),
  );
  return runnable.length === 1 ? (runnable[0]?.path ?? null) : null;
}

/**
 * The sandbox hides the cgroup from the JVM, which then sizes its heap by the whole machine:
 * it is told the ceiling. PORT is passed on in the variables that Spring, Quarkus and Micronaut
 * read.
 */
export function jarLine(path: string, memory: Limits["memory"]): string {
  const ceiling = memory.burst ?? memory.max;
  const known = ceiling === null ? "" : ` -XX:MaxRAM=${ceiling}`;
  const ports = ["SERVER_PORT", "QUARKUS_HTTP_PORT", "MICRONAUT_SERVER_PORT"];
  return (
    `${ports.map((name) => `${name}=$PORT`).join(" ")} exec java${known} ` +
    `-XX:MaxRAMPercentage=70 -XX:+ExitOnOutOfMemoryError -jar ${shellWord(path)}`
  );
}

const executableNames = ["bin/server", "bin/app", "server", "app", "main", "start.sh", "run.sh"];

/** A file by a usual name, or the only one in the root, that has the executable bit. */
export function findExecutable(tree: Tree): string | null {
  const named = executableNames.find((path) => tree.file(path)?.executable === true);
  if (named !== undefined) return named;
  const inRoot = tree.files((path) => !path.includes("/")).filter((file) => file.executable);
  return inRoot.length === 1 ? (inRoot[0]?.path ?? null) : null;
}

const siteFolders = [".", "public", "dist", "build", "out", "_site", "site", "www"];

/** The folder of a finished site. */
export function findSite(tree: Tree): string | null {
  const pageOf = (folder: string) => (folder === "." ? "index.html" : `${folder}/index.html`);
  return siteFolders.find((folder) => tree.has(pageOf(folder))) ?? null;
}

/** Where site generators leave their result. */
const generators: Readonly<Record<string, string>> = {
  vite: "dist",
  astro: "dist",
  parcel: "dist",
  "@vue/cli-service": "dist",
  "react-scripts": "build",
  "@docusaurus/core": "build",
  "@11ty/eleventy": "_site",
  gatsby: "public",
};

/** A site that package.json's build script makes. */
export function findGeneratedSite(
  manifest: Package | null,
): { readonly generator: string; readonly folder: string } | null {
  if (manifest?.scripts["build"] === undefined) return null;
  const packages = { ...manifest.developmentDependencies, ...manifest.dependencies };
  for (const [generator, folder] of Object.entries(generators)) {
    if (Object.hasOwn(packages, generator)) return { generator, folder };
  }
  return null;
}

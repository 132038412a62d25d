import type { Package } from "./javascript.ts";
import type { Tree } from "./tree.ts";

const stems = ["index", "app", "server", "main", "worker"];
const extensions = [".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs"];

/** Where an entry is looked for, in this order, after what package.json names. */
export const entryCandidates: readonly string[] = ["", "src/"].flatMap((folder) =>
  stems.flatMap((stem) => extensions.map((extension) => `${folder}${stem}${extension}`)),
);

export function isModule(path: string): boolean {
  return /\.(?:[cm]?[jt]s|[jt]sx)$/.test(path);
}

/** The first candidate whose text has a default export; whether it has `fetch` shows at start. */
export function findFetchModule(tree: Tree, manifest: Package | null): string | null {
  return present(tree, manifest).find((path) => hasDefaultExport(tree.text(path) ?? "")) ?? null;
}

/** The first candidate that opens a server by itself, such as `http.createServer().listen()`. */
export function findServerProgram(tree: Tree, manifest: Package | null): string | null {
  const listens = /\.listen\s*\(|\b(?:createServer|Bun\.serve|serve)\s*\(/;
  const candidates = [...present(tree, manifest), ...["server.cjs", "index.cjs", "app.cjs"]];
  return candidates.find((path) => listens.test(withoutComments(tree.text(path) ?? ""))) ?? null;
}

/** The program that runs it: Node for JavaScript that asks nothing of Bun. */
export function runtimeOf(path: string, text: string): "bun" | "node" {
  return /\.(?:[cm]?ts|tsx|jsx)$/.test(path) || /\bBun\./.test(text) ? "bun" : "node";
}

function present(tree: Tree, manifest: Package | null): readonly string[] {
  const main = manifest?.main ?? null;
  const named = main === null ? [] : [main, `${main}.js`, `${main}.ts`, `${main}/index.js`];
  const page = tree.text("index.html") ?? "";
  // A script that the page loads is the browser's, not the server's.
  return [...named, ...entryCandidates].filter((path) => tree.has(path) && !page.includes(path));
}

export function hasDefaultExport(text: string): boolean {
  const code = withoutComments(text);
  return (
    /(?:^|[;}\n])\s*export\s+default\b/.test(code) ||
    /\bexport\s*\{[^}]*\bas\s+default\b[^}]*\}/.test(code)
  );
}

/** Code with comments and the insides of strings taken out, near enough to search in. */
function withoutComments(text: string): string {
  const tokens =
    /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(tokens, (token) => (token.startsWith("/") ? " " : '""'));
}

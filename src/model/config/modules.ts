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
  const isHandler = (text: string) =>
    // A server that also exports itself (for its tests) says nothing of fetch.
    hasDefaultExport(text) && (!opensServer(text) || /\bfetch\b/.test(text));
  return present(tree, manifest).find((path) => isHandler(tree.text(path) ?? "")) ?? null;
}

/** The first candidate that opens a server by itself, such as `http.createServer().listen()`. */
export function findServerProgram(tree: Tree, manifest: Package | null): string | null {
  const candidates = [...present(tree, manifest), "server.cjs", "index.cjs", "app.cjs"];
  return candidates.find((path) => opensServer(tree.text(path) ?? "")) ?? null;
}

function opensServer(text: string): boolean {
  return /\.listen\s*\(|\b(?:createServer|Bun\.serve|serve)\s*\(/.test(withoutComments(text));
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
    /(?:^|[;}\n])[^\S\n]*export\s+default\b/.test(code) ||
    /\bexport\s*\{[^}]{0,2000}?\bas\s+default\b/.test(code)
  );
}

/**
 * Code with comments and the insides of strings taken out, near enough to search in. One pass,
 * whatever is written there: the text is a stranger's.
 */
function withoutComments(text: string): string {
  const kept: string[] = [];
  let from = 0;
  for (let at = 0; at < text.length; ) {
    const end = endOfToken(text, at);
    if (end === null) {
      at += 1;
      continue;
    }
    kept.push(text.slice(from, at), " ");
    at = end;
    from = end;
  }
  return kept.join("") + text.slice(from);
}

/** Where the string or comment that begins here ends; null when none begins. */
function endOfToken(text: string, start: number): number | null {
  const pair = text.slice(start, start + 2);
  if (pair === "//") return indexOrEnd(text, "\n", start);
  if (pair === "/*") return indexOrEnd(text, "*/", start + 2) + 2;
  const quote = pair[0];
  if (quote !== '"' && quote !== "'" && quote !== "`") return null;
  for (let at = start + 1; at < text.length; at += 1) {
    const character = text[at];
    if (character === "\\") at += 1;
    else if (character === quote) return at + 1;
    else if (character === "\n" && quote !== "`") return at;
  }
  return text.length;
}

function indexOrEnd(text: string, wanted: string, from: number): number {
  const index = text.indexOf(wanted, from);
  return index === -1 ? text.length : index;
}

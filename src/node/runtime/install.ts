import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
// The programs are embedded as text, so that the one lode executable holds them. TypeScript
// knows no text imports and looks for a default export that is not there.
// @ts-expect-error
import fetchShim from "./fetch-shim.ts" with { type: "text" };
// @ts-expect-error
import staticShim from "./static-shim.ts" with { type: "text" };
// @ts-expect-error
import terminalShim from "./terminal-shim.ts" with { type: "text" };
// @ts-expect-error
import warmUp from "./warm-up.ts" with { type: "text" };

/** Paths inside every sandbox. */
export const inside = {
  app: "/app",
  /** HOME: the app's own volume. */
  home: "/data",
  temporary: "/tmp",
  /** Writable; the app's socket appears here. */
  socketDirectory: "/run/lode-app",
  socket: "/run/lode-app/http.sock",
  tools: "/opt/lode/bin",
  bun: "/opt/lode/bin/bun",
  runtime: "/opt/lode/runtime",
  fetchShim: "/opt/lode/runtime/fetch-shim.ts",
  staticShim: "/opt/lode/runtime/static-shim.ts",
  terminalShim: "/opt/lode/runtime/terminal-shim.ts",
} as const;

/**
 * Writes the programs that run inside sandboxes to `directory`, root-owned. Each is replaced in
 * one rename, as running sandboxes may be reading it.
 */
export function installRuntime(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const programs: readonly (readonly [string, string])[] = [
    ["fetch-shim.ts", fetchShim],
    ["static-shim.ts", staticShim],
    ["terminal-shim.ts", terminalShim],
    ["warm-up.ts", warmUp],
  ];
  for (const [name, text] of programs) {
    const path = join(directory, name);
    writeFileSync(`${path}.new`, text);
    chmodSync(`${path}.new`, 0o644);
    renameSync(`${path}.new`, path);
  }
}

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GatewayProgram } from "./gateways.ts";
import { isCompiled } from "./runtime.ts";
import { version } from "./version.ts";

/**
 * What a gateway process runs. A compiled Lode runs itself; a clone bundles the gateway's entry
 * into one file, because the sandboxed process sees neither the clone nor its node_modules.
 *
 * @param executable this process's own executable, where every uid can reach it
 * @param directory for the bundle
 */
export async function prepareGatewayProgram(
  executable: string,
  directory: string,
): Promise<GatewayProgram> {
  if (isCompiled()) {
    return {
      build: `${version} ${executable}`,
      argv: [executable, "gateway"],
      files: [executable],
    };
  }
  const entry = join(import.meta.dir, "gateway-entry.ts");
  const built = await Bun.build({ entrypoints: [entry], target: "bun", minify: true });
  const output = built.outputs[0];
  if (!built.success || output === undefined) {
    throw new Error(`cannot bundle the gateway: ${built.logs.map(String).join("; ")}`);
  }
  const code = await output.text();
  const digest = new Bun.CryptoHasher("sha256").update(code).digest("hex").slice(0, 16);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const file = join(directory, `gateway-${digest}.js`);
  writeFileSync(file, code, { mode: 0o644 });
  return {
    build: `${version} ${digest} ${executable}`,
    argv: [executable, file],
    files: [executable, file],
  };
}

import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { join, resolve } from "node:path";
import type { GatewayProgram } from "./gateways.ts";
import { isCompiled } from "./runtime.ts";
import { version } from "./version.ts";

const clone = resolve(import.meta.dir, "../..");

/**
 * What a gateway process runs. A compiled Lode runs itself; a clone bundles the gateway's entry
 * into one file, because the sandboxed process sees neither the clone nor its node_modules.
 *
 * The bundler is a process of its own: in this one it would leave 4 MB for as long as lode runs,
 * of its arenas and of its code.
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
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const bundle = join(directory, "gateway.js.new");
  await bundleGateway(bundle);
  const digest = new Bun.CryptoHasher("sha256").update(readFileSync(bundle)).digest("hex");
  const name = digest.slice(0, 16);
  const file = join(directory, `gateway-${name}.js`);
  renameSync(bundle, file);
  return {
    build: `${version} ${name} ${executable}`,
    argv: [executable, file],
    files: [executable, file],
  };
}

async function bundleGateway(output: string): Promise<void> {
  const entry = join(clone, "src/up/gateway-entry.ts");
  const bundler = Bun.spawn(
    [
      ...[join(clone, "tools/bun"), "build", entry],
      ...["--target=bun", "--minify", `--outfile=${output}`],
    ],
    { cwd: clone, stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  const [code, problem] = await Promise.all([bundler.exited, new Response(bundler.stderr).text()]);
  if (code !== 0) throw new Error(`cannot bundle the gateway: ${problem.trim()}`);
}

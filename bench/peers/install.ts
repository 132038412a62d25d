import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A peer that cannot take part says why; its rows in the tables then do. */
export type Available<Peer> =
  | { readonly ok: true; readonly peer: Peer }
  | { readonly ok: false; readonly reason: string };

export interface Output {
  readonly code: number;
  readonly text: string;
}

export async function output(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd: string = tmpdir(),
): Promise<Output> {
  const child = Bun.spawn([...command], {
    cwd,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, text: `${out}${errors}`.trim() };
}

/**
 * The program's path; installs its Debian package when it is missing. A policy-rc.d keeps
 * freshly installed services from starting by themselves.
 */
export async function ensureProgram(program: string, debianPackage: string): Promise<string> {
  const found = Bun.which(program, { PATH: searchPath });
  if (found !== null) return found;
  const policy = "/usr/sbin/policy-rc.d";
  const hadPolicy = await Bun.file(policy).exists();
  if (!hadPolicy) {
    await Bun.write(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  }
  const install = ["apt-get", "install", "-y", "--no-install-recommends", debianPackage];
  const result = await output(install, { DEBIAN_FRONTEND: "noninteractive" });
  if (!hadPolicy) await Bun.file(policy).delete();
  const installed = Bun.which(program, { PATH: searchPath });
  if (installed === null) {
    throw new Error(`apt-get install ${debianPackage}: ${result.text.split("\n").at(-1)}`);
  }
  return installed;
}

const searchPath = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin";

/** The binary of an npm package, installed outside of the project. */
export async function ensureNpmBinary(name: string, binary: string): Promise<string> {
  const folder = join(tmpdir(), "lode-bench-peers");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "node_modules", binary);
  if (await Bun.file(path).exists()) return path;
  const install = ["npm", "install", "--prefix", folder, "--no-save", "--no-audit", name];
  const result = await output(install);
  if (!(await Bun.file(path).exists())) {
    throw new Error(`npm install ${name}: ${result.text.split("\n").at(-1)}`);
  }
  return path;
}

/** Runs `prepare`; what it throws becomes the reason why the peer is missing. */
export async function attempt<Peer>(prepare: () => Promise<Peer>): Promise<Available<Peer>> {
  try {
    return { ok: true, peer: await prepare() };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Ends a process that the benchmark started, and waits for it. */
export async function stop(child: Bun.Subprocess): Promise<void> {
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
  await child.exited;
  clearTimeout(timer);
}

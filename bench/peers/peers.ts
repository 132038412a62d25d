import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePorts } from "../../test/harness/host.ts";
import { Lode } from "../lode.ts";
import { Docker } from "./docker.ts";
import { type Available, attempt, output } from "./install.ts";
import { Workerd } from "./workerd.ts";

/** All that take part, and a folder of their own. */
export interface Peers {
  readonly folder: string;
  readonly bun: string;
  readonly lode: Lode;
  readonly docker: Available<Docker>;
  readonly workerd: Available<Workerd>;
}

export const helloFolder = join(import.meta.dir, "../../examples/hello");
export const serveProgram = join(import.meta.dir, "../programs/serve.ts");

export async function startPeers(): Promise<Peers> {
  const folder = mkdtempSync(join(tmpdir(), "lode-bench-"));
  const bun = process.execPath;
  const docker = await attempt(() => Docker.start(join(folder, "docker"), bun));
  const workerd = await attempt(() => Workerd.prepare(join(folder, "workerd")));
  return { folder, bun, lode: await Lode.start(), docker, workerd };
}

export async function stopPeers(peers: Peers): Promise<void> {
  try {
    await peers.lode.stop();
  } finally {
    if (peers.docker.ok) await peers.docker.peer.stop();
    rmSync(peers.folder, { recursive: true, force: true });
  }
}

export async function freePort(): Promise<number> {
  return (await freePorts(1))[0] ?? 0;
}

/** A copy of hello that differs from every other: nothing of it can have been cached. */
export async function freshHello(peers: Peers, name: string): Promise<string> {
  const folder = join(peers.folder, name);
  await output(["cp", "-rT", helloFolder, folder]);
  const source = await Bun.file(join(helloFolder, "index.ts")).text();
  await Bun.write(join(folder, "index.ts"), `${source}// ${name} ${Math.random()}\n`);
  return folder;
}

// Hostile uploads and builds, through the public way. Each answers with a report as the
// programs do.

import { copyFileSync, existsSync, lstatSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { archiveScript } from "./control.ts";
import type { Stage } from "./stage.ts";

const app = "hostile-supply";
const hello = 'export default { fetch: () => new Response("up") };\n';

export async function runSupply(stage: Stage, id: string): Promise<string> {
  const lines = id === "archives" ? await archives(stage) : await swollen(stage);
  return `${lines.join("\n")}\nend ${id}\n`;
}

/** Unpacked by a build, as a dependency's install script would. */
async function archives(stage: Stage): Promise<string[]> {
  const { cloud, around } = stage;
  const outside = dirname(around.canaryFile);
  const lines: string[] = [];
  for (const kind of ["with-pipe", "plain"]) {
    const unpack = `python3 archive.py ${outside} ${kind}; tar -xpPf evil.tar || chmod 4755 setuid`;
    const said = await build(stage, [unpack]);
    lines.push(
      said === null ? `took an archive (${kind})` : `refused an archive (${kind}): ${said}`,
    );
  }
  const layers = join(cloud.dataDirectory, "node/disk/build/layers");
  for (const path of filesBelow(layers)) {
    const found = lstatSync(path);
    const name = basename(path);
    if ((found.mode & 0o6000) !== 0) lines.push(`breach ${name} is setuid`);
    const known = found.isFile() || found.isDirectory() || found.isSymbolicLink();
    if (!known) lines.push(`breach ${name} is no file`);
    if (found.uid !== 0) lines.push(`breach ${name} belongs to ${found.uid}`);
  }
  for (const name of ["absolute", "linked", "above"]) {
    if (existsSync(join(outside, name))) lines.push(`breach ${name} lies outside`);
  }
  return lines;
}

async function swollen(stage: Stage): Promise<string[]> {
  const said = await build(stage, ["fallocate -l 8T bomb"]);
  const bomb = said === null ? "breach the bomb unpacked" : `refused the bomb: ${said}`;
  const entries = Array.from({ length: 1_000_000 }, (_, index) => ({
    kind: "directory",
    path: `d${String(index).padStart(7, "0")}`,
  }));
  const response = await stage.cloud.api(`/v1/projects/default/apps/${app}-x/releases`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ manifest: { entries } }),
  });
  const { detail } = (await response.json()) as { detail: string };
  const refused = response.status >= 400 && response.status < 500;
  return [bomb, refused ? `refused a million entries: ${detail}` : "breach a million entries"];
}

/** Null when it was built and runs, else the reason. */
async function build({ cloud }: Stage, commands: readonly string[]): Promise<string | null> {
  const toml = `build = ${JSON.stringify(commands)}\n`;
  const folder = await cloud.folder({ "index.ts": hello, "lode.toml": toml });
  copyFileSync(archiveScript, join(folder, "archive.py"));
  const done = await cloud.cli(["deploy", folder, "--app", app, "--json"]);
  if (done.code === 0) return null;
  return `${done.stdout}${done.stderr}`.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? [path, ...filesBelow(path)] : [path];
  });
}

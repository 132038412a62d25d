// The machine's disks. The system is made from Debian packages once and kept in the user's cache;
// the repository is copied as it is now, for each machine anew.

import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { repository, run } from "../harness/cloud.ts";

export interface SystemImage {
  readonly disk: string;
  readonly kernel: string;
  readonly firstRoot: string;
}

const release = "bookworm";
/** Sparse: what the machine's tests may fill. */
const systemSize = "8G";
const repositorySize = "2G";
const guestFolder = join(import.meta.dir, "guest");

/** What of node_modules only `npm run check` needs, half of its size. */
const checkersOnly = ["@biomejs", "@swc", "@typescript"];

/** Says what it does before it does it: some steps take a minute. */
export async function step<Value>(title: string, action: () => Promise<Value>): Promise<Value> {
  const startedAt = performance.now();
  process.stderr.write(`rig: ${title} …\n`);
  const value = await action();
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  process.stderr.write(`rig: ${title}: ${seconds} s\n`);
  return value;
}

export async function must(command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, { timeoutMs: 15 * 60_000 });
  if (code === 0) return stdout;
  const tail = `${stdout}${stderr}`.split("\n").slice(-25).join("\n");
  throw new Error(`${command[0]} ended with ${code}:\n${tail}`);
}

function guestPackages(): readonly string[] {
  const packages = JSON.parse(readFileSync(join(repository, "tools/packages.json"), "utf8"));
  return Object.keys({ ...packages.run, ...packages.guest }).sort();
}

/** Made when it is not in the cache; whatever it is made of is part of its name there. */
export async function systemImage(): Promise<SystemImage> {
  const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "lode-rig");
  const packages = guestPackages();
  const hash = createHash("sha256").update(JSON.stringify([release, systemSize, packages]));
  for (const file of ["install.sh", "init"]) hash.update(readFileSync(join(guestFolder, file)));
  const directory = join(cache, hash.digest("hex").slice(0, 16));
  if (!existsSync(directory)) {
    mkdirSync(cache, { recursive: true });
    await step("making a machine's system from Debian packages, once", () =>
      buildSystem(cache, directory, packages),
    );
  }
  return {
    disk: join(directory, "system.ext4"),
    kernel: join(directory, "vmlinuz"),
    firstRoot: join(directory, "initrd"),
  };
}

async function buildSystem(
  cache: string,
  directory: string,
  packages: readonly string[],
): Promise<void> {
  const before = readdirSync(cache).filter((name) => !name.startsWith("building-"));
  const building = mkdtempSync(join(cache, "building-"));
  try {
    const root = join(building, "root");
    await must([
      ...["mmdebstrap", "--quiet", "--variant=minbase", `--include=${packages.join(",")}`],
      `--customize-hook=sh ${guestFolder}/install.sh "$1"`,
      ...[release, root, ...hostSources()],
    ]);
    for (const file of ["vmlinuz", "initrd"]) {
      copyFileSync(join(root, "boot", file), join(building, file));
    }
    await makeDisk(root, join(building, "system.ext4"), systemSize);
    rmSync(root, { recursive: true });
    // Another process may have made the same meanwhile.
    if (!existsSync(directory)) renameSync(building, directory);
    for (const name of before) rmSync(join(cache, name), { recursive: true, force: true });
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
}

/** Where this machine takes the release's packages from, when it does; else Debian's servers. */
function hostSources(): readonly string[] {
  const places = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
  const file = places.find((place) => existsSync(place) && mentions(place, release));
  return file === undefined ? [] : [file];
}

function mentions(file: string, word: string): boolean {
  return new RegExp(`^[^#]*\\b${word}\\b`, "m").test(readFileSync(file, "utf8"));
}

async function makeDisk(folder: string, file: string, size: string): Promise<void> {
  const lazy = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";
  await must(["mke2fs", "-q", "-t", "ext4", "-E", lazy, "-d", folder, file, size]);
}

/** The repository as it is now, also what is not committed, as a disk. */
export async function repositoryImage(file: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "lode-rig-repository-"));
  const exclude = checkersOnly.map((name) => `--exclude=./${name}`).join(" ");
  try {
    const list = "git ls-files --cached --others --exclude-standard --deduplicate -z";
    const present = `${list} | xargs -0 sh -c '
      for path; do if [ -e "$path" ]; then printf "%s\\0" "$path"; fi; done' sh`;
    const copy = `tar -C "$1" -c --null -T - | tar -C "$2" -x`;
    // In a second working tree it is a link to the first one's.
    const modules = `mkdir "$2/node_modules";
      tar -C "$1/node_modules/" -c ${exclude} . | tar -C "$2/node_modules" -x`;
    const script = `cd "$1"; ${present} | ${copy}; ${modules}`;
    await must(["sh", "-euc", script, "sh", repository, folder]);
    await makeDisk(folder, file, repositorySize);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

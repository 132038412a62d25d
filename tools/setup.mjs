// Makes a fresh clone runnable, under plain Node and before anything is installed: npm packages
// as package-lock.json has them, and the Debian packages of packages.json. Run it as often as
// you like; with nothing to do it takes the time Node needs to start.
//
//   node tools/setup.mjs [run|test|rig]…    also what only the tests need, or the rig

import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { arch } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const readJson = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));

/** The first package that is not installed in the locked version; null when all are. */
function missingNpmPackage() {
  const installedFile = "node_modules/.package-lock.json";
  if (!existsSync(join(root, installedFile))) return "node_modules";
  const wanted = readJson("package-lock.json").packages;
  const installed = readJson(installedFile).packages;
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    // Optional packages are those of other platforms.
    if (path === "" || optional || installed[path]?.version === version) continue;
    return path;
  }
  return null;
}

/** Debian packages that are not installed; null on a system without dpkg. */
function missingDebianPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const query = ["--show", "--showformat", "${Package} ${db:Status-Status}\\n", ...names];
  const { error, stdout } = spawnSync("dpkg-query", query, { encoding: "utf8" });
  if (error !== undefined) return null;
  const installed = new Set();
  for (const line of stdout.split("\n")) {
    const [name, status] = line.split(" ");
    if (status === "installed") installed.add(name);
  }
  return names.filter((name) => !installed.has(name));
}

/** Runs a program and shows that it lives; resolves to its exit code and last lines. */
function run(title, command, args, env = {}) {
  return new Promise((resolve) => {
    const startedAt = Date.now();
    const seconds = () => Math.round((Date.now() - startedAt) / 1000);
    const terminal = process.stdout.isTTY === true;
    process.stdout.write(terminal ? `${title} …` : `${title} …\n`);
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const lines = [];
    const keep = (chunk) => {
      lines.push(...String(chunk).split("\n").filter(Boolean));
      lines.splice(0, Math.max(0, lines.length - 20));
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const period = terminal ? 1000 : 15_000;
    const show = () =>
      process.stdout.write(terminal ? `\r${title} … ${seconds()} s ` : `  ${seconds()} s …\n`);
    const progress = setInterval(show, period);
    const finish = (code) => {
      clearInterval(progress);
      const end = code === 0 ? `done in ${seconds()} s` : `failed with ${code}`;
      process.stdout.write(terminal ? `\r${title}: ${end}          \n` : `${title}: ${end}\n`);
      resolve({ code, lines });
    };
    child.on("error", (cause) => {
      keep(cause.message);
      finish(127);
    });
    child.on("close", finish);
  });
}

function giveUp(message, lines = []) {
  for (const line of lines) process.stderr.write(`  ${line}\n`);
  process.stderr.write(`setup: ${message}\n`);
  process.exit(1);
}

async function installNpmPackages() {
  const reason = missingNpmPackage();
  if (reason !== null) {
    const args = ["ci", "--no-audit", "--no-fund"];
    const { code, lines } = await run("setup: installing npm packages", "npm", args);
    if (code !== 0) giveUp("npm ci failed; its last lines are above", lines);
  }
  const platform = `bun-linux-${arch() === "arm64" ? "aarch64" : "x64"}`;
  const places = [`node_modules/@oven/${platform}/bin/bun`, "node_modules/bun/bin/bun.exe"];
  if (places.some((path) => existsSync(join(root, path)))) return;
  giveUp(`no Bun for ${process.platform} ${arch()}; Lode runs on Linux, x64 or arm64`);
}

async function installDebianPackages(names) {
  const missing = missingDebianPackages(names);
  const list = (missing ?? names).join(" ");
  if (missing === null) {
    process.stdout.write(`setup: no dpkg here; see that these are installed: ${list}\n`);
    return;
  }
  if (missing.length === 0) return;
  if (process.getuid() !== 0) giveUp(`run: sudo apt-get install ${list}`);
  const quiet = { DEBIAN_FRONTEND: "noninteractive" };
  const wait = "DPkg::Lock::Timeout=300";
  const install = ["-o", wait, "install", "--yes", "--no-install-recommends", ...missing];
  const title = `setup: installing ${list}`;
  const known = spawnSync("apt-cache", ["show", "--no-all-versions", ...missing]).status === 0;
  if (known && (await run(title, "apt-get", install, quiet)).code === 0) return;
  // One broken source among several must not matter: the installation itself will tell.
  await run("setup: updating package lists", "apt-get", ["-o", wait, "update"], quiet);
  const { code, lines } = await run(title, "apt-get", install, quiet);
  if (code !== 0) giveUp(`apt-get could not install: ${list}`, lines);
}

const purposes = ["run", "test", "rig"];
const chosen = process.argv.slice(2);
const unknown = chosen.find((purpose) => !purposes.includes(purpose));
if (unknown !== undefined) giveUp(`"${unknown}" is none of ${purposes.join(", ")}`);
const packages = readJson("tools/packages.json");
const names = ["run", ...chosen].flatMap((purpose) => Object.keys(packages[purpose]));
await installNpmPackages();
await installDebianPackages(names);

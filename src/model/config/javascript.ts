import { err, ok, type Result } from "../../base/result.ts";
import type { BuildStep } from "../release.ts";
import { type BuildContext, buildStep } from "./build-step.ts";
import { type ConfigProblem, configProblem } from "./problem.ts";
import { shellWord } from "./shell.ts";
import type { Tree } from "./tree.ts";

/** The parts of package.json that decide how an app is installed, built and started. */
export interface Package {
  readonly scripts: Readonly<Record<string, string>>;
  readonly main: string | null;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly developmentDependencies: Readonly<Record<string, string>>;
  readonly workspaces: boolean;
  /** `pnpm@10.1.0`, as corepack reads it. */
  readonly packageManager: { readonly name: string; readonly version: string } | null;
  /** Everything in it that installing may depend on, as text: names the layer. */
  readonly installation: string;
}

const packageFile = "package.json";

/** Fields that change from release to release and never what is installed. */
const unrelatedFields = new Set([
  ...["name", "version", "description", "keywords", "author", "contributors", "license"],
  ...["homepage", "bugs", "repository", "funding", "private", "type", "scripts", "files"],
  ...["main", "module", "browser", "exports", "imports", "types", "bin"],
]);

/** Null when the tree has no package.json. */
export function readPackage(tree: Tree): Result<Package | null, ConfigProblem> {
  if (!tree.has(packageFile)) return ok(null);
  const text = tree.text(packageFile);
  if (text === null) {
    return err(configProblem(`${packageFile} is too large to be read`, { at: packageFile }));
  }
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return err(configProblem(`${packageFile} is not valid JSON: ${reason}`, { at: packageFile }));
  }
  if (!isTable(value)) {
    return err(configProblem(`${packageFile} is not a JSON object`, { at: packageFile }));
  }
  const manager = /^([a-z]+)@(\d+(?:\.\d+){0,2}(?:-[\w.]+)?)/.exec(String(value["packageManager"]));
  return ok({
    scripts: strings(value["scripts"]),
    main: firstText(value["module"], value["main"]),
    dependencies: { ...strings(value["optionalDependencies"]), ...strings(value["dependencies"]) },
    developmentDependencies: strings(value["devDependencies"]),
    workspaces: value["workspaces"] !== undefined || tree.has("pnpm-workspace.yaml"),
    packageManager: manager === null ? null : { name: manager[1] ?? "", version: manager[2] ?? "" },
    installation: JSON.stringify(
      Object.entries(value).filter(([field]) => !unrelatedFields.has(field)),
    ),
  });
}

function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function strings(value: unknown): Readonly<Record<string, string>> {
  if (!isTable(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, item]) => (typeof item === "string" ? [[key, item]] : [])),
  );
}

function firstText(...values: readonly unknown[]): string | null {
  const found = values.find((value) => typeof value === "string" && value !== "");
  return typeof found === "string" ? found.replace(/^\.\//, "") : null;
}

/** How a lock file's own package manager installs exactly what it says. */
interface Manager {
  readonly name: "npm" | "bun" | "pnpm" | "yarn";
  /** Null: there is none; versions are what the registry has on the day of the build. */
  readonly lock: string | null;
  readonly install: (development: boolean) => string;
  readonly run: (script: string) => string;
}

function managerOf(tree: Tree, manifest: Package): Manager {
  const has = (path: string) => tree.has(path);
  const npm = (lock: string | null, command: string): Manager => ({
    name: "npm",
    lock,
    install: (development) =>
      `npm ${command} --no-audit --no-fund ${development ? "--include" : "--omit"}=dev`,
    run: (script) => `npm run ${script}`,
  });
  if (has("package-lock.json")) return npm("package-lock.json", "ci");
  if (has("npm-shrinkwrap.json")) return npm("npm-shrinkwrap.json", "ci");
  for (const lock of ["bun.lock", "bun.lockb"]) if (has(lock)) return bunManager(lock);
  if (has("pnpm-lock.yaml")) return pnpmManager(manifest);
  if (has("yarn.lock")) return yarnManager(tree, manifest);
  return npm(null, "install");
}

function bunManager(lock: string): Manager {
  return {
    name: "bun",
    lock,
    install: (development) => `bun install --frozen-lockfile${development ? "" : " --production"}`,
    run: (script) => `bun run ${script}`,
  };
}

/** Used when package.json names no version. */
const pnpmVersion = "10";
const yarnClassicVersion = "1.22.22";
const yarnBerryVersion = "4";

function pnpmManager(manifest: Package): Manager {
  const { packageManager } = manifest;
  const version = packageManager?.name === "pnpm" ? packageManager.version : pnpmVersion;
  const pnpm = `npx --yes pnpm@${shellWord(version)}`;
  return {
    name: "pnpm",
    lock: "pnpm-lock.yaml",
    install: (development) =>
      `${pnpm} install --frozen-lockfile ${development ? "--prod=false" : "--prod"}`,
    run: (script) => `${pnpm} run ${script}`,
  };
}

/** Yarn 1 and the later "berry" are different programs; .yarnrc.yml exists only for berry. */
function yarnManager(tree: Tree, manifest: Package): Manager {
  const { packageManager } = manifest;
  const named = packageManager?.name === "yarn" ? packageManager.version : null;
  const berry = named === null ? tree.has(".yarnrc.yml") : !named.startsWith("1.");
  if (!berry) {
    const yarn = `npx --yes yarn@${shellWord(named ?? yarnClassicVersion)}`;
    return {
      name: "yarn",
      lock: "yarn.lock",
      install: (development) =>
        `${yarn} install --frozen-lockfile --non-interactive --production=${!development}`,
      run: (script) => `${yarn} run ${script}`,
    };
  }
  const version = shellWord(named ?? yarnBerryVersion);
  // Plug'n'Play leaves no folder to share; berry keeps development packages in any case.
  const yarn = `YARN_NODE_LINKER=node-modules npx --yes -p @yarnpkg/cli-dist@${version} yarn`;
  return {
    name: "yarn",
    lock: "yarn.lock",
    install: () => `${yarn} install --immutable`,
    run: (script) => `${yarn} run ${script}`,
  };
}

export interface Installation {
  readonly steps: readonly BuildStep[];
  readonly nodeModules: boolean;
  /** For the sentence of what was recognised: `dependencies by npm ci (package-lock.json)`. */
  readonly note: string | null;
}

/**
 * The layers of a JavaScript app. Packages are a layer of their own, made from package.json
 * and the lock file alone and so shared by every app with the same ones; where installing
 * looks at more (workspaces, local packages, install scripts) it is made from all files.
 */
export function javascriptSteps(
  tree: Tree,
  manifest: Package,
  context: BuildContext,
  options: {
    /** What starts the app: a development tool named in it is installed too. */
    readonly start: string;
    /** lode.toml's build lines; null: package.json's build script, if any. */
    readonly build: readonly string[] | null;
    readonly env: Readonly<Record<string, string>>;
  },
): Result<Installation, ConfigProblem> {
  const manager = managerOf(tree, manifest);
  const scripted = manifest.scripts["build"] === undefined ? [] : [manager.run("build")];
  const build = options.build ?? scripted;
  const development = needsDevelopment(manifest, build.length > 0, options.start);
  const install = manager.install(development);
  const wanted = {
    ...manifest.dependencies,
    ...(development ? manifest.developmentDependencies : {}),
  };
  const vendored = tree.entry("node_modules") !== null || tree.hasFolder("node_modules");
  if (tree.entry("node_modules")?.kind === "symlink") {
    return err(
      configProblem("node_modules is a symbolic link", {
        at: "node_modules",
        remedy: "exclude it with .lodeignore; Lode installs the dependencies itself",
      }),
    );
  }
  const needed = !vendored && (Object.keys(wanted).length > 0 || manifest.workspaces);
  const note = vendored
    ? "with the uploaded node_modules"
    : needed
      ? `dependencies by ${manager.name} (${manager.lock ?? "package.json, no lock file"})`
      : null;
  const nodeModules = needed || vendored;
  if (needed && manifest.workspaces) {
    // Workspaces have node_modules in several folders: one step leaves the whole tree.
    const commands = [install, ...build];
    const step = { produces: "app", inputs: null, commands, output: "." } as const;
    return ok({ steps: [buildStep(tree, context, step, options)], nodeModules, note });
  }
  const steps: BuildStep[] = [];
  if (needed) {
    const inputs = installInputs(tree, manifest, manager);
    const step = { produces: "dependencies", inputs, commands: [install] } as const;
    const digests = new Map([[packageFile, context.sha256(manifest.installation)]]);
    const extra = inputs === null ? {} : { digests };
    steps.push(buildStep(tree, context, { ...step, output: "node_modules" }, extra));
  }
  if (build.length > 0) steps.push(appStep(tree, context, build, options.env, steps));
  return ok({ steps, nodeModules, note });
}

/** Builds the app on top of the layers before it. */
export function appStep(
  tree: Tree,
  context: BuildContext,
  commands: readonly string[],
  env: Readonly<Record<string, string>>,
  before: readonly BuildStep[],
): BuildStep {
  const after = before.map((step) => step.cacheKey);
  const step = { produces: "app", inputs: null, commands, output: "." } as const;
  return buildStep(tree, context, step, { env, after });
}

const installScripts = ["preinstall", "install", "postinstall", "prepare"];

/** Development packages are needed to build, by install scripts, or by the start line itself. */
function needsDevelopment(manifest: Package, builds: boolean, start: string): boolean {
  if (builds || installScripts.some((script) => manifest.scripts[script] !== undefined))
    return true;
  const words = start.split(/[^\w@./-]+/);
  return words.some((word) => Object.hasOwn(manifest.developmentDependencies, word));
}

/** What installing may look at; null: everything. */
function installInputs(tree: Tree, manifest: Package, manager: Manager): readonly string[] | null {
  if (installScripts.some((script) => manifest.scripts[script] !== undefined)) return null;
  const versions = [
    ...Object.values(manifest.dependencies),
    ...Object.values(manifest.developmentDependencies),
  ];
  if (
    versions.some((version) => /^(?:file|link|portal|workspace|patch):|^\.{0,2}\//.test(version))
  ) {
    return null;
  }
  const names = [packageFile, manager.lock, ".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml"];
  const also = tree.files((path) =>
    /^(?:\.yarn\/(?:releases|plugins|patches|cache)|patches)\/|^\.pnpmfile\.cjs$/.test(path),
  );
  const present = names.filter((name) => name !== null && tree.has(name)) as readonly string[];
  return [...present, ...also.map((file) => file.path)].sort();
}

import { lstatSync } from "node:fs";
import { join } from "node:path";
import { unreachable } from "../../base/assert.ts";
import type { AppName, InstanceId, ProcessType, ProjectName } from "../../model/names.ts";
import { type Command, type Release, releaseName } from "../../model/release.ts";
import type { NetworkSlot } from "../network/network.ts";
import { inside } from "../runtime/install.ts";
import type { BindMount, SandboxSpec } from "../sandbox/sandbox.ts";

/** What an app that listens on TCP finds in PORT; each has a network of its own. */
export const defaultPort = 8080;

/** Host paths that sandboxes of one node share. */
export interface HostTools {
  /** The Bun binary, or the lode executable that acts as one. */
  readonly bun: string;
  /** Set where `bun` is the lode executable. */
  readonly bunEnv: Readonly<Record<string, string>>;
  /** Folder of Lode's programs for inside sandboxes. */
  readonly runtime: string;
  /** The system's CA bundle, which Node does not read by itself; null where there is none. */
  readonly caBundle: string | null;
}

/** A release's files, ready on this node. */
export interface Prepared {
  /** Shown read-only at /app. */
  readonly tree: string;
  /** Layers shown over it; `at` is relative to /app. */
  readonly layers: readonly { readonly source: string; readonly at: string }[];
}

export interface Launch {
  readonly project: ProjectName;
  readonly app: AppName;
  readonly instance: InstanceId;
  readonly process: ProcessType;
  readonly release: Release;
  /** Opened: name → value. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly uid: number;
  readonly network: NetworkSlot | "none";
  readonly prepared: Prepared;
  /** The app's volume. */
  readonly volume: string;
  /** Where the app makes its socket; null when it makes none. */
  readonly socketDirectory: string | null;
  readonly openFiles: number;
  readonly tools: HostTools;
}

const tmpBytes = 256 * 1024 ** 2;
/** Where npm and Python's venv put a project's programs. */
const projectPath = `${inside.app}/node_modules/.bin:${inside.app}/.venv/bin`;
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The sandbox of one process of a release, running `argv`. */
export function specify(launch: Launch, argv: readonly string[]): SandboxSpec {
  const { prepared } = launch;
  const binds: BindMount[] = [
    readOnly(prepared.tree, inside.app),
    ...prepared.layers.map(({ source, at }) => readOnly(source, `${inside.app}/${at}`)),
    { source: launch.volume, destination: inside.home, writable: true },
    ...toolBinds(launch.tools),
  ];
  if (launch.socketDirectory !== null) {
    const source = launch.socketDirectory;
    binds.push({ source, destination: inside.socketDirectory, writable: true });
  }
  return {
    uid: launch.uid,
    hostname: launch.app,
    network: launch.network,
    binds,
    tmpBytes,
    workingDirectory: inside.app,
    env: environment(launch),
    argv,
    openFiles: launch.openFiles,
  };
}

export function toolBinds(tools: HostTools): BindMount[] {
  return [readOnly(tools.bun, inside.bun), readOnly(tools.runtime, inside.runtime)];
}

function readOnly(source: string, destination: string): BindMount {
  return { source, destination, writable: false };
}

/** What Lode gives every program, builds too. */
export function baseEnvironment(tools: HostTools): Record<string, string> {
  return {
    PATH: `${projectPath}:${inside.tools}:${systemPath}`,
    HOME: inside.home,
    TMPDIR: inside.temporary,
    LANG: "C.UTF-8",
    // Output goes to a file, where Python would hold lines back by the block.
    PYTHONUNBUFFERED: "1",
    ...(tools.caBundle === null ? {} : { NODE_EXTRA_CA_CERTS: tools.caBundle }),
    ...tools.bunEnv,
  };
}

/**
 * Later ones win: Lode's defaults, the release's configuration, the app's environment, its
 * secrets, and last what Lode alone knows.
 */
function environment(launch: Launch): Record<string, string> {
  const { release } = launch;
  const chosen = { ...release.config.env, ...release.env, ...launch.secrets };
  const listens = release.config.processes[launch.process]?.listen === "tcp";
  return {
    ...baseEnvironment(launch.tools),
    ...(listens ? { PORT: String(defaultPort), HOST: "0.0.0.0" } : {}),
    ...chosen,
    ...(listens ? { PORT: String(portOf(release, launch.secrets)) } : {}),
    LODE_APP: launch.app,
    LODE_RELEASE: releaseName(release.number),
    LODE_INSTANCE: launch.instance,
    LODE_PROCESS: launch.process,
  };
}

/** Where a process that listens on TCP is looked for: its own PORT, if that is one. */
export function portOf(release: Release, secrets: Readonly<Record<string, string>>): number {
  const chosen = secrets.PORT ?? release.env.PORT ?? release.config.env.PORT;
  const port = chosen === undefined || !/^\d{1,5}$/.test(chosen) ? defaultPort : Number(chosen);
  return port >= 1 && port <= 65_535 ? port : defaultPort;
}

export function argvOf(command: Command): readonly string[] {
  switch (command.kind) {
    case "fetch":
      return [inside.bun, "--no-install", inside.fetchShim, command.entry, inside.socket];
    case "static":
      return [inside.bun, "--no-install", inside.staticShim, command.root, inside.socket];
    case "shell":
      return ["/bin/sh", "-c", command.line];
    case "argv":
      return command.argv;
    default:
      return unreachable(command);
  }
}

/** Where a program that was made ahead finds the pipe that it waits at. */
const gateDescriptor = 3;

/**
 * As `argvOf`, for a sandbox that is made ahead: nothing of the app runs before a line comes
 * through the pipe; when the pipe ends without one, lode has died, and so does it. `booted`: Bun
 * starts before it waits.
 */
export function waitingArgvOf(command: Command, booted: boolean): readonly string[] {
  const isServed = command.kind === "fetch" || command.kind === "static";
  if (booted && isServed) return [...argvOf(command), String(gateDescriptor)];
  const wait = `read -r go <&${gateDescriptor} || exit 125; exec "$@" ${gateDescriptor}<&-`;
  return ["/bin/sh", "-c", wait, "lode", ...argvOf(command)];
}

/** These name code that programs load before their own; `BUN_BE_BUN` is Lode's. */
const loaderVariables = /^(LD_|BASH_|GLIBC_TUNABLES$)/;
const bunVariables = /^(BUN_|NODE_OPTIONS$|XDG_CONFIG_HOME$)/;
/** Where Bun finds what to load first. */
const bunSettings = { ofApp: "bunfig.toml", ofHome: ".bunfig.toml" } as const;

/**
 * How far a sandbox can be made ahead without running anything of the app: until Bun is up
 * (`booted`), until just before the program (`entered`), or not at all.
 */
export function aheadOf(launch: Launch): "booted" | "entered" | "nothing" {
  const { release, prepared, volume } = launch;
  const names = Object.keys({ ...release.config.env, ...release.env, ...launch.secrets });
  if (names.some((name) => loaderVariables.test(name))) return "nothing";
  const trees = [prepared.tree, ...prepared.layers.map(({ source }) => source)];
  const settings = [
    ...trees.map((tree) => join(tree, bunSettings.ofApp)),
    join(volume, bunSettings.ofHome),
  ];
  const loadsFirst =
    names.some((name) => bunVariables.test(name)) ||
    settings.some((path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined);
  return loadsFirst ? "entered" : "booted";
}

export function openSecrets(
  release: Release,
  openSecret: (sealed: string) => string,
): Record<string, string> {
  const opened = Object.entries(release.secrets).map(
    ([name, sealed]) => [name, openSecret(sealed)] as const,
  );
  return Object.fromEntries(opened);
}

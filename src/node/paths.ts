import { join } from "node:path";

/**
 * Where a cloud keeps things. `data` survives a reboot; `run` is short (a unix socket's path
 * has at most 107 bytes) and lies on a tmpfs.
 */
export interface CloudPaths {
  /** Six characters of [a-z0-9] made once for a data directory; names all that is Lode's. */
  readonly cloud: string;
  readonly data: string;
  readonly run: string;
}

export function cloudPaths(dataDirectory: string, cloud: string): CloudPaths {
  return { cloud, data: dataDirectory, run: `/run/lode-${cloud}` };
}

export const dataPaths = {
  ledger: (paths: CloudPaths) => join(paths.data, "ledger.sqlite"),
  blobs: (paths: CloudPaths) => join(paths.data, "blobs"),
  /** 32 random bytes, mode 0600. */
  secretsKey: (paths: CloudPaths) => join(paths.data, "secrets.key"),
  /** The first admin token, mode 0600. */
  adminToken: (paths: CloudPaths) => join(paths.data, "admin.token"),
  /** {apiPort, httpPort, …} of the running or last cloud, for the CLI. */
  endpoint: (paths: CloudPaths) => join(paths.data, "endpoint.json"),
  /** The node's trees: releases/, disk/, instances/, logs/ and more, see `nodePaths`. */
  node: (paths: CloudPaths) => join(paths.data, "node"),
  /**
   * Wire socket for gateways, in a folder of its own: gateways are shown the folder, because a
   * bind of the socket itself would go stale when the next lode makes it anew.
   */
  gatewaySocket: (paths: CloudPaths) => join(paths.run, "g", "wire.sock"),
  /** The shared load table: a file that gateways map. */
  loadTable: (paths: CloudPaths) => join(paths.run, "load.table"),
  /** A file system for sockets alone: what apps may write there holds no data. */
  sockets: (paths: CloudPaths) => join(paths.run, "sockets"),
  /** Sockets of apps, hard-linked here by the agent once they listen; gateways see only this. */
  appSockets: (paths: CloudPaths) => join(dataPaths.sockets(paths), "s"),
} as const;

/** What the agent keeps, below `data/node` and the run directory. */
export const nodePaths = {
  /** Root-owned file trees, one per app and manifest. */
  releases: (paths: CloudPaths) => join(dataPaths.node(paths), "releases"),
  releasesOf: (paths: CloudPaths, uidOffset: number) =>
    join(nodePaths.releases(paths), String(uidOffset)),
  /** Where the file system is mounted that holds what apps and builds write. */
  disk: (paths: CloudPaths) => join(dataPaths.node(paths), "disk"),
  diskImage: (paths: CloudPaths) => join(dataPaths.node(paths), "disk.img"),
  /** Layers and jobs, bounded together; on one file system, so that results are renamed. */
  buildArea: (paths: CloudPaths) => join(nodePaths.disk(paths), "build"),
  /** Results of build steps, by cache key. */
  layers: (paths: CloudPaths) => join(nodePaths.buildArea(paths), "layers"),
  /** Build jobs under way; what a start finds here is rubbish. */
  builds: (paths: CloudPaths) => join(nodePaths.buildArea(paths), "jobs"),
  /** One JSON file an instance, for adoption. */
  instances: (paths: CloudPaths) => join(dataPaths.node(paths), "instances"),
  /** The same, of instances that sleep and are in no memory. */
  beds: (paths: CloudPaths) => join(dataPaths.node(paths), "asleep"),
  logs: (paths: CloudPaths) => join(dataPaths.node(paths), "logs"),
  logsOf: (paths: CloudPaths, project: string, app: string) =>
    join(nodePaths.logs(paths), project, app),
  /** What apps write (their HOME); lives until the app is removed. */
  volumes: (paths: CloudPaths) => join(nodePaths.disk(paths), "volumes"),
  volumeOf: (paths: CloudPaths, project: string, app: string) =>
    join(nodePaths.volumes(paths), project, app),
  /** Lode's own programs for inside sandboxes, Bun among them. */
  runtime: (paths: CloudPaths) => join(dataPaths.node(paths), "runtime"),
  /** Folders that apps make their sockets in, one an instance, owned by the app. */
  instanceSockets: (paths: CloudPaths) => join(dataPaths.sockets(paths), "i"),
  /** Status files of sandboxes. */
  statuses: (paths: CloudPaths) => join(paths.run, "status"),
} as const;

/** Cgroups of gateways begin with this; all others of a cloud are the agent's. */
export const gatewayCgroupPrefix = "gateway-";

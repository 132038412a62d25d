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
  /** The node's trees: releases/, layers/, instances/, logs/, volumes/. */
  node: (paths: CloudPaths) => join(paths.data, "node"),
  /**
   * Wire socket for gateways, in a folder of its own: gateways are shown the folder, because a
   * bind of the socket itself would go stale when the next lode makes it anew.
   */
  gatewaySocket: (paths: CloudPaths) => join(paths.run, "g", "wire.sock"),
  /** The shared load table: a file that gateways map. */
  loadTable: (paths: CloudPaths) => join(paths.run, "load.table"),
  /** Sockets of apps, hard-linked here by the agent once they listen; gateways see only this. */
  appSockets: (paths: CloudPaths) => join(paths.run, "s"),
} as const;

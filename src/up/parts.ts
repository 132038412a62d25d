import type { Result } from "../base/result.ts";
import type { Clock, Random } from "../base/time.ts";
import type { Blobs } from "../fabric/blobs.ts";
import type { Ledger } from "../fabric/ledger.ts";
import type { Wire } from "../fabric/wire.ts";
import type { CloudPaths } from "../node/paths.ts";

/** The ports with an adapter behind each; main.ts chooses which. */
export interface Fabric {
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly blobs: Blobs;
  /** Lets gateways, which run as `uid`, onto the wire; they may use what they need only. */
  serveGateways(socketPath: string, uid: number): Promise<Result<void, string>>;
  close(): Promise<void>;
}

export interface Surroundings {
  readonly clock: Clock;
  readonly random: Random;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** One line per event. */
  say(line: string): void;
  openFabric(paths: CloudPaths): Promise<Result<Fabric, string>>;
}

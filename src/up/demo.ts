import { readdirSync } from "node:fs";
import { join } from "node:path";

export interface DemoOutcome {
  readonly deployed: readonly { readonly app: string; readonly url: string }[];
  readonly failed: readonly { readonly app: string; readonly reason: string }[];
}

/** Deploys one folder; resolves to its URL or throws with the reason. */
export type DeployFolder = (folder: string, app: string) => Promise<string | null>;

/**
 * Deploys every example, a few at a time. One that cannot be built (no network for its
 * dependencies, say) does not keep the others from running.
 */
export async function deployExamples(
  directory: string,
  deploy: DeployFolder,
  say: (line: string) => void,
): Promise<DemoOutcome> {
  const names = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  const deployed: { app: string; url: string }[] = [];
  const failed: { app: string; reason: string }[] = [];
  const queue = [...names];
  const worker = async () => {
    for (let app = queue.shift(); app !== undefined; app = queue.shift()) {
      try {
        const url = await deploy(join(directory, app), app);
        deployed.push({ app, url: url ?? "no URL: takes no requests" });
        say(`example ${app}: ${url ?? "running"}`);
      } catch (cause) {
        const reason = (cause as Error).message;
        failed.push({ app, reason });
        say(`example ${app} failed: ${reason}`);
      }
    }
  };
  await Promise.all([worker(), worker(), worker()]);
  return { deployed, failed };
}

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Cloud } from "../test/harness/cloud.ts";
import { cgroupsOf, processIds, until } from "../test/harness/host.ts";
import type { Target } from "./client.ts";

/** Lode as the benchmarks use it: a cloud of their own, driven as a user would drive it. */
export class Lode {
  readonly cloud: Cloud;
  readonly version: string;
  /** By performance.now(). */
  readonly upSinceMs = performance.now();

  private constructor(cloud: Cloud, version: string) {
    this.cloud = cloud;
    this.version = version;
  }

  static async start(): Promise<Lode> {
    const cloud = await Cloud.start({ https: true });
    const endpoint = readFileSync(join(cloud.dataDirectory, "endpoint.json"), "utf8");
    return new Lode(cloud, (JSON.parse(endpoint) as { version: string }).version);
  }

  target(app: string): Target {
    return { port: this.cloud.httpPort, host: this.cloud.host(app) };
  }

  async deploy(folder: string, app: string): Promise<number> {
    return (await this.cloud.deploy(folder, app)).durationMs.total;
  }

  /** Serves the certificate's hosts with it. */
  async certify({ chain, key }: { readonly chain: string; readonly key: string }): Promise<void> {
    await this.cloud.ok(["certs", "set", "bench", "--cert", chain, "--key", key]);
  }

  /** Puts an app to sleep and waits until its process is gone. */
  async putToSleep(app: string): Promise<void> {
    const response = await this.cloud.api(`/v1/projects/default/apps/${app}/scale`, {
      method: "PATCH",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ counts: { web: 0 } }),
    });
    if (!response.ok) throw new Error(`scale ${app}=0: ${await response.text()}`);
    await until(`${app} sleeps`, async () =>
      (await this.states(app)).every((is) => is === "asleep"),
    );
  }

  async untilReady(app: string): Promise<readonly number[]> {
    return await this.cloud.untilReady(app);
  }

  /** Ends what was made ahead for an app that sleeps: it starts from nothing. */
  async endReady(app: string): Promise<void> {
    for (const pid of await this.untilReady(app)) process.kill(pid, "SIGKILL");
    await until(`${app} has nothing`, async () => (await this.pidsOf(app)).length === 0);
  }

  /** Of all its instances; what was made ahead belongs to them. */
  async pidsOf(app: string): Promise<readonly number[]> {
    const { instances } = this.processes();
    return (await this.#instances(app)).flatMap(({ instance }) => instances.get(instance) ?? []);
  }

  async states(app: string): Promise<string[]> {
    return (await this.#instances(app)).map(({ phase }) => phase.state);
  }

  async #instances(app: string) {
    const response = await this.cloud.api(`/v1/projects/default/apps/${app}/instances`);
    const page = (await response.json()) as {
      items: { instance: string; phase: { state: string } }[];
    };
    return page.items;
  }

  /** All processes of each cgroup of the cloud, gateways apart from instances. */
  processes(): { readonly instances: ReadonlyMap<string, number[]>; readonly gateways: number[] } {
    const instances = new Map<string, number[]>();
    const gateways: number[] = [];
    const group = new RegExp(`/lode-${this.cloud.id()}/([^\\s:]+)`);
    for (const pid of processIds()) {
      const name = group.exec(cgroupsOf(pid))?.[1];
      if (name === undefined) continue;
      if (name.startsWith("gateway-")) gateways.push(pid);
      else instances.set(name, [...(instances.get(name) ?? []), pid]);
    }
    return { instances, gateways };
  }

  rootPid(): number {
    return this.cloud.rootPid();
  }

  async stop(): Promise<void> {
    const left = await this.cloud.stop();
    if (left.length > 0) throw new Error(`lode down left behind:\n${left.join("\n")}`);
  }
}

import { Connections } from "./client.ts";

interface Queued {
  readonly costMs: number;
  /** When the instance is thought to have begun it; null: it waits. */
  beganAt: number | null;
}

/**
 * The best that balancing could do: it sends straight to the instances, sees every request, and
 * knows what each costs and how fast each instance is. It takes the instance with the least left
 * to do (requests are served in order, so what is left of the first is its cost less what the
 * instance could do since it began).
 */
export class Oracle {
  private readonly instances: readonly {
    readonly connections: Connections;
    readonly queue: Queued[];
  }[];
  private readonly cores: number;

  constructor(sockets: readonly string[], host: string, cores: number) {
    this.instances = sockets.map((path) => ({
      connections: new Connections({ path }, host),
      queue: [],
    }));
    this.cores = cores;
  }

  send(path: string, costMs: number, done: (status: number) => void): void {
    const now = performance.now();
    let best = this.instances[0] as (typeof this.instances)[number];
    let least = Number.POSITIVE_INFINITY;
    const offset = Math.floor(Math.random() * this.instances.length);
    for (let index = 0; index < this.instances.length; index += 1) {
      const at = (index + offset) % this.instances.length;
      const instance = this.instances[at] as (typeof this.instances)[number];
      const left = this.leftOf(instance.queue, now);
      if (left < least) {
        least = left;
        best = instance;
      }
    }
    const { queue } = best;
    queue.push({ costMs, beganAt: queue.length === 0 ? now : null });
    best.connections.get(path, (status) => {
      queue.shift();
      const first = queue[0];
      if (first !== undefined) first.beganAt ??= performance.now();
      done(status);
    });
  }

  private leftOf(queue: readonly Queued[], now: number): number {
    let left = 0;
    for (const { costMs, beganAt } of queue) {
      const spent = beganAt === null ? 0 : (now - beganAt) * this.cores;
      left += Math.max(costMs / 16, costMs - spent);
    }
    return left;
  }

  close(): void {
    for (const { connections } of this.instances) connections.close();
  }
}

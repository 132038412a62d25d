import { choose } from "../../src/gateway/balance/choose.ts";
import { type Division, divide } from "../../src/gateway/balance/division.ts";
import { type DividedCandidate, placeDear, workForCheap } from "../../src/gateway/balance/place.ts";
import { Connections } from "./client.ts";

/** What a class of requests really costs, and how many of all are of it. */
export interface KnownClass {
  readonly costUs: number;
  readonly requests: number;
}

interface Queued {
  readonly costUs: number;
  /** When the instance is thought to have begun it; null: it waits. */
  beganAt: number | null;
}

class Known implements DividedCandidate {
  readonly connections: Connections;
  readonly queue: Queued[] = [];
  readonly penalty = 0;
  readonly speed: number;
  work = 0;
  cost = 0;
  dear = 0;
  used = 0;

  constructor(connections: Connections, cores: number) {
    this.connections = connections;
    this.speed = cores;
  }

  /** CPU-µs: requests are served in order, so only of the first has something been spent. */
  left(now: number): number {
    let left = 0;
    for (const { costUs, beganAt } of this.queue) {
      const spentUs = beganAt === null ? 0 : (now - beganAt) * 1000 * this.speed;
      left += Math.max(costUs / 16, costUs - spentUs);
    }
    return left;
  }
}

/**
 * The best that balancing could do: it sends straight to the instances, sees every request, and
 * knows what each costs and how fast each instance is. It places by the gateway's rule; the least
 * work alone, however well known, is more than ten times worse for cheap requests (see
 * `src/gateway/balance/queueing.test.ts`).
 */
export class Oracle {
  private readonly instances: readonly Known[];
  private readonly division: Division;

  constructor(
    sockets: readonly string[],
    host: string,
    cores: number,
    classes: readonly KnownClass[],
  ) {
    this.instances = sockets.map((path) => new Known(new Connections({ path }, host), cores));
    const division = divide(classes, sockets.length);
    if (division === null) throw new Error("the classes are not worth a division");
    this.division = division;
  }

  send(path: string, costUs: number, done: (status: number) => void): void {
    const isDear = costUs >= this.division.dearFromUs;
    const instance = this.instances[this.choose(costUs, isDear)] as Known;
    const { queue } = instance;
    queue.push({ costUs, beganAt: queue.length === 0 ? performance.now() : null });
    instance.used += costUs;
    if (isDear) instance.dear += 1;
    instance.connections.get(path, (status) => {
      queue.shift();
      if (isDear) instance.dear -= 1;
      const first = queue[0];
      if (first !== undefined) first.beganAt ??= performance.now();
      done(status);
    });
  }

  private choose(costUs: number, isDear: boolean): number {
    const now = performance.now();
    for (const instance of this.instances) {
      const left = instance.left(now);
      instance.cost = costUs;
      instance.work = isDear ? left : workForCheap(left, instance.dear, this.division);
    }
    if (isDear) return placeDear(this.instances, this.division, Math.random);
    return choose(this.instances, Math.random);
  }

  close(): void {
    for (const { connections } of this.instances) connections.close();
  }
}

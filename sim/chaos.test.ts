import { expect, test } from "bun:test";
import { seededRandom } from "../src/base/virtual.ts";
import type { App } from "../src/model/app.ts";
import type { Assignment } from "../src/model/instance.ts";
import { appKey, keys } from "../src/model/keys.ts";
import type { ProcessType } from "../src/model/names.ts";
import type { Deployment, Release } from "../src/model/release.ts";
import { type Faults, flakyLedger, lossyWire } from "./faults.ts";
import type { Fate } from "./node.ts";
import { helloFiles, procfile, World } from "./world.ts";

/**
 * Chaos, then heal, then it must converge. SIM_SEED=n repeats one run, SIM_RUNS=n makes so
 * many. A seed that failed once stands here by its number.
 */
const given = process.env["SIM_SEED"];
const runs = Number(process.env["SIM_RUNS"] ?? 12);
const seeds =
  given === undefined ? Array.from({ length: runs }, (_, index) => index + 1) : [Number(given)];

for (const seed of seeds) {
  test(`seed ${seed}: after chaos everything is as wanted`, () => new Run(seed).run(), 60_000);
}

const apps = ["alpha", "bravo", "charlie"];
const steps = 120;
/** Few, so that many go while all else happens. */
const releasesKept = 3;
const actor = { id: "chaos" };

class Run {
  readonly #random;
  readonly #faults: Faults = { lostMessages: 0.1, lostRequests: 0.1, failedTransactions: 0.05 };
  readonly #world: World;
  /** When each app's process was last killed: its route may be without a running one. */
  readonly #killedAt = new Map<string, number>();
  readonly #accepted = new Map<string, Set<number>>();
  readonly #counts: Record<string, number> = {};

  constructor(seed: number) {
    this.#random = seededRandom(seed * 7919);
    const random = this.#random;
    this.#world = new World({
      releasesKept,
      seed,
      nodes: 3,
      cores: 4,
      fateOf,
      phaseMs: () => 5 + Math.floor(random.next() * 200),
      wireOf: (wire) => lossyWire(wire, this.#faults, random),
      ledgerOf: (ledger) => flakyLedger(ledger, this.#faults, random),
    });
  }

  async run(): Promise<void> {
    const world = this.#world;
    await world.start();
    for (let step = 0; step < steps; step += 1) {
      await this.#act();
      for (let turn = 0; turn < 5; turn += 1) {
        await world.clock.run(Math.floor(this.#random.next() * 200));
        this.#checkServed();
      }
    }
    Object.assign(this.#faults, { lostMessages: 0, lostRequests: 0, failedTransactions: 0 });
    // Releases that hang fail at their deadline, an hour and a half at most.
    for (let minute = 0; minute < 95; minute += 1) await world.clock.run(60_000);
    await this.#checkConverged();
    const { deployed = 0, restarted = 0 } = this.#counts;
    expect(deployed).toBeGreaterThan(5);
    expect(restarted).toBeGreaterThan(0);
    await world.close();
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random.next() * items.length)] as Item;
  }

  #count(what: string): void {
    this.#counts[what] = (this.#counts[what] ?? 0) + 1;
  }

  async #act(): Promise<void> {
    const world = this.#world;
    const app = this.#pick(apps);
    const ref = world.ref(app);
    const { operations } = world.control;
    const luck = this.#random.next();
    if (luck < 0.35) {
      this.#count("deployed");
      const shape = this.#pick([
        helloFiles,
        procfile({ web: "sh server.sh", worker: "sh server.sh" }),
      ]);
      const deployed = await world.deploy(app, { ...shape, "note.txt": `${this.#random.next()}` });
      if (deployed.ok) this.#accept(app, deployed.value.release);
    } else if (luck < 0.5) {
      const count = 1 + Math.floor(this.#random.next() * 4);
      await operations.scale(ref, { ["web" as ProcessType]: count }, actor);
    } else if (luck < 0.6) {
      const min = this.#pick([null, 0.25, 0.5, 1]);
      await operations.setLimits(ref, { cpu: { min, max: null, burst: null } }, actor);
    } else if (luck < 0.65) {
      // The removal takes its time; what else happens meanwhile is part of the test.
      void operations.removeApp(ref, actor);
      this.#accepted.delete(app);
      this.#count("removed");
    } else if (luck < 0.75) {
      const rolledBack = await operations.rollback(ref, null, actor);
      if (rolledBack.ok) this.#accept(app, rolledBack.value.release);
    } else if (luck < 0.85) {
      this.#killInstance();
    } else if (luck < 0.93) {
      await world.killControl();
      this.#count("restarted");
    } else {
      await world.restartAgent(Math.floor(this.#random.next() * world.nodes.length));
    }
  }

  #accept(app: string, release: number): void {
    const accepted = this.#accepted.get(app) ?? new Set<number>();
    expect(accepted.has(release)).toBe(false);
    this.#accepted.set(app, accepted.add(release));
  }

  #killInstance(): void {
    const node = this.#pick(this.#world.nodes);
    const victim = this.#pick([...node.machine.values()]);
    if (victim === undefined) return;
    const { project, app, instance } = victim.assignment;
    this.#killedAt.set(appKey(project, app), this.#world.clock.now());
    node.kill(instance);
    this.#count("killed");
  }

  /** Who ever served is always served, but for what we killed ourselves. */
  #checkServed(): void {
    const { gateway, clock, nodes } = this.#world;
    for (const [key, route] of Object.entries(gateway.table?.apps ?? {})) {
      if (route.release === null) continue;
      if (clock.now() - (this.#killedAt.get(key) ?? 0) < 10_000) continue;
      const reachable = route.instances.filter(({ instance, state }) => {
        const there = nodes.some((node) => node.machine.has(instance));
        return there && state.kind === "running";
      });
      expect(`${key}: ${reachable.length > 0}`).toBe(`${key}: true`);
    }
  }

  async #checkConverged(): Promise<void> {
    const world = this.#world;
    const listed = await world.ledger.list("");
    if (!listed.ok) throw new Error(listed.error.message);
    const records = new Map(listed.value.entries.map(({ key, value }) => [key, JSON.parse(value)]));
    const under = <Kind>(prefix: string) =>
      [...records].flatMap(([key, value]) => (key.startsWith(prefix) ? [value as Kind] : []));
    const assignments = under<Assignment>(keys.assignments);
    const running = world.nodes.flatMap((node) => [...node.machine.keys()]).sort();
    expect(running).toEqual(assignments.map(({ instance }) => instance).sort());
    for (const node of world.nodes) {
      const cores = [...node.machine.values()].reduce(
        (sum, { assignment }) => sum + (assignment.limits.cpu.min ?? 0),
        0,
      );
      expect(cores).toBeLessThanOrEqual(4);
    }
    const present = under<App>(keys.apps);
    for (const app of present) {
      const releases = under<Release>(keys.releasesOf(app.project, app.name));
      const deployments = under<Deployment>(keys.deploymentsOf(app.project, app.name));
      this.#checkApp(app, releases, deployments, assignments);
    }
    expect(Object.keys(world.gateway.table?.apps ?? {}).sort()).toEqual(
      present
        .filter((app) => app.nextRelease > 1)
        .map((app) => appKey(app.project, app.name))
        .sort(),
    );
    const owners = under<{ app: string }>(keys.hosts).map(({ app }) => app);
    expect(present.map(({ name }) => name as string)).toEqual(expect.arrayContaining(owners));
  }

  #checkApp(
    app: App,
    releases: readonly Release[],
    deployments: readonly Deployment[],
    all: readonly Assignment[],
  ): void {
    const numbers = releases.map(({ number }) => number);
    expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => one - other));
    expect(deployments.map(({ number }) => number)).toEqual(numbers);
    const accepted = [...(this.#accepted.get(app.name) ?? [])];
    expect(Math.max(0, ...accepted)).toBeLessThan(app.nextRelease);
    if (accepted.length > 0) expect(numbers).toContain(Math.max(...accepted));
    const kept = deployments.filter(({ number }) => number !== app.serving);
    const replaced = kept.filter(({ state }) => state === "replaced");
    expect(replaced.length).toBeLessThanOrEqual(releasesKept);
    expect(kept.length - replaced.length).toBeLessThanOrEqual(releasesKept);
    if (kept.length < releasesKept) expect(numbers).toHaveLength(app.nextRelease - 1);
    expect(app.removing).toBe(false);
    expect(app.target).toBe(app.serving);
    expect(deployments.map(({ state }) => state)).not.toContain("starting");
    const served = deployments.filter(({ state }) => state === "serving");
    expect(served.map(({ number }) => number)).toEqual(app.serving === null ? [] : [app.serving]);
    const newest = releases.at(-1);
    const ended = deployments.at(-1);
    if (newest !== undefined && ended?.state !== "failed") expect(app.serving).toBe(newest.number);
    const mine = all.filter((assignment) => assignment.app === app.name);
    expect(new Set(mine.map(({ release }) => release))).toEqual(
      new Set(app.serving === null ? [] : [app.serving]),
    );
    if (app.serving === null) return;
    const config = releases.find(({ number }) => number === app.serving)?.config;
    for (const type of Object.keys(config?.processes ?? {}) as ProcessType[]) {
      const count = mine.filter(({ process }) => process === type).length;
      expect(count).toBe(app.counts[type] ?? 1);
    }
    const route = this.#world.gateway.routeOf(appKey(app.project, app.name));
    expect(route).toMatchObject({ release: app.serving, draining: [], problem: null });
    const web = mine.filter(({ process }) => process === config?.http?.process);
    const byName = (one: { instance: string }, other: { instance: string }) =>
      one.instance < other.instance ? -1 : 1;
    expect([...(route?.instances ?? [])].sort(byName).map(({ instance }) => instance)).toEqual(
      web.sort(byName).map(({ instance }) => instance),
    );
  }
}

/** By the release alone, so that it does not depend on the order of events. */
function fateOf(assignment: Assignment): Fate {
  const luck = (assignment.release * 2654435761) % 100;
  if (luck < 15) return { kind: "fails", reason: "it was to fail" };
  if (luck < 22) return { kind: "hangs" };
  return { kind: "healthy" };
}

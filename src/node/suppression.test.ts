import { expect, test } from "bun:test";
import { VirtualClock } from "../base/virtual.ts";
import type { InstanceId } from "../model/names.ts";
import type { Cgroup } from "./cgroup/cgroup.ts";
import { CpuShares } from "./cpu-shares.ts";
import { type Confinement, rationShare } from "./decide/suppression.ts";
import { Suppression } from "./suppression.ts";

const cores = 4;

/** Apps that use as many cores as a test says, and a tree that counts what was read of it. */
function stage(canConfine = true) {
  const clock = new VirtualClock();
  const shares = new CpuShares(cores);
  const apps: { use: number; inside: number; usedUs: number; kernelUs: number }[] = [];
  const reads = { tree: 0, members: 0, kernel: 0 };
  const tree = {
    canConfine,
    cpuTimeUs() {
      reads.tree += 1;
      return apps.reduce((sum, { usedUs }) => sum + usedUs, 0);
    },
  };
  const suppression = new Suppression(tree, shares, cores, clock);
  function enter(name: string, use: number) {
    const places: (Confinement | null)[] = [];
    const app = { use, inside: 0, usedUs: 0, kernelUs: 0, places };
    apps.push(app);
    const cgroup = {
      name,
      setCpuWeight() {},
      confine: (to: Confinement | null) => void app.places.push(to),
      cpuTimeUs() {
        reads.members += 1;
        return app.usedUs;
      },
      kernelTimeUs() {
        reads.kernel += 1;
        return app.kernelUs;
      },
    };
    const sharer = shares.enter(cgroup as unknown as Cgroup, 0);
    return { ...app, app, name: name as InstanceId, leave: () => sharer.leave() };
  }
  function pass(durationMs: number): void {
    for (let left = durationMs; left > 0; left -= 10) {
      clock.advance(10);
      for (const app of apps) {
        app.usedUs += app.use * 10_000;
        app.kernelUs += app.inside * app.use * 10_000;
      }
    }
  }
  return { clock, suppression, enter, pass, reads };
}

test("batch work makes room soon after it began, and has everything when nobody is asked", () => {
  const { clock, suppression, enter, pass } = stage();
  const hog = enter("hog", 0);
  const neighbour = enter("neighbour", 0.1);
  for (let second = 0; second < 3; second++) {
    suppression.requested(neighbour.name, 200);
    pass(1000);
  }
  expect(hog.app.places).toEqual([]);
  suppression.requested(neighbour.name, 200);
  hog.app.use = 4;
  pass(200);
  expect(hog.app.places).toEqual([{ cores: 3, yields: true, rationCores: null }]);
  pass(3000);
  expect(hog.app.places).toEqual([{ cores: 3, yields: true, rationCores: null }, null]);
  expect(neighbour.app.places).toEqual([]);
  expect(clock.pending).toBe(0);
});

test("batch work inside the kernel is rationed as long as it uses that up, and no longer", () => {
  const { suppression, enter, pass } = stage();
  const hog = enter("hog", 3);
  hog.app.inside = 0.95;
  const neighbour = enter("neighbour", 0.1);
  const ask = (seconds: number) => {
    for (let tenth = 0; tenth < 10 * seconds; tenth++) {
      suppression.requested(neighbour.name, 10);
      pass(100);
      const place = hog.app.places.at(-1) ?? null;
      if (place?.rationCores) hog.app.use = Math.min(hog.app.use, place.rationCores);
    }
  };
  ask(0.5);
  const free = { cores: 3, yields: true, rationCores: null };
  const rationed = { ...free, rationCores: rationShare * 3 };
  expect(hog.app.places).toEqual([free, rationed]);
  ask(5);
  expect(hog.app.places).toEqual([free, rationed]);
  // It computes now: that may be interrupted.
  hog.app.inside = 0.1;
  ask(1);
  expect(hog.app.places).toEqual([free, rationed, free]);
  hog.app.use = 0;
  ask(3);
  expect(hog.app.places).toEqual([free, rationed, free, null]);
});

test("of what is no batch work the time inside the kernel is not read", () => {
  const { suppression, enter, pass, reads } = stage();
  const neighbour = enter("neighbour", 0.5);
  suppression.requested(neighbour.name, 1000);
  pass(1000);
  expect(reads.members).toBeGreaterThan(0);
  expect(reads.kernel).toBe(0);
});

test("an app that many wait for is not batch work, however much it uses", () => {
  const { suppression, enter, pass } = stage();
  const busy = enter("busy", 3);
  const neighbour = enter("neighbour", 0.1);
  for (let second = 0; second < 4; second++) {
    suppression.requested(neighbour.name, 10);
    suppression.requested(busy.name, 500);
    pass(1000);
  }
  expect(busy.app.places).toEqual([]);
});

test("nothing is read without requests, and of the members nothing without load", () => {
  const { suppression, enter, pass, reads } = stage();
  enter("hog", 4);
  pass(5000);
  expect(reads).toEqual({ tree: 0, members: 0, kernel: 0 });
  const quiet = stage();
  const neighbour = quiet.enter("neighbour", 0.1);
  quiet.suppression.requested(neighbour.name, 1);
  quiet.pass(1000);
  expect(quiet.reads.members).toBe(0);
  expect(quiet.reads.tree).toBeLessThan(25);
  suppression.close();
});

test("what ends while confined is forgotten; closing frees the others", () => {
  const { suppression, enter, pass } = stage();
  const [first, second] = [enter("first", 2), enter("second", 2)];
  const neighbour = enter("neighbour", 0.1);
  suppression.requested(neighbour.name, 100);
  pass(500);
  const held = { cores: 3, yields: true, rationCores: null };
  expect([first.app.places, second.app.places]).toEqual([[held], [held]]);
  first.leave();
  suppression.close();
  expect(second.app.places).toEqual([held, null]);
  expect(first.app.places).toEqual([held]);
});

test("a kernel that cannot confine is left alone", () => {
  const { suppression, enter, pass, reads } = stage(false);
  const hog = enter("hog", 4);
  const neighbour = enter("neighbour", 0.1);
  suppression.requested(neighbour.name, 100);
  pass(1000);
  expect(hog.app.places).toEqual([]);
  expect(reads.tree).toBe(0);
});

import { expect, test } from "bun:test";
import type { Endpoint, InstancePhase } from "../../model/instance.ts";
import type { NodeName } from "../../model/names.ts";
import type { Observed } from "../../scheduler/observed.ts";
import { type AppState, emptySnapshot } from "../../scheduler/snapshot.ts";
import { routeOf } from "./route.ts";

const release = {
  ...{ number: 1, modRevision: 1 },
  text: JSON.stringify({ config: { http: { process: "web", hosts: [] }, scale: {} } }),
};
const limits = { cpu: { min: null, max: null, burst: null } };
const assignment = { instance: "i1", node: "n1", process: "web", release: 1, drain: null, limits };

/** How gateways see the one instance of an app, which is in this phase. */
function stateIn(phase: InstancePhase) {
  const app = { project: "default", name: "ice", serving: 1, removing: false };
  const state = {
    ...{ key: "default/ice", app: { value: app }, hosts: [], deployments: [] },
    ...{ releases: [release], assignments: [{ value: assignment }] },
  } as unknown as AppState;
  const status = { phase, release: 1, lastExit: null };
  const observed = {
    instancesOf: () => new Map([["i1", { node: "n1" as NodeName, status }]]),
  } as unknown as Observed;
  const route = routeOf(state, emptySnapshot.nodes, observed, () => 0, "localhost");
  return route?.instances[0]?.state;
}

test("one that is frozen takes requests at its socket, and at no address", () => {
  const frozen = (endpoint: Endpoint | null): InstancePhase => ({
    ...{ state: "frozen", since: 0, pid: 7, endpoint },
  });
  const socket = { kind: "unix", path: "/run/i1.sock" } as const;
  expect(stateIn(frozen(socket))).toEqual({ kind: "asleep", socket });
  const address = { kind: "tcp", host: "10.0.0.2", port: 80 } as const;
  expect(stateIn(frozen(address))).toEqual({ kind: "asleep" });
  expect(stateIn({ state: "asleep", since: 0 })).toEqual({ kind: "asleep" });
  expect(stateIn({ state: "running", pid: 7, startedAt: 0, endpoint: socket })).toEqual({
    ...{ kind: "running", endpoint: socket },
  });
});

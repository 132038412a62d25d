import type { InstanceStatus } from "../../model/instance.ts";
import {
  coldStartBoundsMs,
  latencyBoundsMs,
  protocols,
  statusClasses,
  trafficLayout,
} from "../../model/traffic.ts";
import type { AppCosts, CostClass } from "../../model/wire.ts";
import type { Collected } from "../collect/collector.ts";
import type { MetricFamily, MetricSample } from "../operations.ts";
import {
  type AppCounts,
  type Meters,
  otherApp,
  otherProcess,
  type ProcessCounts,
} from "./meters.ts";

type Labels = Readonly<Record<string, string>>;

/** What is to be told besides counts. */
export interface Present {
  readonly version: string;
  readonly apps: number;
  readonly statuses: Iterable<readonly [app: string, status: InstanceStatus]>;
  readonly collected: Collected;
  /** What is known of an app's requests' costs. */
  costsOf(app: string): AppCosts | null;
  /** Instances that sleep and are not among the statuses. */
  readonly asleep: number;
}

/** Everything that is measured, in the families that Prometheus knows. */
export function metricFamilies(meters: Meters, present: Present): readonly MetricFamily[] {
  const apps = namedApps(meters);
  const gauges = gaugesOf(meters, present);
  return [
    ...trafficFamilies(apps),
    ...gaugeFamilies(gauges),
    ...processFamilies(apps),
    ...costFamilies(meters, present),
    family("counter", "lode_unrouted_requests_total", "Requests that no app was found for.", [
      { suffix: "", labels: {}, value: meters.unrouted },
    ]),
    family(
      "gauge",
      "lode_gateway_connections",
      "Open client connections of each gateway.",
      [...meters.liveGateways()].map(([gateway, { connections }]) => ({
        ...{ suffix: "", labels: { gateway }, value: connections },
      })),
    ),
    family("gauge", "lode_apps", "Apps that are registered, asleep or not.", [
      { suffix: "", labels: {}, value: present.apps },
    ]),
    ...collectedFamilies(present.collected),
    family("gauge", "lode_build_info", "Which lode this is; always 1.", [
      { suffix: "", labels: { version: present.version }, value: 1 },
    ]),
  ];
}

function collectedFamilies(collected: Collected): readonly MetricFamily[] {
  const counter = (name: string, help: string, blobs: number, trees: number) =>
    family("counter", name, help, [
      { suffix: "", labels: { what: "blobs" }, value: blobs },
      { suffix: "", labels: { what: "trees" }, value: trees },
    ]);
  const { blobs, blobBytes, trees, treeBytes } = collected;
  const what = "that no release needed any more: blobs, and release trees and layers";
  return [
    counter("lode_collected_total", `Removed ${what}.`, blobs, trees),
    counter(
      "lode_collected_bytes_total",
      `Size of what was removed ${what}.`,
      blobBytes,
      treeBytes,
    ),
  ];
}

interface NamedApp {
  readonly labels: Labels;
  readonly counts: AppCounts;
}

function namedApps(meters: Meters): readonly NamedApp[] {
  const all = [...meters.apps, [otherApp, meters.other] as const];
  return all.map(([app, counts]) => ({ labels: labelsOf(app), counts }));
}

function labelsOf(key: string): Labels {
  const [project = "", app = ""] = key.split("/");
  return { project, app };
}

function family(
  kind: MetricFamily["kind"],
  name: string,
  help: string,
  samples: readonly MetricSample[],
): MetricFamily {
  return { kind, name, help, samples };
}

function trafficFamilies(apps: readonly NamedApp[]): readonly MetricFamily[] {
  const sum = (name: string, help: string, index: number) =>
    family(
      "counter",
      name,
      help,
      apps.map(({ labels, counts }) => ({
        ...{ suffix: "" as const, labels, value: counts.traffic[index] ?? 0 },
      })),
    );
  return [
    family(
      "counter",
      "lode_app_requests_total",
      "Requests that ended, by status class; 1xx stands for tunnels such as WebSockets.",
      apps.flatMap(requestSamples),
    ),
    family(
      "histogram",
      "lode_app_request_duration_seconds",
      "From a request's head at the gateway to the end of its answer; tunnels left out.",
      apps.flatMap(({ labels, counts: { traffic } }) => {
        const { latency, latencyMs } = trafficLayout;
        const buckets = traffic.slice(latency, latencyMs);
        return histogram(labels, latencyBoundsMs, buckets, traffic[latencyMs] ?? 0);
      }),
    ),
    sum(
      "lode_app_request_bytes_total",
      "Bytes of requests' bodies, with their framing.",
      trafficLayout.bytesIn,
    ),
    sum(
      "lode_app_response_bytes_total",
      "Bytes of responses' bodies, with their framing.",
      trafficLayout.bytesOut,
    ),
  ];
}

function requestSamples({ labels, counts }: NamedApp): readonly MetricSample[] {
  return protocols.flatMap((protocol, row) =>
    statusClasses.flatMap((code, column) => {
      const index = trafficLayout.requests + row * statusClasses.length + column;
      const value = counts.traffic[index] ?? 0;
      return value === 0 ? [] : [{ suffix: "", labels: { ...labels, code, protocol }, value }];
    }),
  );
}

function histogram(
  labels: Labels,
  boundsMs: readonly number[],
  buckets: readonly number[],
  sumMs: number,
): readonly MetricSample[] {
  let count = 0;
  const samples: MetricSample[] = buckets.map((value, index) => {
    count += value;
    const bound = boundsMs[index];
    const le = bound === undefined ? "+Inf" : String(bound / 1000);
    return { suffix: "_bucket", labels: { ...labels, le }, value: count };
  });
  if (count === 0) return [];
  return [
    ...samples,
    { suffix: "_sum", labels, value: sumMs / 1000 },
    { suffix: "_count", labels, value: count },
  ];
}

function processFamilies(apps: readonly NamedApp[]): readonly MetricFamily[] {
  const each = apps.flatMap(({ labels, counts }) =>
    [...counts.processes].map(([process, sums]) => ({ labels: { ...labels, process }, sums })),
  );
  const counter = (name: string, help: string, value: (sums: ProcessCounts) => number) =>
    family(
      "counter",
      name,
      help,
      each.map(({ labels, sums }) => ({ suffix: "", labels, value: value(sums) })),
    );
  return [
    counter("lode_app_cpu_seconds_total", "CPU time used.", (sums) => sums.cpuTimeUs / 1e6),
    counter(
      "lode_app_cpu_throttled_seconds_total",
      "Time for which the kernel held instances back at their CPU ceiling or ration.",
      (sums) => sums.throttledUs / 1e6,
    ),
    counter(
      "lode_app_cpu_confined_seconds_total",
      "Time for which instances, as batch work, were kept off some cores for apps that were asked.",
      (sums) => sums.confinedUs / 1e6,
    ),
    counter("lode_app_restarts_total", "Starts after a failure.", (sums) => sums.restarts),
    counter(
      "lode_app_oom_kills_total",
      "Processes that the kernel killed for lack of memory.",
      (sums) => sums.oomKills,
    ),
    counter("lode_app_wakes_total", "Times that a request woke an instance.", (sums) => sums.wakes),
    family(
      "histogram",
      "lode_app_cold_start_seconds",
      "From a request's wake of a sleeping instance until that instance is ready.",
      each.flatMap(({ labels, sums }) =>
        histogram(labels, coldStartBoundsMs, sums.coldStarts, sums.coldStartMs),
      ),
    ),
  ];
}

/** Of apps with a name only: costs of different apps have no sum. */
function costFamilies(meters: Meters, present: Present): readonly MetricFamily[] {
  const classes = [...meters.apps.keys()].flatMap((app) =>
    (present.costsOf(app)?.classes ?? []).map((each) => ({
      labels: { ...labelsOf(app), route: each.name },
      each,
    })),
  );
  const gauge = (name: string, help: string, value: (each: CostClass) => number) =>
    family(
      "gauge",
      name,
      help,
      classes.map(({ labels, each }) => ({ suffix: "", labels, value: value(each) })),
    );
  return [
    gauge(
      "lode_app_request_cost_cpu_seconds",
      "CPU time that a request of a route class uses, as learned or reported.",
      ({ costUs }) => costUs / 1e6,
    ),
    gauge(
      "lode_app_request_cost_confidence",
      "How well that cost is known, from 0 to 1.",
      ({ confidence }) => confidence,
    ),
  ];
}

interface Gauges {
  /** By labels, written as JSON. */
  readonly instances: Map<string, number>;
  readonly memory: Map<string, number>;
  readonly inFlight: Map<string, number>;
  readonly held: Map<string, number>;
}

function gaugesOf(meters: Meters, present: Present): Gauges {
  const gauges: Gauges = {
    ...{ instances: new Map(), memory: new Map(), inFlight: new Map(), held: new Map() },
  };
  const add = (to: Map<string, number>, labels: Labels, value: number) => {
    const key = JSON.stringify(labels);
    to.set(key, (to.get(key) ?? 0) + value);
  };
  for (const [key, { process: type, phase, usage }] of present.statuses) {
    // One that only sleeps takes no app's place.
    const app = phase.state === "asleep" && !meters.apps.has(key) ? otherApp : nameOf(meters, key);
    const process = app === otherApp ? otherProcess : meters.processOf(app, type);
    const labels = { ...labelsOf(app), process };
    add(gauges.instances, { ...labels, state: phase.state }, 1);
    if (usage !== null) add(gauges.memory, labels, usage.memoryBytes);
  }
  if (present.asleep > 0) {
    const labels = { ...labelsOf(otherApp), process: otherProcess, state: "asleep" };
    add(gauges.instances, labels, present.asleep);
  }
  for (const [, gateway] of meters.liveGateways()) {
    for (const [key, { inFlight, held }] of gateway.apps) {
      const labels = labelsOf(nameOf(meters, key));
      add(gauges.inFlight, labels, inFlight);
      add(gauges.held, labels, held);
    }
  }
  return gauges;
}

function nameOf(meters: Meters, app: string): string {
  return meters.countsOf(app) === meters.other ? otherApp : app;
}

function gaugeFamilies(gauges: Gauges): readonly MetricFamily[] {
  const gauge = (name: string, help: string, values: ReadonlyMap<string, number>) =>
    family(
      "gauge",
      name,
      help,
      [...values].map(([labels, value]) => ({
        ...{ suffix: "" as const, labels: JSON.parse(labels) as Labels, value },
      })),
    );
  return [
    gauge("lode_app_instances", "Instances by state.", gauges.instances),
    gauge("lode_app_memory_bytes", "Memory in use, without page cache.", gauges.memory),
    gauge("lode_app_requests_in_flight", "Requests being served or held.", gauges.inFlight),
    gauge("lode_app_requests_held", "Requests waiting for an instance.", gauges.held),
  ];
}

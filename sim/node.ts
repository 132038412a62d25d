import { assert } from "../src/base/assert.ts";
import type { Json } from "../src/base/json.ts";
import type { Clock, Random } from "../src/base/time.ts";
import type { Ledger, Watch } from "../src/fabric/ledger.ts";
import type { Subscription, Wire } from "../src/fabric/wire.ts";
import type {
  Assignment,
  InstancePhase,
  InstanceStatus,
  NodeCapacity,
} from "../src/model/instance.ts";
import { keys } from "../src/model/keys.ts";
import type { InstanceId, NodeName } from "../src/model/names.ts";
import {
  type LogLine,
  type LogsRequest,
  type NodeChange,
  type NodeReport,
  type ReportRequest,
  type SleepRequest,
  type StatusesRequest,
  subjects,
  type WakeReply,
  type WakeRequest,
} from "../src/model/wire.ts";

/** What becomes of an instance after it was assigned. */
export type Fate =
  | { readonly kind: "healthy" }
  /** Ends in `failed` before it was healthy. */
  | { readonly kind: "fails"; readonly reason: string }
  /** Never comes up, never says why. */
  | { readonly kind: "hangs" }
  /** A release process's exit code. */
  | { readonly kind: "ends"; readonly code: number };

export interface NodeOptions {
  readonly name: NodeName;
  readonly capacity: NodeCapacity;
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly clock: Clock;
  readonly random: Random;
  readonly fateOf: (assignment: Assignment) => Fate;
  /** From the assignment to the end of each phase. */
  readonly phaseMs: () => number;
}

/** What outlives the agent: the instances of the machine. */
export type Machine = Map<InstanceId, { assignment: Assignment; status: InstanceStatus }>;

const drainedAfterMs = 500;
const heartbeatMs = 5_000;

/**
 * A node as control sees it, without processes: it obeys assignments after a while, and says
 * on the wire what an agent would say. `crash` ends the agent and leaves the machine.
 */
export class FakeNode {
  readonly machine: Machine;
  readonly #options: NodeOptions;
  readonly #epoch: string;
  readonly #subscriptions: Subscription[] = [];
  #watch: Watch | null = null;
  #sequence = 0;
  #alive = true;

  constructor(options: NodeOptions, machine: Machine = new Map()) {
    this.#options = options;
    this.machine = machine;
    this.#epoch = options.random.token(8);
  }

  async start(): Promise<void> {
    const { ledger, name, capacity, clock } = this.#options;
    const node = { name, capacity, joinedAt: clock.now() };
    await ledger.transact({
      conditions: [{ kind: "absent", key: keys.node(name) }],
      writes: [{ kind: "put", key: keys.node(name), value: JSON.stringify(node) }],
    });
    const listed = await ledger.list(keys.assignmentsOf(name));
    assert(listed.ok, "a simulated ledger answers");
    const wanted = listed.value.entries.map(({ value }) => JSON.parse(value) as Assignment);
    for (const assignment of wanted) this.#assigned(assignment);
    const kept = new Set(wanted.map(({ instance }) => instance));
    for (const instance of [...this.machine.keys()]) if (!kept.has(instance)) this.#end(instance);
    for (const instance of kept) this.#resume(instance);
    this.#answer();
    this.#subscriptions.push(clock.every(heartbeatMs, () => this.#publish([], [])));
    const watch = await ledger.watch(keys.assignmentsOf(name), listed.value.revision);
    assert(watch.ok, "a simulated ledger can be watched");
    this.#watch = watch.value;
    void this.#follow(watch.value);
  }

  /** kill -9 of the agent. */
  crash(): void {
    this.#alive = false;
    this.#watch?.cancel();
    for (const subscription of this.#subscriptions) subscription.cancel();
  }

  /** The process of an instance ends by itself, and is started again. */
  kill(instance: InstanceId): void {
    const found = this.machine.get(instance);
    if (found?.status.phase.state !== "running") return;
    const cause = { kind: "signal", signal: "SIGKILL" } as const;
    const at = this.#options.clock.now();
    const { restarts } = found.status;
    this.#set(instance, { lastExit: { cause, at }, restarts: restarts + 1 });
    this.#phase(instance, { state: "backing-off", until: at + 250, cause });
    this.#later(250, instance, () => this.#run(instance));
  }

  async #follow(watch: Watch): Promise<void> {
    for await (const { changes } of watch) {
      if (!this.#alive) return;
      for (const change of changes) {
        if (change.kind === "put") this.#assigned(JSON.parse(change.entry.value) as Assignment);
        else this.#end(change.key.split("/").at(-1) as InstanceId);
      }
    }
    if (this.#alive) void this.#lostTrack();
  }

  /** The history was compacted: from the beginning. */
  async #lostTrack(): Promise<void> {
    for (const subscription of this.#subscriptions.splice(0)) subscription.cancel();
    await this.start();
  }

  #assigned(assignment: Assignment): void {
    const { instance } = assignment;
    const known = this.machine.get(instance);
    if (known !== undefined) {
      const wasDraining = known.assignment.drain !== null;
      known.assignment = assignment;
      if (assignment.drain !== null && !wasDraining) {
        this.#later(drainedAfterMs, instance, () => this.#end(instance));
      }
      return;
    }
    if (assignment.drain !== null) return;
    const { project, app, release, process } = assignment;
    const status: InstanceStatus = {
      ...{ instance, project, app, release, process },
      phase: { state: "preparing", step: "files" },
      ...{ wasHealthy: false, restarts: 0, lastExit: null, usage: null },
    };
    this.machine.set(instance, { assignment, status });
    this.#publish([status], []);
    this.#later(this.#options.phaseMs(), instance, () => this.#run(instance));
  }

  /** Taken over by a new agent: what was under way goes on. */
  #resume(instance: InstanceId): void {
    const found = this.machine.get(instance);
    if (found === undefined) return;
    const { state } = found.status.phase;
    if (found.assignment.drain !== null) this.#end(instance);
    else if (state === "preparing" || state === "starting" || state === "backing-off") {
      this.#later(this.#options.phaseMs(), instance, () => this.#run(instance));
    }
  }

  #run(instance: InstanceId): void {
    const found = this.machine.get(instance);
    if (found === undefined) return;
    const fate = this.#options.fateOf(found.assignment);
    const { state } = found.status.phase;
    if (state === "preparing") {
      this.#phase(instance, { state: "starting", pid: null });
      this.#later(this.#options.phaseMs(), instance, () => this.#run(instance));
    } else if (fate.kind === "healthy" || found.status.wasHealthy) {
      this.#set(instance, { wasHealthy: true });
      this.#phase(instance, this.#running(instance));
    } else if (fate.kind === "fails") {
      const { reason } = fate;
      this.#phase(instance, { state: "failed", stage: "start", reason, logTail: ["last words"] });
    } else if (fate.kind === "ends") {
      this.#phase(instance, { state: "done", code: fate.code });
    }
  }

  #running(instance: InstanceId): InstancePhase {
    const endpoint = { kind: "unix", path: `/s/${instance}` } as const;
    return { state: "running", pid: 100, startedAt: this.#options.clock.now(), endpoint };
  }

  #end(instance: InstanceId): void {
    if (this.machine.delete(instance)) this.#publish([], [instance]);
  }

  #phase(instance: InstanceId, phase: InstancePhase): void {
    this.#set(instance, { phase });
    const status = this.machine.get(instance)?.status;
    if (status !== undefined) this.#publish([status], []);
  }

  #set(instance: InstanceId, change: Partial<InstanceStatus>): void {
    const found = this.machine.get(instance);
    if (found !== undefined) found.status = { ...found.status, ...change };
  }

  #later(delayMs: number, instance: InstanceId, work: () => void): void {
    this.#options.clock.after(delayMs, () => {
      if (this.#alive && this.machine.has(instance)) work();
    });
  }

  #publish(changed: readonly InstanceStatus[], removed: readonly InstanceId[]): void {
    if (!this.#alive) return;
    const { name, clock, wire } = this.#options;
    this.#sequence += 1;
    const change: NodeChange = {
      ...{ node: name, epoch: this.#epoch, sequence: this.#sequence, at: clock.now() },
      ...{ changed, removed, totals: [] },
    };
    wire.publish(subjects.nodeStatus(name), change as unknown as Json);
  }

  #answer(): void {
    const { name, wire } = this.#options;
    const respond = <Request>(subject: string, answer: (request: Request) => unknown) => {
      const handler = async (payload: Json) => answer(payload as unknown as Request) as Json;
      this.#subscriptions.push(wire.respond(subject, handler));
    };
    respond<ReportRequest>(subjects.nodeReport(name), ({ also }) => this.#report(also));
    respond<StatusesRequest>(subjects.nodeStatuses(name), ({ instances }) => ({
      epoch: this.#epoch,
      sequence: this.#sequence,
      statuses: instances.flatMap((instance) => this.machine.get(instance)?.status ?? []),
    }));
    respond<WakeRequest>(subjects.nodeWake(name), ({ instance }) => this.#wake(instance));
    respond<SleepRequest>(subjects.nodeSleep(name), ({ instances }) => ({
      asleep: instances.filter((instance) => this.#sleep(instance)),
    }));
    respond<LogsRequest>(subjects.nodeLogs(name), (request) => ({ lines: this.#logs(request) }));
  }

  /** As a real one, it names what sleeps only when asked. */
  #report(also: readonly InstanceId[]): NodeReport {
    const { name, clock } = this.#options;
    const instances = [...this.machine.values()]
      .map(({ status }) => status)
      .filter(({ instance, phase }) => phase.state !== "asleep" || also.includes(instance));
    return { node: name, epoch: this.#epoch, sequence: this.#sequence, at: clock.now(), instances };
  }

  #wake(instance: InstanceId): WakeReply {
    const found = this.machine.get(instance);
    if (found === undefined) return { ok: false, reason: "there is no such instance" };
    if (found.status.phase.state === "asleep") this.#phase(instance, this.#running(instance));
    return { ok: true, endpoint: { kind: "unix", path: `/s/${instance}` } };
  }

  #sleep(instance: InstanceId): boolean {
    const found = this.machine.get(instance);
    if (found?.status.phase.state !== "running") return false;
    this.#phase(instance, { state: "asleep", since: this.#options.clock.now() });
    return true;
  }

  #logs({ app, tail }: LogsRequest): readonly LogLine[] {
    const lines = [...this.machine.values()]
      .filter(({ assignment }) => assignment.app === app)
      .map(
        ({ assignment: { instance, process, createdAt: at } }): LogLine => ({
          ...{ at, app, instance, process, stream: "lode", text: "started" },
        }),
      );
    return tail === 0 ? [] : lines.slice(-tail);
  }
}

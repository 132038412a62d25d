import type { Json } from "../base/json.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Change, Entry } from "../fabric/ledger.ts";
import type { Assignment } from "../model/instance.ts";
import { keys } from "../model/keys.ts";
import type { InstanceId } from "../model/names.ts";
import {
  type ExecRequest,
  type LogsRequest,
  type SleepReply,
  type SleepRequest,
  subjects,
  type WakeReply,
  type WakeRequest,
} from "../model/wire.ts";
import { type AgentOptions, type AgentParts, assemble, type Running } from "./assemble.ts";
import { reasonOf } from "./drivers/layout.ts";
import { follow } from "./follow.ts";
import { prepareHost } from "./host.ts";
import { Instance } from "./instance.ts";
import type { InstanceFile } from "./instance-files.ts";
import { gatewayCgroupPrefix } from "./paths.ts";

// The agent runs what the ledger assigns to its node. It is level-triggered: it follows the
// assignments, compares them with the instances that it has, and lets each instance make up
// the difference (instance.ts). It writes nothing to the ledger.
//
//   built —start→ adopting (what an earlier lode left) → serving —close→ closed, apps run on
//                                                            └—stopAll→ closed, apps ended

export interface Agent {
  /** Adopts what runs, then serves. The error says what is missing and how to mend it. */
  start(): Promise<Result<void, string>>;
  /** Lode ends and comes back: every app runs on. */
  close(): Promise<void>;
  /** Ends every app of this node. */
  stopAll(): Promise<void>;
}

export function createAgent(options: AgentOptions): Agent {
  return new NodeAgent(options);
}

/** Of instances, builds and sessions; the cloud's tree holds its gateways too. */
const ownCgroup = /^(i[a-z0-9]{11}|build-.+|run-.+)$/;

type Left = { readonly file: InstanceFile; readonly sameBoot: boolean };

class NodeAgent implements Agent {
  readonly #options: AgentOptions;
  readonly #running: Running;
  /** Not yet ready for inputs: being read back from an earlier lode. */
  readonly #adoptions = new Map<InstanceId, Promise<void>>();
  #parts: AgentParts | null = null;
  #subscriptions: { cancel(): void }[] = [];
  #left = new Map<InstanceId, Left>();
  #closed = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#running = {
      instances: new Map(),
      changed: (instance, urgent) => this.#changed(instance, urgent),
      gone: (instance) => this.#gone(instance),
    };
  }

  async start(): Promise<Result<void, string>> {
    const { paths, ledger, node, clock, network } = this.#options;
    const tools = await prepareHost(paths);
    if (!tools.ok) return tools;
    const parts = assemble(this.#options, tools.value, this.#running);
    this.#parts = parts;
    for (const left of parts.files.readAll()) this.#left.set(left.file.instance, left);
    try {
      this.#subscriptions.push(
        await follow(ledger, keys.assignmentsOf(node), clock, {
          snapshot: (entries) => this.#snapshot(entries),
          change: (change) => this.#change(change),
        }),
      );
      await Promise.all(this.#adoptions.values());
      await this.#removeOrphans();
      this.#subscriptions.push(await follow(ledger, keys.apps, clock, parts.appData));
    } catch (cause) {
      return err(`starting the agent: ${reasonOf(cause)}`);
    }
    await network.removeOrphans();
    this.#serve(parts);
    parts.context.ready.begin();
    for (const id of this.#running.instances.keys()) parts.reports.changed(id, true);
    return ok(undefined);
  }

  async close(): Promise<void> {
    await this.#closeParts((instance) => instance.close());
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.#adoptions.values());
    await this.#closeParts((instance) => instance.halt());
  }

  async #closeParts(leave: (instance: Instance) => void | Promise<void>): Promise<void> {
    this.#closed = true;
    for (const subscription of this.#subscriptions) subscription.cancel();
    // The instances first: what breaks off after that is no failure of theirs.
    const left = [...this.#running.instances.values()].map(leave);
    await this.#parts?.sessions.close();
    await this.#parts?.builder.close();
    await Promise.all(left);
    await this.#parts?.context.ready.close();
    this.#parts?.close();
  }

  #snapshot(entries: readonly Entry[]): void {
    const assignments = entries.map((entry) => JSON.parse(entry.value) as Assignment);
    const wanted = new Set(assignments.map(({ instance }) => instance));
    for (const assignment of assignments) this.#assign(assignment);
    for (const id of this.#running.instances.keys()) if (!wanted.has(id)) this.#unassign(id);
  }

  #change(change: Change): void {
    if (change.kind === "put") this.#assign(JSON.parse(change.entry.value) as Assignment);
    else this.#unassign(change.key.slice(change.key.lastIndexOf("/") + 1) as InstanceId);
  }

  #assign(assignment: Assignment): void {
    const { instance: id } = assignment;
    const known = this.#running.instances.get(id);
    if (known !== undefined) {
      this.#afterAdoption(id, () => known.assign(assignment));
      return;
    }
    const left = this.#left.get(id);
    this.#left.delete(id);
    // One that drains and is not here has ended already.
    if (left === undefined && assignment.drain !== null) return;
    const adoption = this.#begin(assignment, left).finally(() => this.#adoptions.delete(id));
    this.#adoptions.set(id, adoption);
  }

  async #begin(assignment: Assignment, left: Left | undefined): Promise<void> {
    const parts = this.#parts;
    if (parts === null) return;
    const instance = new Instance(parts.context, assignment);
    this.#running.instances.set(assignment.instance, instance);
    if (left === undefined) await instance.begin();
    else await instance.adopt(left.file, left.sameBoot);
  }

  #unassign(id: InstanceId): void {
    this.#afterAdoption(id, () => {
      this.#running.instances.get(id)?.feed({ kind: "removed" });
    });
  }

  #afterAdoption(id: InstanceId, act: () => void): void {
    const adoption = this.#adoptions.get(id);
    if (adoption === undefined) act();
    else void adoption.then(act);
  }

  /** What an earlier lode left and nobody wants any more. */
  async #removeOrphans(): Promise<void> {
    const { cgroups } = this.#options;
    for (const { file, sameBoot } of this.#left.values()) {
      if (sameBoot && file.held.slot !== null) {
        await this.#parts?.processes.settle(file.instance, file.held);
      }
      this.#parts?.files.remove(file.instance);
    }
    this.#left.clear();
    for (const name of await cgroups.list()) {
      if (!ownCgroup.test(name) || this.#running.instances.has(name as InstanceId)) continue;
      if (name.startsWith(gatewayCgroupPrefix)) continue;
      const cgroup = await cgroups.open(name);
      await cgroup?.kill();
      await cgroup?.remove();
    }
    this.#parts?.removeStrayFiles((id) => this.#running.instances.has(id));
  }

  #changed(instance: Instance, urgent: boolean): void {
    const id = instance.assignment.instance;
    // One that has just gone was reported as removed; naming it again would bring it back.
    if (this.#closed || !this.#running.instances.has(id)) return;
    this.#parts?.reports.changed(id, urgent);
    const { state } = instance.situation;
    if (urgent && (state === "running" || state === "frozen")) this.#parts?.sampler.touch(id);
  }

  #gone(instance: Instance): void {
    const { project, app, process, instance: id } = instance.assignment;
    this.#running.instances.delete(id);
    const parts = this.#parts;
    if (parts === null) return;
    parts.sampler.forget(id);
    if (!this.#closed) parts.reports.removed(id, instance.totals());
    void parts.logs.release({ project, app, process, instance: id });
    parts.appData.instanceGone(project, app);
  }

  #serve(parts: AgentParts): void {
    const { wire, node } = this.#options;
    const { instances } = this.#running;
    const respond = <Request>(subject: string, answer: (request: Request) => Promise<unknown>) =>
      this.#subscriptions.push(
        wire.respond(subject, async (payload) => (await answer(payload as Request)) as Json),
      );
    respond<WakeRequest>(subjects.nodeWake(node), async ({ instance }): Promise<WakeReply> => {
      const known = instances.get(instance);
      if (known === undefined) return { ok: false, reason: "the instance has ended" };
      parts.sampler.touch(instance);
      return known.wake();
    });
    respond<SleepRequest>(subjects.nodeSleep(node), async (request): Promise<SleepReply> => {
      const slept = await Promise.all(
        request.instances.map(async (id) => ((await instances.get(id)?.sleep()) ? id : null)),
      );
      return { asleep: slept.filter((id) => id !== null) };
    });
    respond<LogsRequest>(subjects.nodeLogs(node), async (request) => parts.logs.query(request));
    respond<ExecRequest>(subjects.nodeExec(node), (request) => parts.sessions.exec(request));
  }
}

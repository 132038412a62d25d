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
import type { InstanceFile, Sleeper } from "./instance-files.ts";
import { type LogKeeper, startLogKeeper } from "./logs/keeper.ts";
import { gatewayCgroupPrefix } from "./paths.ts";
import type { Urgency } from "./reports.ts";

// The agent runs what the ledger assigns to its node. It is level-triggered: it follows the
// assignments, compares them with the instances that it has, and lets each instance make up
// the difference (instance.ts). It writes nothing to the ledger.
//
//   built —start→ adopting (what an earlier lode left) → listing → serving —close→ closed, apps
//                                     run on; both tell and wake     └—stopAll→ closed, apps ended
//
// An instance that has slept for a while is put to bed: only its file is left, and whoever asks
// something of it makes it an instance again. So a node's sleepers cost it no memory.

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

const defaultBedMs = 30_000;
const appsRetryMs = 1000;

type Left = { readonly file: InstanceFile; readonly sameBoot: boolean };

class NodeAgent implements Agent {
  readonly #options: AgentOptions;
  readonly #running: Running;
  /** Not yet ready for inputs: being read back from an earlier lode. */
  readonly #adoptions = new Map<InstanceId, Promise<void>>();
  #parts: AgentParts | null = null;
  #keeper: LogKeeper | null = null;
  #subscriptions: { cancel(): void }[] = [];
  #left = new Map<InstanceId, Left>();
  /** While the assignments are listed: those listed, and what lies in bed. */
  #listed = new Set<InstanceId>();
  #inBed = new Set<InstanceId>();
  #closed = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#running = {
      instances: new Map(),
      changed: (instance, urgency) => this.#changed(instance, urgency),
      gone: (instance) => this.#gone(instance),
      lost: (instance) => void this.#find(instance),
    };
  }

  async start(): Promise<Result<void, string>> {
    const { paths, ledger, node, clock, random, network, cgroups } = this.#options;
    const tools = await prepareHost(paths);
    if (!tools.ok) return tools;
    const parts = assemble(this.#options, tools.value, this.#running);
    this.#parts = parts;
    try {
      await this.#adoptLeft(parts);
      this.#serveSleepers(parts);
      this.#inBed = await parts.files.sleepers();
      this.#subscriptions.push(
        await follow(ledger, keys.assignmentsOf(node), clock, {
          begin: () => this.#listed.clear(),
          listed: (entries) => this.#list(entries),
          end: () => this.#endList(),
          change: (change) => this.#change(change),
        }),
      );
      await Promise.all(this.#adoptions.values());
      await this.#removeOrphans();
      this.#keeper = await startLogKeeper(paths, cgroups, clock, random);
    } catch (cause) {
      return err(`starting the agent: ${reasonOf(cause)}`);
    }
    await network.removeOrphans();
    this.#serve(parts);
    parts.context.ready.begin();
    void this.#followApps(parts);
    return ok(undefined);
  }

  /** Nobody waits for what is of no use any more to be found and removed. */
  async #followApps({ appData }: AgentParts): Promise<void> {
    const { ledger, clock } = this.#options;
    while (!this.#closed) {
      const following = await follow(ledger, keys.apps, clock, appData).catch(() => null);
      if (following !== null) {
        if (this.#closed) following.cancel();
        this.#subscriptions.push(following);
        return;
      }
      await new Promise<void>((resolve) => clock.after(appsRetryMs, resolve));
    }
  }

  /**
   * First what an earlier lode left awake, or only just asleep, so that nobody waits for the long
   * list of the others; what no assignment names any more stays for `#removeOrphans`.
   */
  async #adoptLeft(parts: AgentParts): Promise<void> {
    const { ledger, node } = this.#options;
    for (const left of parts.files.readAll()) {
      const { instance } = left.file;
      this.#left.set(instance, left);
      const read = await ledger.get(keys.assignment(node, instance));
      if (!read.ok) throw new Error(read.error.message);
      if (read.value !== null) this.#assign(JSON.parse(read.value.value) as Assignment);
    }
    await Promise.all(this.#adoptions.values());
  }

  async close(): Promise<void> {
    await this.#closeParts((instance) => instance.close());
    this.#keeper?.close();
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.#adoptions.values());
    await this.#closeParts((instance) => instance.halt());
    await this.#keeper?.stop();
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

  #list(entries: readonly Entry[]): void {
    for (const { key, value } of entries) {
      const id = instanceIn(key);
      this.#listed.add(id);
      // What may sleep on is left alone.
      if (this.#inBed.delete(id) && !this.#left.has(id) && maySleepOn(value)) continue;
      this.#assign(JSON.parse(value) as Assignment);
    }
  }

  #endList(): void {
    for (const id of this.#running.instances.keys()) if (!this.#listed.has(id)) this.#unassign(id);
    // Nobody wants these any more.
    for (const id of this.#inBed) if (!this.#listed.has(id)) this.#unassign(id);
    this.#listed.clear();
    this.#inBed.clear();
  }

  #change(change: Change): void {
    if (change.kind === "put") this.#assign(JSON.parse(change.entry.value) as Assignment);
    else this.#unassign(instanceIn(change.key));
  }

  #assign(assignment: Assignment): void {
    const { instance: id } = assignment;
    const known = this.#running.instances.get(id);
    if (known !== undefined) {
      this.#afterAdoption(id, () => known.assign(assignment));
      return;
    }
    const sleeper = this.#parts?.files.sleeper(id) ?? null;
    const left = this.#left.get(id) ?? sleeper;
    this.#left.delete(id);
    // One that drains and is not here has ended already.
    if (left === null && assignment.drain !== null) return;
    const adoption = this.#begin(assignment, left)
      .then(() => {
        if (sleeper !== null) this.#parts?.files.rise(id);
      })
      .finally(() => this.#adoptions.delete(id));
    this.#adoptions.set(id, adoption);
  }

  /**
   * The instance, ready for inputs, also when it lay in bed; null: it is not this node's. What the
   * ledger assigns to this node is found even if its file is gone.
   */
  async #find(id: InstanceId): Promise<Instance | null> {
    const { instances } = this.#running;
    const { ledger, node } = this.#options;
    if (!instances.has(id)) {
      const read = await ledger.get(keys.assignment(node, id));
      // Another may have found it meanwhile.
      const isFound = instances.has(id) || this.#closed;
      if (!isFound && read.ok && read.value !== null) {
        this.#assign(JSON.parse(read.value.value) as Assignment);
      }
    }
    await this.#adoptions.get(id);
    return instances.get(id) ?? null;
  }

  #putToBed(parts: AgentParts, bedMs: number): void {
    const before = this.#options.clock.now() - bedMs;
    for (const [id, instance] of this.#running.instances) {
      if (this.#adoptions.has(id) || !instance.isAsleepSince(before)) continue;
      parts.files.putToBed(instance.file, instance.status());
      instance.close();
      this.#running.instances.delete(id);
      parts.sampler.forget(id);
      parts.logs.rest(id);
      parts.reports.rested(instance.totals());
    }
  }

  async #begin(assignment: Assignment, left: Left | "unreadable" | null): Promise<void> {
    const parts = this.#parts;
    if (parts === null) return;
    const instance = new Instance(parts.context, assignment);
    this.#running.instances.set(assignment.instance, instance);
    if (left === null || (left === "unreadable" && assignment.keepAwake)) await instance.begin();
    else if (left === "unreadable") await instance.sleepOn();
    else await instance.adopt(left.file, left.sameBoot);
  }

  #unassign(id: InstanceId): void {
    this.#afterAdoption(id, () => {
      const instance = this.#running.instances.get(id);
      if (instance !== undefined) instance.feed({ kind: "removed" });
      else this.#forgetSleeper(id, this.#parts?.files.sleeper(id) ?? null);
    });
  }

  #forgetSleeper(id: InstanceId, sleeper: Sleeper | "unreadable" | null): void {
    const parts = this.#parts;
    if (parts === null || sleeper === null) return;
    if (sleeper === "unreadable") {
      parts.files.remove(id);
      if (!this.#closed) parts.reports.removed(id, null);
      return;
    }
    const { project, app, process } = sleeper.status;
    parts.files.remove(id);
    if (!this.#closed) parts.reports.removed(id, null);
    void parts.logs.release({ project, app, process, instance: id });
    parts.appData.instanceGone(project, app);
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

  #changed(instance: Instance, urgency: Urgency): void {
    const id = instance.assignment.instance;
    // One that has just gone was reported as removed; naming it again would bring it back.
    if (this.#closed || !this.#running.instances.has(id)) return;
    this.#parts?.reports.changed(id, urgency);
    if (urgency !== "later" && instance.situation.state === "running") {
      this.#parts?.sampler.touch(id);
    }
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

  /** What is asked of instances; the rest waits until what nobody wants is gone. */
  #serveSleepers(parts: AgentParts): void {
    const { clock, node } = this.#options;
    const { instances } = this.#running;
    this.#respond<WakeRequest>(
      subjects.nodeWake(node),
      async ({ instance }): Promise<WakeReply> => {
        const known = instances.get(instance) ?? (await this.#find(instance));
        if (known === null) return { ok: false, reason: "the instance has ended" };
        await this.#adoptions.get(instance);
        parts.sampler.touch(instance);
        return known.wake();
      },
    );
    this.#respond<SleepRequest>(subjects.nodeSleep(node), async (request): Promise<SleepReply> => {
      const slept = await Promise.all(
        request.instances.map(async (id) => {
          await this.#adoptions.get(id);
          const sleep = instances.get(id)?.sleep() ?? parts.files.sleeper(id) !== null;
          return (await sleep) ? id : null;
        }),
      );
      return { asleep: slept.filter((id) => id !== null) };
    });
    const bedMs = this.#options.bedMs ?? defaultBedMs;
    this.#subscriptions.push(clock.every(bedMs / 3, () => this.#putToBed(parts, bedMs)));
    parts.reports.open();
    for (const id of instances.keys()) parts.reports.changed(id, "now");
  }

  #serve(parts: AgentParts): void {
    const { node } = this.#options;
    this.#respond<LogsRequest>(subjects.nodeLogs(node), async (request) =>
      parts.logs.query(request),
    );
    this.#respond<ExecRequest>(subjects.nodeExec(node), (request) => parts.sessions.exec(request));
  }

  #respond<Request>(subject: string, answer: (request: Request) => Promise<unknown>): void {
    this.#subscriptions.push(
      this.#options.wire.respond(
        subject,
        async (payload) => (await answer(payload as Request)) as Json,
      ),
    );
  }
}

function instanceIn(key: string): InstanceId {
  return key.slice(key.lastIndexOf("/") + 1) as InstanceId;
}

/** Of an assignment's record, which need not be parsed for that: there may be very many. */
function maySleepOn(record: string): boolean {
  return record.includes('"keepAwake":false') && record.includes('"drain":null');
}

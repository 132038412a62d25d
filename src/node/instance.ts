import { isDeepStrictEqual } from "node:util";
import { assert } from "../base/assert.ts";
import { err, ok } from "../base/result.ts";
import type { Clock, Random, Timer, Timestamp } from "../base/time.ts";
import type { Assignment, ExitCause, InstanceStatus } from "../model/instance.ts";
import { releaseProcess } from "../model/names.ts";
import type { InstanceTotals, WakeReply } from "../model/wire.ts";
import type { CpuShares } from "./cpu-shares.ts";
import { nextTickAt } from "./decide/idle.ts";
import { type Input, initialState, resume, step } from "./decide/machine.ts";
import type { Effect, InstanceState, Situation, Step } from "./decide/state.ts";
import { reasonOf } from "./drivers/layout.ts";
import {
  type Held,
  holdsNothing,
  type InstanceProcess,
  type LaunchRequest,
  type ProcessEnd,
  type WaitingProcess,
} from "./drivers/process.ts";
import type { InstanceFile, InstanceFiles } from "./instance-files.ts";
import { type LaunchContext, Launcher } from "./launcher.ts";
import { type InstanceLog, lastOutput } from "./logs/instance-log.ts";
import { type CpuSample, Meter } from "./meter.ts";
import {
  afterBoot,
  asleepAnew,
  causeOf,
  isFallingAsleep,
  isWrittenLater,
  outOfMemory,
  rests,
  statusOf,
  urgencyOf,
  wantedOf,
} from "./phases.ts";
import type { ReadyOwner, ReadyPool } from "./ready-pool.ts";
import type { Urgency } from "./reports.ts";
import type { StartGate } from "./start-gate.ts";
import { Tally } from "./tally.ts";

// Drives one instance: drains its queue of inputs through the pure machine, writes the state
// down, then carries the effects out.
//
//   input → step → state on disk → effects → (later) inputs
//
// The order is what makes kill -9 harmless: whatever an effect takes hold of is named on disk
// before, so the next lode finds either the thing or a name for nothing. Two, for which a request
// waits, write by themselves: a start out of sleep before it takes hold of anything, and a thaw
// after the answer (a request to what is left frozen is found by its gateway's load: idle.ts).

export interface InstanceContext extends LaunchContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly files: InstanceFiles;
  readonly graceMs: number;
  readonly gate: StartGate;
  readonly ready: ReadyPool;
  readonly shares: CpuShares;
  /** Asks every gateway; feeds `quiesced`. */
  quiesce(assignment: Assignment): Promise<Extract<Input, { kind: "quiesced" }>>;
  /** Status has changed. */
  changed(instance: Instance, urgency: Urgency): void;
  /** It is gone from this node. */
  gone(instance: Instance): void;
}

export class Instance implements ReadyOwner {
  assignment: Assignment;
  process: InstanceProcess | null = null;
  readonly #context: InstanceContext;
  #state: InstanceState;
  readonly #tally = new Tally();
  readonly #meter: Meter;
  readonly #launcher: Launcher;
  #held: Held = holdsNothing;
  #queue: Input[] = [];
  #draining = false;
  #timer: Timer | null = null;
  #waiters: ((reply: WakeReply) => void)[] = [];
  #settled: (() => void)[] = [];
  #launchedAt = 0;
  #closed = false;
  #readiness = new AbortController();

  constructor(context: InstanceContext, assignment: Assignment) {
    this.#context = context;
    this.assignment = assignment;
    const task = assignment.process === releaseProcess;
    const { graceMs } = context;
    this.#state = initialState(wantedOf(assignment), { task, takesRequests: false, graceMs });
    this.#meter = new Meter(assignment.limits, context.shares, this.#tally);
    this.#launcher = new Launcher(context, (held) => {
      this.#held = held;
      this.#context.files.write(this.file);
    });
  }

  get situation(): Situation {
    return this.#state.situation;
  }

  get log(): InstanceLog {
    return this.#context.log(this.assignment);
  }

  get cpuSample(): CpuSample | null {
    return this.#meter.cpuSample;
  }

  /** A ceiling depends on its use: it must be sampled often. */
  get accounted(): boolean {
    return this.#meter.needsAccounting;
  }

  /** It sleeps since before then, nobody asks anything of it, and no sandbox waits for it. */
  isAsleepSince(time: Timestamp): boolean {
    const { situation } = this;
    const isAlone = this.process === null && this.#waiters.length + this.#settled.length === 0;
    const isQuiet = isAlone && !this.#context.ready.knows(this);
    return situation.state === "asleep" && situation.since < time && isQuiet;
  }

  /** All that the next lode must know of it. */
  get file(): InstanceFile {
    const { credit, limits } = this.#meter;
    const { instance } = this.assignment;
    return { instance, state: this.#state, credit, limits, held: this.#held };
  }

  /** A new one: nothing of it is here. */
  async begin(): Promise<void> {
    await this.#readRelease();
    this.#context.files.write(this.file);
    this.feed({ kind: "start" });
  }

  async #readRelease(): Promise<void> {
    const release = await this.#context.release(this.assignment);
    const listen = release.ok
      ? release.value.config.processes[this.assignment.process]?.listen
      : "none";
    this.#state = { ...this.#state, takesRequests: listen !== "none" };
  }

  /** It slept, and what was kept of it is lost: it sleeps on, and starts when it is woken. */
  async sleepOn(): Promise<void> {
    this.#state = asleepAnew(this.#state, this.#now());
    await this.#readRelease();
    this.#context.files.write(this.file);
    this.log.event("what was kept of it while it slept cannot be read: it begins anew");
    this.#context.changed(this, "now");
  }

  /** Takes up what an earlier lode left. */
  async adopt(file: InstanceFile, sameBoot: boolean): Promise<void> {
    const left = sameBoot ? file.state : afterBoot(file.state);
    this.#state = { ...left, graceMs: this.#context.graceMs };
    this.#meter.restore(file.credit, file.limits);
    const held = sameBoot ? file.held : holdsNothing;
    this.#held = held;
    const process = await this.#launcher.adopt(this.assignment, held);
    let exit: ProcessEnd["exit"] = { kind: "unknown" };
    if (process !== null) {
      this.log.watch(process.cgroup.runPaths);
      this.#attach(process);
      await this.#meter.adopt(process.cgroup, this.#now());
    } else if (held.slot !== null) {
      exit = await this.#context.processes.settle(this.assignment.instance, held);
      this.#held = holdsNothing;
    }
    const { state } = this.situation;
    const isUp = state === "running" || state === "frozen" || state === "stopping";
    const wasLaunched = isUp || (state === "starting" && held.monitor !== null && !held.waits);
    const found = process !== null ? "alive" : wasLaunched ? "ended" : "never";
    this.#apply(resume(this.#state, found, this.#now()));
    if (found === "ended") this.#feedExit(causeOf(exit, 0, null));
    this.feed({ kind: "assigned", wanted: wantedOf(this.assignment) });
    this.#followReady();
  }

  assign(assignment: Assignment): void {
    const hasNewLimits = !isDeepStrictEqual(assignment.limits, this.assignment.limits);
    this.assignment = assignment;
    this.#meter.setLimits(assignment.limits).catch((cause) => {
      this.log.event(`its limits cannot be set: ${reasonOf(cause)}`);
    });
    if (hasNewLimits) this.#context.ready.renew(this);
    this.feed({ kind: "assigned", wanted: wantedOf(assignment) });
  }

  feed(input: Input): void {
    if (this.#closed) return;
    this.#queue.push(input);
    if (this.#draining) return;
    this.#draining = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      this.#apply(step(this.#state, next, this.#now()), next.kind !== "requested");
    }
    this.#draining = false;
  }

  wake(): Promise<WakeReply> {
    if (this.situation.state === "asleep") this.#tally.wakeBegins(this.#now());
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.feed({ kind: "wake" });
      this.#context.gate.hurry(this);
    });
  }

  /** A person's program begins inside it; it stays awake until `leave`. Null: it has no process. */
  visit(): { readonly process: InstanceProcess; readonly leave: () => void } | null {
    const { process } = this;
    if (process === null) return null;
    this.feed({ kind: "visit", difference: 1 });
    return { process, leave: () => this.feed({ kind: "visit", difference: -1 }) };
  }

  /** Resolves when it is asleep, or is not going to be. */
  async sleep(): Promise<boolean> {
    this.feed({ kind: "sleep" });
    while (isFallingAsleep(this.situation)) {
      await new Promise<void>((resolve) => this.#settled.push(resolve));
    }
    return this.situation.state === "asleep";
  }

  /** Ends it and resolves when nothing of it is left. */
  async end(): Promise<void> {
    this.feed({ kind: "removed" });
    while (this.situation.state !== "gone" || this.process !== null) {
      await new Promise<void>((resolve) => this.#settled.push(resolve));
    }
  }

  /**
   * Ends its process, as the whole node stops; the next lode starts it again, or finds it
   * asleep, failed or done as it is.
   */
  async halt(): Promise<void> {
    const { wasHealthy, restarts, lastExit } = this.#state;
    if (rests(this.situation)) return this.close();
    await this.end();
    this.close();
    const situation: Situation = { state: "preparing", step: "files" };
    this.#state = { ...this.#state, situation, wasHealthy, restarts, lastExit };
    this.#held = holdsNothing;
    this.#context.files.write(this.file);
  }

  /** Lode ends; the app goes on. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#readiness.abort();
    for (const settle of this.#settled.splice(0)) settle();
  }

  status(): InstanceStatus {
    return statusOf(this.assignment, this.#state, this.#meter.usage);
  }

  /** Null: nothing happened to it yet. */
  totals(): InstanceTotals | null {
    const { instance, project, app, process } = this.assignment;
    const { totals } = this.#tally;
    return totals === null ? null : { instance, project, app, process, ...totals };
  }

  /** It uses nothing until somebody asks something of it, and earns no credit. */
  get standsStill(): boolean {
    return this.situation.state === "frozen" && !this.accounted;
  }

  /** Reads its use; returns the cores in use, or null when it does not run. */
  async sample(): Promise<number | null> {
    try {
      const before = this.#meter.usage;
      const usage = await this.#meter.sample(this.#now());
      if (usage !== null && usage !== before) this.#context.changed(this, "later");
      return usage?.cpuCores ?? null;
    } catch (cause) {
      this.log.event(`its limits cannot be set: ${reasonOf(cause)}`);
      return null;
    }
  }

  get lastUsedAt(): Timestamp {
    const { situation, lastRequestAt, wanted } = this.#state;
    const since = situation.state === "asleep" ? situation.since - wanted.idleMs : 0;
    return Math.max(lastRequestAt, since);
  }

  /** Its next start, up to the app's first instruction. */
  async makeReady(): Promise<WaitingProcess | null> {
    try {
      const request = await this.#launcher.request(this.assignment, () => {});
      if (!request.ok || this.situation.state !== "asleep" || this.#closed) return null;
      return await this.#launcher.makeReady(this.assignment, request.value, this.#meter.expected);
    } catch {
      // The next start tells, to whom it concerns.
      return null;
    }
  }

  #followReady(): void {
    const { state } = this.situation;
    if (state === "asleep") this.#context.ready.offer(this);
    // A start claims it, if it comes to that.
    else if (state !== "preparing" && state !== "starting") void this.#context.ready.withdraw(this);
  }

  #now(): number {
    return this.#context.clock.now();
  }

  #apply({ state, effects }: Step, isDurable = true): void {
    const before = this.#state;
    this.#state = state;
    this.#tally.restarted(state.restarts - before.restarts);
    if (state.situation.state === "running") this.#tally.runs(this.#now());
    const isWrittenNow = isDurable && !isWrittenLater(before, effects);
    if (isWrittenNow && state.situation.state !== "gone") this.#context.files.write(this.file);
    for (const effect of effects) this.#carryOut(effect);
    this.#armTimer();
    if (before.situation !== state.situation) {
      this.#context.changed(this, urgencyOf(before, { state, effects }));
      this.#followReady();
      for (const settle of this.#settled.splice(0)) settle();
    }
  }

  #armTimer(): void {
    this.#timer?.cancel();
    const at = nextTickAt(this.#state);
    this.#timer =
      at === null || this.#closed
        ? null
        : this.#context.clock.after(Math.max(0, at - this.#now()), () =>
            this.feed({ kind: "tick" }),
          );
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case "start":
        this.#start().catch((cause) => this.#startFailed("start", reasonOf(cause), []));
        return;
      case "await":
        void this.#awaitReady();
        return;
      case "terminate":
        // It may end by itself at this very moment.
        this.process?.terminate().catch(() => {});
        return;
      case "kill":
        this.process?.kill().catch(() => {});
        return;
      case "freeze":
        void this.#freeze();
        return;
      case "thaw":
        this.#thaw();
        return;
      case "quiesce":
        void this.#context.quiesce(this.assignment).then((answer) => this.feed(answer));
        return;
      case "log":
        this.log.event(effect.text);
        return;
      case "answerWake":
        for (const waiter of this.#waiters.splice(0)) waiter(effect.reply);
        return;
      case "discard":
        this.#discard();
        return;
    }
  }

  async #freeze(): Promise<void> {
    const { process } = this;
    try {
      if (await process?.cgroup.freeze()) await process?.cgroup.reclaim();
    } catch (cause) {
      // What ended meanwhile cannot be frozen and need not.
      if (this.process === process) this.log.event(`cannot be frozen: ${reasonOf(cause)}`);
    }
  }

  #thaw(): void {
    // It may have ended at this very moment.
    this.process?.cgroup.thaw().catch(() => {});
    setImmediate(() => {
      if (!this.#closed && this.situation.state !== "gone") this.#context.files.write(this.file);
    });
  }

  async #start(): Promise<void> {
    const request = await this.#launcher.request(this.assignment, () =>
      this.feed({ kind: "preparing", step: "build" }),
    );
    if (!request.ok) {
      const { stage, reason, logTail } = request.error;
      return this.#startFailed(stage, reason, logTail);
    }
    const leave = await this.#context.gate.enter(this, this.#state.wakeWanted);
    try {
      await this.#launchAndWait(request.value);
    } finally {
      leave();
    }
  }

  async #launchAndWait(request: LaunchRequest): Promise<void> {
    if (this.situation.state === "stopping") return this.#startFailed("start", "it is ending", []);
    if (this.situation.state === "preparing") this.feed({ kind: "launching" });
    if (this.situation.state !== "starting" || this.#closed) return;
    try {
      await this.#launch(request);
    } catch (cause) {
      return this.#startFailed("start", `starting it: ${reasonOf(cause)}`, []);
    }
    if (this.#closed) return;
    this.feed({ kind: "launched", pid: null });
    await this.#awaitReady();
  }

  async #launch(request: LaunchRequest): Promise<void> {
    const ceilings = this.#meter.begin();
    this.#launchedAt = this.#now();
    const claimed = await this.#context.ready.claim(this, request, ceilings);
    const process = claimed ?? (await this.#launcher.launch(this.assignment, request, ceilings));
    this.#attach(process);
    this.log.watch(process.cgroup.runPaths);
  }

  #attach(process: InstanceProcess): void {
    assert(this.process === null, "an instance has one process");
    this.process = process;
    this.#meter.attach(process.cgroup, this.#now());
    const oom = process.cgroup.onOomKill(() => {
      if (!this.#closed) this.log.event(outOfMemory(this.#meter.memoryMaxBytes));
    });
    void process.ended.then((end) => {
      oom.cancel();
      this.#ended(end);
    });
  }

  #ended({ exit, usage, problem }: ProcessEnd): void {
    if (this.#closed) return;
    const cause = causeOf(exit, usage?.oomKills ?? 0, this.#meter.memoryMaxBytes);
    this.#meter.detach(usage);
    this.process = null;
    this.#held = holdsNothing;
    this.#readiness.abort();
    this.log.rest();
    if (problem !== null) this.log.event(`cleaning up after it: ${problem}`);
    this.#feedExit(cause);
    for (const settle of this.#settled.splice(0)) settle();
  }

  async #awaitReady(): Promise<void> {
    const process = this.process;
    if (process === null) return;
    this.#readiness = new AbortController();
    const { signal } = this.#readiness;
    const waiting = this.#state.task ? Promise.resolve(ok(null)) : process.ready(signal);
    const ready = await waiting.catch((cause) => err(reasonOf(cause)));
    const pid = ready.ok ? await process.pid() : null;
    if (this.process !== process || this.#closed) return;
    if (!ready.ok) this.feed({ kind: "unhealthy", reason: ready.error });
    else if (pid !== null) this.feed({ kind: "ready", endpoint: ready.value, pid });
  }

  #startFailed(stage: "build" | "start", reason: string, logTail: readonly string[]): void {
    this.feed({ kind: "startFailed", stage, reason, logTail, jitter: this.#context.random.next() });
  }

  #feedExit(cause: ExitCause): void {
    this.feed({
      kind: "exited",
      cause,
      logTail: lastOutput(this.log, this.#launchedAt),
      jitter: this.#context.random.next(),
    });
  }

  #discard(): void {
    this.#timer?.cancel();
    const leave = (): void => {
      this.#context.files.remove(this.assignment.instance);
      this.#context.gone(this);
    };
    const withdrawn = this.#context.ready.withdraw(this);
    if (withdrawn === null) leave();
    else void withdrawn.then(leave);
  }
}

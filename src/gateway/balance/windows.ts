import type { FinishedClass, GatewayFinished, NodeCpu } from "../../model/wire.ts";
import type { CostWindow } from "./learner.ts";

// Joins what agents say of CPU used with what gateways say of requests finished into windows
// that a learner can use. A window of an instance goes from one sample to a later one:
//
//   none ─sample→ begun ─(sample, nothing in flight or long enough)→ told or not, begun anew
//                   └─(a gateway's count is missing, or the process is another)→ none
//
// A window begins and ends best when nothing is in flight, as then all CPU used in it belongs to
// the requests counted. Under unbroken load it ends after `windowMsMax`: what is in flight at its
// ends makes it inexact, but not on average, as one end makes up for the other. One that began
// with requests in flight and ended without, or the other way round, has no such luck: it tells
// of too little CPU or too much, and is not told.

export const windowMsMax = 10_000;
/** A gateway that missed so many samples in a row is gone. */
const missesMax = 3;

/** A window with its app, and what requests said of themselves. */
export interface AppWindow extends CostWindow {
  readonly app: string;
  readonly release: number | null;
  readonly reported: ReadonlyMap<string, { readonly count: number; readonly us: number }>;
}

interface Begun {
  /** Nothing was in flight. */
  readonly idle: boolean;
  sample: number;
  readonly at: number;
  readonly cpuTimeUs: number;
  readonly finished: Map<string, number>;
  readonly reported: Map<string, { count: number; us: number }>;
}

interface Pending {
  readonly cpu: NodeCpu;
  readonly answers: Map<string, GatewayFinished>;
}

type Sample = NodeCpu["instances"][number];
type Answer = GatewayFinished["instances"][number];

export class CostWindows {
  private readonly pending = new Map<string, Pending>();
  private readonly begun = new Map<string, Begun>();
  private readonly epochs = new Map<string, string>();
  private readonly misses = new Map<string, number>();

  /** A node has read its instances; returns the windows that ended at its sample before. */
  sampled(cpu: NodeCpu): readonly AppWindow[] {
    const before = this.pending.get(cpu.node);
    this.pending.set(cpu.node, { cpu, answers: new Map() });
    if (this.epochs.get(cpu.node) !== cpu.epoch) {
      this.epochs.set(cpu.node, cpu.epoch);
      if (before !== undefined)
        for (const { instance } of before.cpu.instances) this.drop(instance);
      return [];
    }
    return before === undefined ? [] : this.close(before);
  }

  counted(answer: GatewayFinished): void {
    if (!this.misses.has(answer.gateway)) this.misses.set(answer.gateway, 0);
    const pending = this.pending.get(answer.node);
    if (pending?.cpu.epoch !== answer.epoch || pending.cpu.sequence !== answer.sequence) return;
    pending.answers.set(answer.gateway, answer);
  }

  private drop(instance: string): void {
    this.begun.delete(instance);
  }

  private close({ cpu, answers }: Pending): readonly AppWindow[] {
    let complete = true;
    for (const [gateway, misses] of this.misses) {
      if (answers.has(gateway)) this.misses.set(gateway, 0);
      else if (misses + 1 >= missesMax) this.misses.delete(gateway);
      else {
        this.misses.set(gateway, misses + 1);
        complete = false;
      }
    }
    const windows: AppWindow[] = [];
    for (const sample of cpu.instances) {
      const parts: Answer[] = [];
      for (const answer of answers.values()) {
        const part = answer.instances.find(({ instance }) => instance === sample.instance);
        if (part !== undefined) parts.push(part);
      }
      const window = this.advance(sample, parts, complete);
      if (window !== null) windows.push(window);
    }
    return windows;
  }

  private advance(sample: Sample, parts: readonly Answer[], complete: boolean): AppWindow | null {
    const begun = this.begun.get(sample.instance);
    const inFlight = parts.reduce((sum, part) => sum + part.inFlight, 0);
    const [of] = parts;
    const follows =
      begun !== undefined &&
      complete &&
      sample.sample === begun.sample + 1 &&
      sample.cpuTimeUs >= begun.cpuTimeUs &&
      parts.every(({ from }) => from === null || from === begun.sample);
    if (!follows) {
      if (complete) this.begin(sample, inFlight === 0);
      else this.drop(sample.instance);
      return null;
    }
    begun.sample = sample.sample;
    for (const { classes } of parts) for (const one of classes) add(begun, one);
    const idle = inFlight === 0;
    if (!idle && sample.at - begun.at < windowMsMax) return null;
    this.begin(sample, idle);
    if (of === undefined || idle !== begun.idle) return null;
    const { finished, reported } = begun;
    const reportedUs = [...reported.values()].reduce((sum, { us }) => sum + us, 0);
    const cpuUs = Math.max(0, sample.cpuTimeUs - begun.cpuTimeUs - reportedUs);
    const seconds = (sample.at - begun.at) / 1000;
    const used = { seconds, cpuUs, finished, reported, exact: idle };
    return { app: of.app, release: of.release, ...used };
  }

  private begin({ instance, sample, at, cpuTimeUs }: Sample, idle: boolean): void {
    const empty = { idle, finished: new Map(), reported: new Map() };
    this.begun.delete(instance);
    this.begun.set(instance, { sample, at, cpuTimeUs, ...empty });
    // Instances end without a word; those that were sampled longest ago go first.
    if (this.begun.size > begunMax) this.drop(this.begun.keys().next().value as string);
  }
}

const begunMax = 100_000;

function add(begun: Begun, { name, count, reportedCount, reportedUs }: FinishedClass): void {
  const unreported = count - reportedCount;
  if (unreported > 0) begun.finished.set(name, (begun.finished.get(name) ?? 0) + unreported);
  if (reportedCount === 0) return;
  const sum = begun.reported.get(name) ?? { count: 0, us: 0 };
  sum.count += reportedCount;
  sum.us += reportedUs;
  begun.reported.set(name, sum);
}

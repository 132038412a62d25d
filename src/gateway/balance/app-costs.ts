import type { AppCosts, CostClass } from "../../model/wire.ts";
import { CostLearner, confidenceMin } from "./learner.ts";
import type { AppWindow } from "./windows.ts";

/** Of an app's work this share must be of known cost before requests are placed by cost. */
const knownShareMin = 0.8;
/** A smaller share than this, once sure, and requests in flight are counted again. */
const knownShareKept = 0.5;
/** Weight of the newest report in the mean of a class's reports. */
const reportShare = 0.05;

/** What is learned of one app: by regression, and where requests say it themselves, by that. */
export class AppLearner {
  private readonly learner = new CostLearner();
  private readonly reports = new Map<string, { costUs: number; requests: number }>();
  private wasSure = false;

  /** Goes on from what another gateway published. */
  restore(costs: AppCosts): void {
    const { classes, ...rest } = costs;
    this.learner.restore({ ...rest, classes: classes.filter(({ reported }) => !reported) });
    for (const { name, costUs, requests, reported } of classes) {
      if (reported) this.reports.set(name, { costUs, requests });
    }
    this.wasSure = costs.sure;
  }

  observe(window: AppWindow): void {
    this.learner.observe(window);
    for (const [name, { count, us }] of window.reported) {
      const known = this.reports.get(name);
      const mean = us / count;
      const share = known === undefined ? 1 : 1 - (1 - reportShare) ** count;
      const costUs = (known?.costUs ?? 0) * (1 - share) + mean * share;
      this.reports.set(name, { costUs, requests: (known?.requests ?? 0) + count });
    }
    // A class says it no longer: what it once said goes.
    for (const [name, count] of window.finished) {
      const known = this.reports.get(name);
      if (known !== undefined && !window.reported.has(name)) {
        known.requests -= count;
        if (known.requests <= 0) this.reports.delete(name);
      }
    }
  }

  estimate(): Omit<AppCosts, "app" | "release" | "gateway" | "row" | "at"> {
    const learned = this.learner.estimate();
    const classes: CostClass[] = [];
    for (const one of learned.classes) {
      if (!this.reports.has(one.name)) classes.push({ ...one, reported: false });
    }
    for (const [name, { costUs, requests }] of this.reports) {
      classes.push({ name, costUs, requests, confidence: 1, reported: true });
    }
    let requests = 0;
    let work = 0;
    let known = 0;
    for (const one of classes) {
      const all = Math.max(one.costUs, learned.meanUs / 10) * one.requests;
      requests += one.requests;
      work += all;
      if (one.confidence >= confidenceMin) known += all;
    }
    const knownShare = work > 0 ? known / work : 0;
    this.wasSure = knownShare >= (this.wasSure ? knownShareKept : knownShareMin);
    const meanUs = requests > 0 ? work / requests : 0;
    return { classes, idleUs: learned.idleUs, meanUs, knownShare, sure: this.wasSure };
  }
}

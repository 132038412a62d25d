import type { Clock } from "../../base/time.ts";
import type { Subscription, Wire } from "../../fabric/wire.ts";
import type { Deployment } from "../../model/release.ts";
import type { DeploymentEvent } from "../../model/wire.ts";
import type { Observed } from "../../scheduler/observed.ts";
import type { AppState } from "../../scheduler/snapshot.ts";
import { DeploymentJournal, endOf } from "./journal.ts";

const finishedKeptMax = 200;

/**
 * The journals of deployments under way and of the last finished ones. Every replica keeps its
 * own from the snapshot and the nodes' reports; only build output comes by the wire.
 */
export class DeploymentJournals {
  readonly #clock: Clock;
  readonly #subscription: Subscription;
  readonly #journals = new Map<string, DeploymentJournal>();
  /** Numbers under way, by app. */
  readonly #open = new Map<string, Set<number>>();

  constructor(wire: Wire, clock: Clock) {
    this.#clock = clock;
    this.#subscription = wire.subscribe("progress.*.*.*", ({ subject, payload }) => {
      const event = payload as unknown as DeploymentEvent;
      const [, project = "", app = "", number = ""] = subject.split(".");
      if (event.kind === "output")
        this.#journals.get(`${project}/${app}/${number}`)?.addOutput(event);
    });
  }

  close(): void {
    this.#subscription.cancel();
  }

  /** To be called when an app's records or instances changed. */
  review(key: string, state: AppState | null, observed: Observed): void {
    const open = this.#open.get(key) ?? new Set<number>();
    for (const { value } of state?.deployments ?? []) {
      if (value.state === "starting") open.add(value.number);
    }
    for (const number of open) {
      const deployment = state?.deployments.find(({ value }) => value.number === number)?.value;
      const journal = this.#journal(`${key}/${number}`);
      if (state === null || deployment === undefined) journal.abandon();
      else journal.review(state, deployment, observed);
      if (journal.ended) open.delete(number);
    }
    if (open.size > 0) this.#open.set(key, open);
    else if (this.#open.delete(key)) this.#trim();
  }

  read(key: string, deployment: Deployment, signal: AbortSignal): AsyncIterable<DeploymentEvent> {
    const journal = this.#journals.get(`${key}/${deployment.number}`);
    if (journal !== undefined) return journal.read(signal);
    if (deployment.state === "starting") {
      return this.#journal(`${key}/${deployment.number}`).read(signal);
    }
    return remembered(endOf(deployment, 0, null));
  }

  #journal(name: string): DeploymentJournal {
    const known = this.#journals.get(name);
    if (known !== undefined) return known;
    const journal = new DeploymentJournal(this.#clock);
    this.#journals.set(name, journal);
    return journal;
  }

  /** A map keeps the order of insertion: the oldest finished go first. */
  #trim(): void {
    let surplus = this.#journals.size - finishedKeptMax;
    for (const [name, journal] of this.#journals) {
      if (surplus <= 0) return;
      if (!journal.ended) continue;
      this.#journals.delete(name);
      surplus -= 1;
    }
  }
}

async function* remembered(event: DeploymentEvent): AsyncGenerator<DeploymentEvent, void> {
  yield event;
}

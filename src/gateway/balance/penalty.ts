import type { Timestamp } from "../../base/time.ts";

/** Work charged to an instance for failures; halves every `penaltyHalfLifeMs`. */
export interface Penalty {
  readonly amount: number;
  readonly at: Timestamp;
}

export const noPenalty: Penalty = { amount: 0, at: 0 };

/** Requests' worth of work that one failure costs. */
export const penaltyPerFailure = 8;
export const penaltyMax = 1000;
export const penaltyHalfLifeMs = 3000;

/** What is left of a penalty, in requests' worth of work; below a tenth it is forgotten. */
export function penaltyAt(penalty: Penalty, now: Timestamp): number {
  if (penalty.amount === 0) return 0;
  const left = penalty.amount * 2 ** (-Math.max(0, now - penalty.at) / penaltyHalfLifeMs);
  return left < 0.1 ? 0 : left;
}

export function afterFailure(penalty: Penalty, now: Timestamp): Penalty {
  return { amount: Math.min(penaltyMax, penaltyAt(penalty, now) + penaltyPerFailure), at: now };
}

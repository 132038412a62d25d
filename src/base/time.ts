/** Milliseconds since the Unix epoch. */
export type Timestamp = number;

export interface Timer {
  cancel(): void;
}

/**
 * Time as an argument. Production passes the system's clock, the simulation a virtual one;
 * nothing outside the adapters of this interface reads the time or sets a timer.
 */
export interface Clock {
  now(): Timestamp;
  /** Calls back once after `delayMs`. A timer never keeps the process alive. */
  after(delayMs: number, callback: () => void): Timer;
  /** Calls back every `periodMs` until cancelled. */
  every(periodMs: number, callback: () => void): Timer;
}

/** Randomness as an argument. */
export interface Random {
  /** A float in [0, 1). */
  next(): number;
  /** `length` characters of [a-z0-9], for ids. */
  token(length: number): string;
}

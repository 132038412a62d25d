import { randomBytes } from "node:crypto";
import type { Clock, Random, Timer } from "../base/time.ts";

/** setTimeout fires at once when given more. */
const timeoutMsMax = 2 ** 31 - 1;

/** The machine's time. Its timers never keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, callback): Timer {
    // At once, after what waits already: a timer takes a millisecond at least.
    if (delayMs <= 0) {
      const immediate = setImmediate(callback);
      return { cancel: () => clearImmediate(immediate) };
    }
    let timer: NodeJS.Timeout;
    const arm = (remainingMs: number): void => {
      const stepMs = Math.min(remainingMs, timeoutMsMax);
      timer = setTimeout(() => {
        if (stepMs === remainingMs) callback();
        else arm(remainingMs - stepMs);
      }, stepMs);
      timer.unref();
    };
    arm(Math.max(0, delayMs));
    return { cancel: () => clearTimeout(timer) };
  },
  every(periodMs, callback): Timer {
    const timer = setInterval(callback, periodMs);
    timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
};

const tokenAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
/** Bytes at or above this would favour the alphabet's first letters. */
const fairByteEnd = 256 - (256 % tokenAlphabet.length);

/** The kernel's randomness, fit for secrets. */
export const systemRandom: Random = {
  next: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  token(length) {
    let token = "";
    while (token.length < length) {
      for (const byte of randomBytes(length - token.length + 8)) {
        if (byte >= fairByteEnd || token.length === length) continue;
        token += tokenAlphabet.charAt(byte % tokenAlphabet.length);
      }
    }
    return token;
  },
};

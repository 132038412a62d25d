import type { Clock, Timer } from "../base/time.ts";

// A process that had much to do keeps the garbage of it: nothing is allocated any more, and so
// nothing asks for a collection. It is collected once it has become quiet:
//
//     quiet —more than a share of a core→ worked —less→ (collect) quiet

const periodMs = 10_000;
/** Of a core, over a period; at rest a gateway uses a tenth of that. */
const workedShare = 0.02;

/** @param cpuTimeUs what the process has used so far */
export function collectWhenQuiet(
  clock: Clock,
  cpuTimeUs: () => number,
  collect: () => void,
): Timer {
  let worked = false;
  let beforeUs = cpuTimeUs();
  return clock.every(periodMs, () => {
    const nowUs = cpuTimeUs();
    const share = (nowUs - beforeUs) / (1000 * periodMs);
    if (share >= workedShare) worked = true;
    else if (worked) {
      worked = false;
      collect();
    }
    beforeUs = cpuTimeUs();
  });
}

/** Of this process. */
export function ownCpuTimeUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

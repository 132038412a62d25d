import { assert } from "../../src/base/assert.ts";
import { fixed } from "./numbers.ts";

export interface Tick {
  readonly value: number;
  readonly label: string;
}

/** How values become places on an axis. */
export interface Scale {
  /** What a reader must know of it, to stand beside the unit. */
  readonly says: string;
  /** From 0 at the axis's beginning to 1 at its end; a value beyond an end lies beyond it. */
  readonly at: (value: number) => number;
  readonly ticks: readonly Tick[];
}

/** More would crowd an axis. */
const ticksMax = { linear: 8, logarithmic: 10 };

/** From zero to the greatest value, so that lengths are in proportion. */
export function linearScale(max: number): Scale {
  assert(Number.isFinite(max) && max > 0, `a linear scale to ${max}`);
  const step = niceStep(max / (ticksMax.linear - 1));
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const count = Math.floor(max / step + 1e-9) + 1;
  const ticks = Array.from({ length: count }, (_, index) => ({
    value: index * step,
    label: fixed(index * step, digits),
  }));
  return { says: "from zero", at: (value) => value / max, ticks };
}

/** The least of 1, 2, 5 times a power of ten that is not below the least. */
export function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least) + 1e-9);
  const factor = [1, 2, 5, 10].find((each) => each * power >= least * (1 - 1e-9)) ?? 10;
  return factor * power;
}

/** Between the 1, 2, 5 times powers of ten that enclose the values; they must be above zero. */
export function logarithmicScale(min: number, max: number): Scale {
  assert(min > 0 && max >= min && Number.isFinite(max), `a logarithmic scale ${min} to ${max}`);
  const steps = stepsAround(min, max);
  const [first, last] = [steps[0] as number, steps.at(-1) as number];
  const decades = steps.filter(isPowerOfTen);
  const few = steps.length <= ticksMax.logarithmic ? steps : decades;
  const every = Math.ceil(few.length / ticksMax.logarithmic);
  const [from, to] = [Math.log10(first), Math.log10(last)];
  return {
    says: "logarithmic scale",
    at: (value) => (Math.log10(value) - from) / (to - from),
    ticks: few
      .filter((_, index) => index % every === 0)
      .map((value) => ({
        value,
        label: fixed(value, Math.max(0, -Math.floor(Math.log10(value)))),
      })),
  };
}

const isPowerOfTen = (value: number) => /^(?:0\.0*1|10*)$/.test(String(value));

/** All 1, 2, 5 times powers of ten from the last that is not above to the first not below. */
function stepsAround(min: number, max: number): readonly number[] {
  const steps: number[] = [];
  for (let power = Math.floor(Math.log10(min)) - 1; power <= Math.log10(max) + 1; power += 1) {
    // Read from text, or 5 × 10⁻³ would be 0.005000000000000001.
    for (const factor of [1, 2, 5]) steps.push(Number(`${factor}e${power}`));
  }
  const first = steps.findLastIndex((step) => step <= min);
  const last = steps.findIndex((step) => step >= max);
  return steps.slice(first, first === last ? last + 2 : last + 1);
}

/** Of shares, the nines spread out: as far from 90 % to 99 % as from 99 % to 99.9 %. */
export function ninesScale(shareMax: number): Scale {
  assert(shareMax > 0.5 && shareMax < 1, `a scale of shares up to ${shareMax}`);
  const at = (share: number) => Math.log10(1 - share) / Math.log10(1 - shareMax);
  const ticks = [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    .filter((share) => share <= shareMax)
    .map((value) => ({ value, label: `${Number((value * 100).toFixed(2))} %` }));
  return { says: "each nine as wide as the one before", at, ticks };
}

import { assert } from "../../src/base/assert.ts";
import { acrossOf, axisHeight, axisLabel, horizontalAxis } from "./axes.ts";
import { textWidth, wrap } from "./layout.ts";
import { median, readable } from "./numbers.ts";
import { logarithmicScale } from "./scale.ts";
import {
  element,
  figure,
  type Goal,
  goalLine,
  type Heading,
  marked,
  padding,
  rule,
  sizes,
  text,
  width,
} from "./svg.ts";

export interface Strip {
  readonly name: string;
  /** Lode's, as against what it is compared with. */
  readonly own: boolean;
  readonly samples: readonly number[];
}

export interface StripChart extends Heading {
  readonly label: string;
  readonly strips: readonly Strip[];
  readonly goal?: Goal;
}

const [rowHeight, spreadOver, namesWidthMax] = [38, 16, 250];
/** Turns by it never come close to where one was before (the golden ratio). */
const turn = 0.618_033_988_75;

/** Each sample a dot in its contestant's row, on a logarithmic axis; the median a line. */
export function stripChart(chart: StripChart): string {
  const samples = chart.strips.flatMap((strip) => strip.samples);
  assert(samples.length > 0, `no samples: ${chart.title}`);
  const { goal } = chart;
  const values = goal === undefined ? samples : [...samples, goal.value];
  const scale = logarithmicScale(Math.min(...values), Math.max(...values));
  const axis = { label: chart.label, scale };
  const names = chart.strips.map(({ name }) => wrap(name, namesWidthMax, sizes.text, "bold"));
  const namesWidth = Math.max(...names.flat().map((line) => textWidth(line, sizes.text, "bold")));
  const says = `${axisLabel(axis)}. ${chart.strips.map(inWords).join("; ")}.`;
  return figure(chart, says, (below) => {
    const top = below + (goal === undefined ? 4 : 20);
    const bottom = top + chart.strips.length * rowHeight + 6;
    const box = { left: padding + namesWidth + 14, right: width - padding - 64, top, bottom };
    const x = acrossOf(box, scale);
    const rows = chart.strips.flatMap((strip, index) => {
      const y = top + 3 + (index + 0.5) * rowHeight;
      const weight = { class: "ink", "font-weight": strip.own ? 600 : 400 };
      return [
        ...nameLines(names[index] ?? [], box.left - 14, y, weight),
        drawStrip(strip, y, x),
        text(width - padding, y + 4.5, readable(median(strip.samples)), {
          ...{ ...weight, "text-anchor": "end" },
        }),
      ];
    });
    const wanted =
      goal === undefined
        ? []
        : [goalLine(x(goal.value), [top - 16, bottom], goal.label, box.right)];
    const head = text(width - padding, top - 2, "median", {
      ...{ class: "muted", "font-size": sizes.small, "text-anchor": "end" },
    });
    const parts = [...horizontalAxis(box, axis), head, ...wanted, ...rows];
    return { parts, height: bottom + axisHeight };
  });
}

function nameLines(lines: readonly string[], x: number, y: number, weight: object): string[] {
  const first = y + 4.5 - (lines.length - 1) * 7.5;
  return lines.map((line, index) =>
    text(x, first + index * 15, line, { ...weight, "text-anchor": "end" }),
  );
}

function drawStrip(strip: Strip, y: number, x: (value: number) => number): string {
  const dots = strip.samples.map((sample, index) =>
    element("circle", {
      ...{ cx: x(sample), r: 2.6, fill: "currentColor", "fill-opacity": "0.4" },
      cy: y + ((((index + 1) * turn) % 1) - 0.5) * spreadOver,
    }),
  );
  const middle = x(median(strip.samples));
  const line = rule([middle, y - 12], [middle, y + 12], {
    ...{ stroke: "currentColor", "stroke-width": 2.5 },
  });
  return marked(strip.own ? "own" : "other", ...dots, line);
}

function inWords({ name, samples }: Strip): string {
  const range = `${readable(Math.min(...samples))} to ${readable(Math.max(...samples))}`;
  return `${name}: median ${readable(median(samples))}, ${range}`;
}

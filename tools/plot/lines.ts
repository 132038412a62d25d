import { assert } from "../../src/base/assert.ts";
import {
  type Axis,
  acrossOf,
  axisHeight,
  axisLabel,
  type Box,
  horizontalAxis,
  upOf,
  verticalAxis,
} from "./axes.ts";
import { spread, textWidth } from "./layout.ts";
import { readable } from "./numbers.ts";
import {
  type Attributes,
  element,
  figure,
  type Goal,
  type Heading,
  lineMarks,
  marked,
  padding,
  sizes,
  text,
  width,
} from "./svg.ts";

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Line {
  readonly name: string;
  readonly points: readonly Point[];
  /** What the points are made from, drawn faintly. */
  readonly behind?: readonly Point[];
  /** What it should keep to, from somewhere on: drawn behind it. */
  readonly band?: { readonly from: number; readonly low: number; readonly high: number };
}

export interface LineChart extends Heading {
  readonly across: Axis;
  readonly up: Axis;
  readonly lines: readonly Line[];
  readonly goal?: Goal;
}

const boxHeight = 280;
/** So few points are measurements of their own, and have a dot each. */
const dotsMax = 12;
const labelGap = 16;

/** Lines from left to right, each named at its end, where its last number stands. */
export function lineChart(chart: LineChart): string {
  assert(chart.lines.length <= lineMarks.length, `too many lines: ${chart.title}`);
  const labels = chart.lines.map(({ name, points }) => {
    return `${name}: ${readable(points.at(-1)?.y ?? Number.NaN)}`;
  });
  const labelsWidth = Math.max(...labels.map((label) => textWidth(label, sizes.text, "bold")));
  const says =
    `From left to right: ${axisLabel(chart.across)}; upwards: ${axisLabel(chart.up)}. ` +
    `${chart.lines.map(inWords).join("; ")}.`;
  return figure(chart, says, (below) => {
    const top = below + 26;
    const box: Box = {
      left: padding + 44,
      right: width - padding - labelsWidth - 12,
      top,
      bottom: top + boxHeight,
    };
    const [x, y] = [acrossOf(box, chart.across.scale), upOf(box, chart.up.scale)];
    const ends = chart.lines.map(({ points }) => y(points.at(-1)?.y ?? 0));
    const places = spread(ends, labelGap, [top, box.bottom]);
    const lines = chart.lines.map((line, index) =>
      marked(
        lineMarks[index] as (typeof lineMarks)[number],
        ...drawLine(line, x, y, box),
        text(box.right + 10, (places[index] as number) + 4, labels[index] as string, {
          ...{ fill: "currentColor", "font-weight": 600 },
        }),
      ),
    );
    const axes = [...horizontalAxis(box, chart.across), ...verticalAxis(box, chart.up)];
    const { goal } = chart;
    const wanted = goal === undefined ? [] : [drawGoal(y(goal.value), box, goal.label)];
    // The first, which matters most, lies on top.
    return { parts: [...axes, ...wanted, ...lines.reverse()], height: box.bottom + axisHeight };
  });
}

type Place = (value: number) => number;

function drawLine(line: Line, x: Place, y: Place, box: Box): readonly string[] {
  const { points, behind = [], band } = line;
  const few = points.length <= dotsMax;
  const kept =
    band === undefined
      ? []
      : [
          element("rect", {
            ...{ x: x(band.from), y: y(band.high), width: box.right - x(band.from) },
            ...{ height: y(band.low) - y(band.high), fill: "currentColor" },
            "fill-opacity": "0.16",
          }),
        ];
  const path = (through: readonly Point[], attributes: Attributes) =>
    element("polyline", {
      points: through.map((at) => `${x(at.x).toFixed(1)},${y(at.y).toFixed(1)}`).join(" "),
      ...{ stroke: "currentColor", "stroke-linejoin": "round", ...attributes },
    });
  return [
    ...kept,
    ...(behind.length > 0 ? [path(behind, { "stroke-opacity": "0.45" })] : []),
    path(points, { "stroke-width": 2.2 }),
    ...(few ? points : []).map((at) => {
      return element("circle", { cx: x(at.x), cy: y(at.y), r: 3.2, ...filled });
    }),
  ];
}

const filled = { fill: "currentColor" };

function drawGoal(y: number, box: Box, label: string): string {
  return marked(
    "goal",
    element("line", {
      ...{ x1: box.left, y1: y, x2: box.right, y2: y },
      ...{ stroke: "currentColor", "stroke-dasharray": "4 3" },
    }),
    text(box.left + 6, y + (y - box.top < 20 ? 14 : -5), label, {
      ...filled,
      "font-size": sizes.small,
    }),
  );
}

/** Ten points tell how a line goes. */
function inWords({ name, points }: Line): string {
  const every = Math.max(1, Math.ceil(points.length / 10));
  const some = points.filter((_, index) => index % every === 0 || index === points.length - 1);
  return `${name}: ${some.map(({ x, y }) => `${readable(y)} at ${readable(x)}`).join(", ")}`;
}

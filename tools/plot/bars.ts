import { assert } from "../../src/base/assert.ts";
import { acrossOf, axisHeight, axisLabel, type Box, horizontalAxis } from "./axes.ts";
import { textWidth } from "./layout.ts";
import { readable } from "./numbers.ts";
import { linearScale } from "./scale.ts";
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

export interface Bar {
  readonly name: string;
  /** Lode's, as against what it is compared with. */
  readonly own: boolean;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface BarGroup {
  /** Stands above its bars; null: there is one group. */
  readonly name: string | null;
  readonly bars: readonly Bar[];
  readonly goal?: Goal;
}

export interface BarChart extends Heading {
  readonly label: string;
  readonly groups: readonly BarGroup[];
}

const [barHeight, barGap, groupGap, nameHeight] = [15, 8, 16, 24];

/** Bars from zero to the median, whiskers from least to greatest, each number beside its bar. */
export function barChart(chart: BarChart): string {
  const bars = chart.groups.flatMap((group) => group.bars);
  assert(bars.length > 0, `no bars: ${chart.title}`);
  const goals = chart.groups.flatMap(({ goal }) => (goal === undefined ? [] : [goal.value]));
  const axis = {
    label: chart.label,
    scale: linearScale(Math.max(...goals, ...bars.map(({ max }) => max))),
  };
  const names = [...bars, ...chart.groups].map(({ name }) => name ?? "");
  const namesWidth = Math.max(...names.map((name) => textWidth(name, sizes.text, "bold")));
  const says = chart.groups.map((group) => inWords(group)).join("; ");
  return figure(chart, `${axisLabel(axis)}. ${says}.`, (top) => {
    const placed = place(chart.groups, top + 10);
    const box: Box = {
      left: padding + namesWidth + 10,
      right: width - padding - 56,
      top,
      bottom: placed.bottom,
    };
    const x = acrossOf(box, axis.scale);
    const parts = placed.groups.flatMap((group) => [
      ...(group.name === null ? [] : [groupName(group.name, group.top)]),
      ...group.bars.flatMap((bar, index) => drawBar(bar, group.ys[index] as number, box.left, x)),
      ...(group.goal === undefined
        ? []
        : [
            goalLine(
              x(group.goal.value),
              [group.top, group.bottom],
              group.goal.label,
              width - padding,
            ),
          ]),
      ...group.bars.map((bar, index) => numberBeside(bar, group.ys[index] as number, x)),
    ]);
    return { parts: [...horizontalAxis(box, axis), ...parts], height: box.bottom + axisHeight };
  });
}

/** The height of each bar's middle, group by group. */
function place(groups: readonly BarGroup[], from: number) {
  let y = from;
  const placed = groups.map((group) => {
    const top = y;
    // A goal's name needs the room that a group's name has.
    if (group.name !== null || group.goal !== undefined) y += nameHeight;
    const ys = group.bars.map((_, index) => y + index * (barHeight + barGap) + barHeight / 2);
    const bottom = y + group.bars.length * (barHeight + barGap) - barGap + 3;
    y = bottom + groupGap;
    return { ...group, ys, top, bottom };
  });
  return { groups: placed, bottom: y - groupGap + 8 };
}

function groupName(name: string, top: number): string {
  return text(padding, top + 11, name, { class: "ink", "font-weight": 600 });
}

function drawBar(bar: Bar, y: number, left: number, x: (value: number) => number): string[] {
  const [from, to] = [x(bar.min), x(bar.max)];
  const whisker = { class: "whisker", "stroke-width": 1.3 };
  const place = { x: left, y: y - barHeight / 2, height: barHeight };
  return [
    text(left - 10, y + 4.5, bar.name, {
      ...{ "text-anchor": "end", class: "ink", "font-weight": bar.own ? 600 : 400 },
    }),
    marked(
      bar.own ? "own" : "other",
      element("rect", {
        ...place,
        width: x(bar.median) - left,
        fill: "currentColor",
        "fill-opacity": "0.8",
      }),
    ),
    ...(bar.max > bar.min
      ? [
          rule([from, y], [to, y], whisker),
          ...[from, to].map((end) => rule([end, y - 4], [end, y + 4], whisker)),
        ]
      : []),
  ];
}

function numberBeside(bar: Bar, y: number, x: (value: number) => number): string {
  return text(x(bar.max) + 8, y + 4.5, readable(bar.median), {
    ...{ class: "ink over", "font-weight": bar.own ? 600 : 400 },
  });
}

function inWords({ name, bars, goal }: BarGroup): string {
  const each = bars.map(
    (bar) => `${bar.name} ${readable(bar.median)} (${readable(bar.min)} to ${readable(bar.max)})`,
  );
  return [
    `${name === null ? "" : `${name}: `}${each.join(", ")}`,
    ...(goal === undefined ? [] : [goal.label]),
  ].join("; ");
}

import { fitting } from "./layout.ts";
import type { Scale } from "./scale.ts";
import { rule, sizes, text } from "./svg.ts";

/** Where a chart's data stands, in pixels. */
export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Axis {
  /** What the numbers are, with the unit. */
  readonly label: string;
  readonly scale: Scale;
}

/** Below the box of a horizontal axis: its numbers and its label. */
export const axisHeight = 46;

export const acrossOf = (box: Box, { at }: Scale) => {
  return (value: number) => box.left + at(value) * (box.right - box.left);
};

export const upOf = (box: Box, { at }: Scale) => {
  return (value: number) => box.bottom - at(value) * (box.bottom - box.top);
};

export const axisLabel = ({ label, scale }: Axis) => `${label} (${scale.says})`;

/** Numbers below the box, a line through it for each. */
export function horizontalAxis(box: Box, axis: Axis): readonly string[] {
  const x = acrossOf(box, axis.scale);
  const small = { "text-anchor": "middle", class: "muted", "font-size": sizes.small };
  const ticks = axis.scale.ticks.map((tick) => ({ ...tick, place: x(tick.value) }));
  const fits = fitting(ticks, sizes.small);
  return [
    ...ticks.flatMap(({ value, label, place }, index) => [
      rule([place, box.top], [place, box.bottom], { class: lineClass(axis, value) }),
      ...(fits[index] ? [text(place, box.bottom + 17, label, small)] : []),
    ]),
    text((box.left + box.right) / 2, box.bottom + 36, axisLabel(axis), small),
  ];
}

/** Numbers on the left of the box, a line through it for each; the label above them. */
export function verticalAxis(box: Box, axis: Axis): readonly string[] {
  const y = upOf(box, axis.scale);
  const small = { class: "muted", "font-size": sizes.small };
  return [
    ...axis.scale.ticks.flatMap(({ value, label }) => [
      rule([box.left, y(value)], [box.right, y(value)], { class: lineClass(axis, value) }),
      text(box.left - 8, y(value) + 4, label, { ...small, "text-anchor": "end" }),
    ]),
    text(box.left - 8, box.top - 12, axisLabel(axis), { ...small, dx: -24 }),
  ];
}

/** Zero is where lengths begin. */
const lineClass = ({ scale }: Axis, value: number) =>
  value === 0 && scale.says === "from zero" ? "axis" : "grid";

import { type Bar, type BarGroup, barChart } from "../tools/plot/bars.ts";
import { type Line, lineChart } from "../tools/plot/lines.ts";
import { median } from "../tools/plot/numbers.ts";
import { linearScale, logarithmicScale } from "../tools/plot/scale.ts";
import { type Strip, stripChart } from "../tools/plot/strips.ts";
import type { Goal } from "../tools/plot/svg.ts";
import type { Row, Section } from "./report.ts";
import { memoryMaxMB } from "./sections/memory.ts";
import { sleepingMemoryMaxMB, sleepingTitles } from "./sections/sleeping.ts";
import { cpuTitle, protocols, throughputTitle } from "./sections/warm.ts";

/** A plot of the page. */
export interface Picture {
  /** In the folder of plots. */
  readonly file: string;
  /** Says what is shown; stands for it where it cannot be. */
  readonly title: string;
  readonly svg: string;
}

type Measured = Extract<Row, { samples: readonly number[] }>;

const measured = (section: Section | undefined): readonly Measured[] =>
  (section?.rows ?? []).flatMap((row) =>
    "missing" in row || row.samples.length === 0 ? [] : [row],
  );

/** What was measured of Lode, as against what it is compared with. */
const isOwn = (name: string) => /^(?:Lode|…|`lode )/.test(name);

/** Markdown's marks mean nothing in a plot. */
const plain = (name: string) => name.replaceAll("`", "");

export function coldPictures([cold]: readonly Section[]): readonly Picture[] {
  const title = "Cold start, to the first byte of the answer";
  return strips("cold-start.svg", title, "a start", cold);
}

export function thawPictures([thaw]: readonly Section[]): readonly Picture[] {
  const title = "Thaw: requests to an app that is awake, and to one that is frozen";
  return strips("thaw.svg", title, "a request", thaw, {
    value: 3,
    label: "goal: 99 % within 3 ms",
  });
}

export function deployPictures([deploy]: readonly Section[]): readonly Picture[] {
  const title = "From the changed file to the first answer of the new version";
  return strips("deploy.svg", title, "a deploy", deploy, {
    value: 500,
    label: "goal: at most 500 ms",
  });
}

function strips(
  file: string,
  title: string,
  dot: string,
  section: Section | undefined,
  goal?: Goal,
): readonly Picture[] {
  const rows = measured(section).map(
    ({ name, samples }): Strip => ({ name: plain(name), own: isOwn(name), samples }),
  );
  if (rows.length === 0) return [];
  const note = `Each dot is ${dot}, the upright line their median. Bold: Lode.`;
  const chart = { title, note, label: section?.unit ?? "", strips: rows };
  const svg = stripChart(goal === undefined ? chart : { ...chart, goal });
  return [{ file, title, svg }];
}

const whiskers = "Bars are medians, whiskers go from the least to the greatest. Bold: Lode.";

function barsOf(section: Section | undefined): readonly Bar[] {
  return measured(section).map(({ name, samples }) => ({
    name: plain(name),
    own: isOwn(name),
    median: median(samples),
    min: Math.min(...samples),
    max: Math.max(...samples),
  }));
}

export function warmPictures(sections: readonly Section[]): readonly Picture[] {
  const groups = protocols.flatMap(({ name, timesOfNginxMax: times }) => {
    const bars = barsOf(titled(sections, cpuTitle(name)));
    if (bars.length === 0) return [];
    const nginx = bars.find((bar) => bar.name.startsWith("nginx "));
    if (nginx === undefined) return [{ name, bars }];
    const goal = { value: nginx.median * times, label: `goal: at most ${times} × nginx's` };
    return [{ name, bars, goal }];
  });
  const rates = barsOf(titled(sections, throughputTitle));
  return [
    bars("warm-cpu.svg", "CPU time of the proxy for a warm request", "µs a request", groups),
    bars("warm-throughput.svg", "Warm requests over plain HTTP/1.1", "requests a second", [
      { name: null, bars: rates },
    ]),
  ].flat();
}

export function memoryPictures([idle]: readonly Section[]): readonly Picture[] {
  const goal = { value: memoryMaxMB, label: `goal: at most ${memoryMaxMB} MB` };
  return bars("idle-memory.svg", "Memory of an idle app", "MB", [
    { name: null, bars: barsOf(idle), goal },
  ]);
}

function bars(
  file: string,
  title: string,
  label: string,
  groups: readonly BarGroup[],
): readonly Picture[] {
  if (groups.every((group) => group.bars.length === 0)) return [];
  return [{ file, title, svg: barChart({ title, note: whiskers, label, groups }) }];
}

export function sleepingPictures(sections: readonly Section[]): readonly Picture[] {
  const memory = linesOf(sections, [sleepingTitles.memory, sleepingTitles.rootMemory]);
  const times = linesOf(sections, [
    ...[sleepingTitles.answered, sleepingTitles.deploy, sleepingTitles.wake],
    ...[sleepingTitles.warm, sleepingTitles.list, sleepingTitles.metrics],
  ]);
  return [
    ...(memory.length === 0 ? [] : [memoryBesideSleepers(memory)]),
    ...(times.length === 0 ? [] : [timesBesideSleepers(times)]),
  ];
}

function memoryBesideSleepers(lines: readonly Line[]): Picture {
  const title = "Lode's own memory beside few and many sleeping apps";
  const goal = { value: sleepingMemoryMaxMB, label: `goal: at most ${sleepingMemoryMaxMB} MB` };
  const up = { label: "MB", scale: linearScale(Math.max(goal.value, ...valuesOf(lines, "y"))) };
  const note = "Each dot is the median beside so many.";
  const svg = lineChart({ title, note, across: acrossSleepers(lines), up, lines, goal });
  return { file: "sleeping-memory.svg", title, svg };
}

function timesBesideSleepers(lines: readonly Line[]): Picture {
  const title = "How long things take beside few and many sleeping apps";
  const up = { label: "ms", scale: enclosing(valuesOf(lines, "y")) };
  const note = "Each dot is the median beside so many; what they do not slow down stays level.";
  const svg = lineChart({ title, note, across: acrossSleepers(lines), up, lines });
  return { file: "sleeping-times.svg", title, svg };
}

const acrossSleepers = (lines: readonly Line[]) => ({
  label: "registered apps that sleep",
  scale: enclosing(valuesOf(lines, "x")),
});

const valuesOf = (lines: readonly Line[], axis: "x" | "y") =>
  lines.flatMap(({ points }) => points.map((point) => point[axis]));

const enclosing = (values: readonly number[]) =>
  logarithmicScale(Math.min(...values), Math.max(...values));

function linesOf(sections: readonly Section[], titles: readonly string[]): readonly Line[] {
  return titles.flatMap((title) => {
    const points = measured(titled(sections, title)).flatMap(({ at, samples }) =>
      at === undefined ? [] : [{ x: at, y: median(samples) }],
    );
    return points.length === 0 ? [] : [{ name: plain(title), points }];
  });
}

const titled = (sections: readonly Section[], title: string) =>
  sections.find((section) => section.title === title);

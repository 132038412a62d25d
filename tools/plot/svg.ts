import { textWidth, wrap } from "./layout.ts";

export type Attributes = Readonly<Record<string, string | number>>;

export const width = 760;
export const padding = 20;

/** Font sizes in pixels. */
export const sizes = { title: 16, text: 12.5, small: 11.5 } as const;

interface Theme {
  readonly ground: string;
  /** Colours of text. */
  readonly ink: string;
  readonly muted: string;
  readonly grid: string;
  /** Marks, and text that names them: Lode's, what it is compared with, goals, and lines. */
  readonly marks: Readonly<Record<Mark, string>>;
}

export type Mark = "own" | "other" | "goal" | LineMark;
type LineMark = (typeof lineMarks)[number];

export const lineMarks = ["line0", "line1", "line2", "line3", "line4", "line5"] as const;

/**
 * Lines have the hues that Okabe and Ito chose for eyes that do not see all colours, darker or
 * lighter until text in them can be read on the ground (WCAG 2: a contrast of 4.5).
 */
export const themes: Readonly<Record<"light" | "dark", Theme>> = {
  light: {
    ...{ ground: "#ffffff", ink: "#1f2328", muted: "#59636e", grid: "#d8dee4" },
    marks: {
      ...{ own: "#0a63b0", other: "#6a737d", goal: "#b0173f" },
      ...{ line0: "#0a63b0", line1: "#b34700", line2: "#00755a" },
      ...{ line3: "#a03d77", line4: "#8a6100", line5: "#4f5863" },
    },
  },
  dark: {
    ...{ ground: "#0d1117", ink: "#e6edf3", muted: "#9ba5b0", grid: "#30363d" },
    marks: {
      ...{ own: "#58a6ff", other: "#8b949e", goal: "#ff7b93" },
      ...{ line0: "#58a6ff", line1: "#f0883e", line2: "#3fc79a" },
      ...{ line3: "#e08fc0", line4: "#e0b040", line5: "#a5afba" },
    },
  },
};

/** What a chart draws below its heading, and how high that is. */
export interface Drawing {
  readonly parts: readonly string[];
  readonly height: number;
}

export interface Heading {
  /** Says what is shown. */
  readonly title: string;
  /** How to read it, in a sentence or two. */
  readonly note: string;
}

/**
 * A whole SVG file, on a ground of its own, as light or dark as its reader's system.
 *
 * @param says the picture in words, for who cannot see it
 * @param draw called with the height at which the drawing begins
 */
export function figure(heading: Heading, says: string, draw: (top: number) => Drawing): string {
  const notes = wrap(heading.note, width - 2 * padding, sizes.text);
  const heads = [
    text(padding, 32, heading.title, {
      class: "ink",
      "font-size": sizes.title,
      "font-weight": 600,
    }),
    ...notes.map((line, index) => text(padding, 53 + index * 17, line, { class: "muted" })),
  ];
  const { parts, height } = draw(53 + notes.length * 17);
  const attributes = {
    ...{ xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${width} ${height}`, width, height },
    ...{ role: "img", "aria-labelledby": "title says", fill: "none", "font-size": sizes.text },
    "font-family": "system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif",
  };
  const children = [
    element("title", { id: "title" }, escaped(heading.title)),
    element("desc", { id: "says" }, escaped(says)),
    element("style", {}, style()),
    element("rect", { class: "ground", width, height, rx: 6 }),
    ...heads,
    ...parts,
  ];
  return `${element("svg", attributes, `\n${children.join("\n")}\n`)}\n`;
}

function style(): string {
  const rules = ({ ground, ink, muted, grid, marks }: Theme) => [
    `.ground{fill:${ground}}.ink{fill:${ink}}.muted{fill:${muted}}.grid{stroke:${grid}}`,
    `.axis{stroke:${muted}}.whisker{stroke:${ink}}`,
    // Parts what is written from the lines that it lies on.
    `.over{stroke:${ground};stroke-width:3px;stroke-linejoin:round;paint-order:stroke}`,
    ...Object.entries(marks).map(([name, colour]) => `.${name}{color:${colour}}`),
  ];
  const dark = `@media (prefers-color-scheme:dark){${rules(themes.dark).join("")}}`;
  return `\n${rules(themes.light).join("")}\n${dark}\n`;
}

/** Numbers have a tenth of a pixel; children are markup already. */
export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const written = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${typeof value === "number" ? tenth(value) : escaped(value)}"`,
  );
  const opening = `<${name}${written.join("")}`;
  return children.length === 0 ? `${opening}/>` : `${opening}>${children.join("")}</${name}>`;
}

const tenth = (value: number) => String(Number(value.toFixed(1)));

export function text(x: number, y: number, content: string, attributes: Attributes = {}): string {
  return element("text", { x, y, ...attributes }, escaped(content));
}

/** A straight line. */
export function rule(
  [x1, y1]: readonly [number, number],
  [x2, y2]: readonly [number, number],
  attributes: Attributes,
): string {
  return element("line", { x1, y1, x2, y2, ...attributes });
}

/** Text in the colour of a mark, or lines and dots of it. */
export function marked(mark: Mark, ...parts: string[]): string {
  return element("g", { class: mark }, ...parts);
}

/** What was wanted, to be drawn as a line. */
export interface Goal {
  readonly value: number;
  readonly label: string;
}

/** Upright at its place, named on its right, or on its left where that is too narrow. */
export function goalLine(
  x: number,
  [top, bottom]: readonly [number, number],
  label: string,
  right: number,
): string {
  const fits = x + 5 + textWidth(label, sizes.small) <= right;
  const [at, anchor] = fits ? [x + 5, "start"] : [x - 5, "end"];
  return marked(
    "goal",
    rule([x, top], [x, bottom], { stroke: "currentColor", "stroke-dasharray": "4 3" }),
    text(at, top + 9, label, {
      ...{ fill: "currentColor", class: "over" },
      ...{ "font-size": sizes.small, "text-anchor": anchor },
    }),
  );
}

/** Characters that XML has no place for, even escaped, become question marks. */
export function escaped(content: string): string {
  return content
    .replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "?")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

import { describe, expect, test } from "bun:test";
import { seededRandom } from "../../src/base/virtual.ts";
import { type Bar, barChart } from "./bars.ts";
import { textWidth } from "./layout.ts";
import { lineChart } from "./lines.ts";
import { linearScale, logarithmicScale, ninesScale } from "./scale.ts";
import { stripChart } from "./strips.ts";
import { themes } from "./svg.ts";

type Node = Bun.XML.Node;

const random = seededRandom(5);

const samples = (about: number, count: number) =>
  Array.from({ length: count }, () => about * (0.7 + 0.6 * random.next()));

const bar = (name: string, median: number, own = false): Bar => ({
  ...{ name, own, median, min: median * 0.9, max: median * 1.3 },
});

const counts = [10, 1000, 10_000, 100_000];
const line = (name: string, ys: readonly number[]) => ({
  ...{ name, points: ys.map((y, index) => ({ x: counts[index] ?? 0, y })) },
});
const across = { label: "apps", scale: logarithmicScale(10, 100_000) };

const charts: Readonly<Record<string, string>> = {
  strips: stripChart({
    ...{ title: "Starts", note: "Each dot is a start. ".repeat(9), label: "ms" },
    strips: [
      { name: "bare bun index.ts", own: false, samples: samples(7.5, 50) },
      { name: "Lode, asleep with a sandbox made ahead → first byte", own: true, samples: [5] },
      { name: "docker run --network host", own: false, samples: samples(210, 20) },
    ],
    goal: { value: 200, label: "goal: at most 200 ms" },
  }),
  bars: barChart({
    ...{ title: "CPU", note: "Medians.", label: "µs a request" },
    groups: ["HTTP/1.1", "HTTP/1.1 over TLS"].map((name, index) => ({
      ...{ name, bars: [bar("Lode's gateways", 30, true), bar("nginx", 20), bar("Caddy", 104)] },
      goal: { value: index === 0 ? 20 : 130, label: "goal: at most 1.5 × nginx's" },
    })),
  }),
  "close lines": lineChart({
    ...{ title: "Times", note: "Medians.", across },
    up: { label: "ms", scale: logarithmicScale(0.2, 1911) },
    lines: [
      line("lode up → API answers", [409, 441, 537, 1911]),
      line("deploy", [29, 28, 29.5, 29.5]),
      line("wake", [24.3, 18.6, 20.8, 29.4]),
      line("warm request", [0.23, 0.25, 0.23, 29.3]),
      line("a page of the list", [0.66, 1.24, 1.53, 0.21]),
      line("/metrics", [1.54, 1.35, 2.02, 0.2]),
    ],
  }),
  "a goal at the top": lineChart({
    ...{ title: "Memory", note: "Medians.", across, lines: [line("all", [62, 70, 80, 142])] },
    up: { label: "MB", scale: linearScale(300) },
    goal: { value: 300, label: "goal: at most 300 MB" },
  }),
  "many points and a band": lineChart({
    ...{ title: "Soak", note: "Each second." },
    across: { label: "seconds", scale: linearScale(599) },
    up: { label: "MB", scale: linearScale(130) },
    lines: [
      {
        ...{ name: "gateway 0", band: { from: 120, low: 83, high: 92 } },
        points: [150, 210, 270, 330, 390, 450, 510, 570].map((x) => ({ x, y: 87 })),
        behind: samples(87, 600).map((y, x) => ({ x, y })),
      },
    ],
  }),
  nines: lineChart({
    ...{ title: "Latency", note: "By share." },
    across: { label: "share", scale: ninesScale(0.999) },
    up: { label: "ms", scale: logarithmicScale(1, 900) },
    lines: [{ name: "Lode", points: [0, 0.5, 0.999].map((x) => ({ x, y: 1 + 800 * x })) }],
  }),
};

function all(node: Node, name: string): readonly Node[] {
  return node.children.flatMap((child) => {
    if (typeof child === "string" || !("name" in child)) return [];
    return [...(child.name === name ? [child] : []), ...all(child, name)];
  });
}

const parse = (svg: string) => Bun.XML.parse(svg, { compact: false }) as Node;

/** Where a text stands, by the guess of its width that the layout makes. */
function boxOf({ attributes, children }: Node) {
  const content = children.join("");
  const size = Number(attributes["font-size"] ?? 12.5);
  const width = textWidth(content, size, attributes["font-weight"] === "600" ? "bold" : "regular");
  const parts = { start: 0, middle: 0.5, end: 1 };
  const anchor = (attributes["text-anchor"] ?? "start") as keyof typeof parts;
  const left = Number(attributes.x) + Number(attributes.dx ?? 0) - parts[anchor] * width;
  const base = Number(attributes.y);
  return { content, left, right: left + width, top: base - 0.75 * size, bottom: base + 0.2 * size };
}

describe.each(Object.entries(charts))("%s", (_, svg) => {
  const root = parse(svg);
  const { width, height } = root.attributes;

  test("is XML that says first what it shows, in words too", () => {
    const [title, says] = root.children.filter((child) => typeof child !== "string") as Node[];
    expect([title?.name, says?.name]).toEqual(["title", "desc"]);
    expect(says?.children.join("").length).toBeGreaterThan(40);
    expect(root.attributes["aria-labelledby"]).toBe("title says");
    expect(root.attributes.viewBox).toBe(`0 0 ${width} ${height}`);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  });

  test("has no text on another or beyond the edge", () => {
    const boxes = all(root, "text").map(boxOf);
    expect(boxes.length).toBeGreaterThan(6);
    for (const [index, box] of boxes.entries()) {
      expect({ ...box, inside: box.left >= 0 && box.right <= Number(width) }).toEqual({
        ...{ ...box, inside: true },
      });
      expect(box.bottom).toBeLessThan(Number(height));
      for (const other of boxes.slice(index + 1)) {
        const apart =
          box.right <= other.left ||
          other.right <= box.left ||
          box.bottom <= other.top ||
          other.bottom <= box.top;
        expect(apart ? "" : `"${box.content}" lies on "${other.content}"`).toBe("");
      }
    }
  });

  test("draws nothing outside", () => {
    const places = all(root, "circle").map(({ attributes }) => [attributes.cx, attributes.cy]);
    for (const [x, y] of places) {
      expect(Number(x)).toBeGreaterThan(0);
      expect(Number(x)).toBeLessThan(Number(width));
      expect(Number(y)).toBeGreaterThan(0);
      expect(Number(y)).toBeLessThan(Number(height));
    }
  });
});

test("names may hold what XML means something else by", () => {
  const name = `<b> & "c" \u0000\uffff`;
  const svg = barChart({
    title: name,
    note: name,
    label: name,
    groups: [{ name, bars: [bar(name, 1)] }],
  });
  const root = parse(svg);
  const shown = `<b> & "c" ??`;
  expect(all(root, "title")[0]?.children).toEqual([shown]);
  expect(all(root, "text").filter(({ children }) => children.join("") === shown)).toHaveLength(4);
});

test("a strip has a dot for each sample, at its place on the axis", () => {
  const strips = [{ name: "a", own: true, samples: [1, 10, 100] }];
  const root = parse(stripChart({ title: "t", note: "n", label: "ms", strips }));
  const [one = 0, two = 0, three = 0] = all(root, "circle").map(({ attributes }) =>
    Number(attributes.cx),
  );
  expect(two - one).toBeCloseTo(three - two, 0);
  expect(two - one).toBeGreaterThan(50);
});

test("a bar is as long as its median, beginning at zero", () => {
  const bars = [bar("a", 20), bar("b", 40)];
  const root = parse(
    barChart({ title: "t", note: "n", label: "µs", groups: [{ name: null, bars }] }),
  );
  const [short = 0, long = 0] = all(root, "rect")
    .filter(({ attributes }) => attributes.class === undefined)
    .map(({ attributes }) => Number(attributes.width));
  expect(long / short).toBeCloseTo(2, 2);
});

/** Of two colours by WCAG 2, from 1 to 21. */
function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [one, other].map(luminance).toSorted((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(colour: string): number {
  const parts = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255);
  const [red = 0, green = 0, blue = 0] = parts.map((part) =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

test("text in every colour can be read on a light and on a dark ground", () => {
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21, 6);
  for (const { ground, ink, muted, marks } of Object.values(themes)) {
    for (const colour of [ink, muted, ...Object.values(marks)]) {
      expect({ colour, read: contrast(colour, ground) >= 4.5 }).toEqual({ colour, read: true });
    }
  }
});

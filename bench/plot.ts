/** One line of a plot: values of one contestant. */
export interface Curve {
  readonly name: string;
  readonly values: readonly number[];
}

const width = 720;
const height = 380;
const margin = { left: 64, right: 150, top: 40, bottom: 44 };
const shareMax = 0.999;
const shares = [0, 0.5, 0.9, 0.99, 0.999];
/** Told apart also by who cannot see all colours (Okabe and Ito), on light and dark ground. */
const colours = ["#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"];

/**
 * An SVG of how many values are below what: the share of values from left to right, the nines
 * spread out, and the value, on a logarithmic scale, from bottom to top.
 */
export function quantilePlot(title: string, unit: string, curves: readonly Curve[]): string {
  const sorted = curves.map(({ name, values }) => ({
    name,
    values: values.toSorted((a, b) => a - b),
  }));
  const drawn = sorted.flatMap(({ values }) => [at(values, 0.01), at(values, shareMax)]);
  const lowest = Math.floor(Math.log10(Math.max(1e-3, Math.min(...drawn))));
  const highest = Math.max(lowest + 1, Math.ceil(Math.log10(Math.max(...drawn))));
  const x = (share: number) => {
    const nines = Math.log10(1 - share) / Math.log10(1 - shareMax);
    return margin.left + nines * (width - margin.left - margin.right);
  };
  const y = (value: number) => {
    const part = (Math.log10(Math.max(value, 10 ** lowest)) - lowest) / (highest - lowest);
    return height - margin.bottom - part * (height - margin.top - margin.bottom);
  };
  const parts: string[] = [text(margin.left, 22, title, "start", ' font-weight="bold"')];
  for (let power = lowest; power <= highest; power += 1) {
    parts.push(line(margin.left, y(10 ** power), width - margin.right, y(10 ** power)));
    parts.push(text(margin.left - 8, y(10 ** power) + 4, `${10 ** power} ${unit}`, "end"));
  }
  for (const share of shares) {
    parts.push(line(x(share), margin.top, x(share), height - margin.bottom));
    const label = share === 0 ? "0" : `${+(share * 100).toFixed(1)} %`;
    parts.push(text(x(share), height - margin.bottom + 18, label, "middle"));
  }
  const ends = spread(sorted.map(({ values }) => y(at(values, shareMax))));
  for (const [index, { name, values }] of sorted.entries()) {
    const colour = colours[index % colours.length] as string;
    const points = steps.map(
      (share) => `${x(share).toFixed(1)},${y(at(values, share)).toFixed(1)}`,
    );
    parts.push(`<polyline points="${points.join(" ")}" stroke="${colour}" stroke-width="2"/>`);
    const end = (ends[index] as number) + 4;
    parts.push(text(width - margin.right + 8, end, name, "start", ` fill="${colour}"`));
  }
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} fill="none" font-family="sans-serif" ` +
      'font-size="12">',
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    "</svg>\n",
  ].join("\n");
}

/** The shares that a curve is drawn at, the nines spread out. */
const steps = Array.from({ length: 151 }, (_, step) => 1 - (1 - shareMax) ** (step / 150));

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** Heights of labels, moved apart where they would lie on one another. */
function spread(heights: readonly number[]): readonly number[] {
  const order = heights.map((_, index) => index);
  order.sort((one, other) => (heights[one] as number) - (heights[other] as number));
  const moved = [...heights];
  let least = Number.NEGATIVE_INFINITY;
  for (const index of order) {
    moved[index] = Math.max(least, heights[index] as number);
    least = (moved[index] as number) + 15;
  }
  return moved;
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  const [a, b, c, d] = [x1, y1, x2, y2].map((value) => value.toFixed(1));
  return `<line x1="${a}" y1="${b}" x2="${c}" y2="${d}" stroke="#d8d8d8"/>`;
}

function text(x: number, y: number, content: string, anchor: string, more = ""): string {
  const place = `x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}"`;
  const fill = more.includes("fill=") ? "" : ' fill="#333333"';
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text ${place}${fill}${more}>${escaped}</text>`;
}

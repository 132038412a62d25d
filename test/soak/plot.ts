/** One line of a plot: a value for each second. */
export interface Series {
  readonly name: string;
  readonly values: readonly number[];
}

const width = 860;
const height = 320;
const margin = { left: 64, right: 120, top: 24, bottom: 40 };
const colors = ["#2563eb", "#d97706", "#059669", "#dc2626"];

export interface Band {
  readonly from: number;
  readonly low: number;
  readonly high: number;
}

/**
 * A line plot as SVG; y begins at 0, so that flat looks flat.
 *
 * @param bands each series' allowed range from a second on, drawn behind it.
 */
export function plot(
  title: string,
  unit: string,
  series: readonly Series[],
  bands: readonly Band[],
): string {
  const seconds = Math.max(...series.map(({ values }) => values.length)) - 1;
  const top = 1.15 * Math.max(...series.flatMap(({ values }) => values));
  const x = (second: number) =>
    (margin.left + (second / seconds) * (width - margin.left - margin.right)).toFixed(1);
  const y = (value: number) =>
    (height - margin.bottom - (value / top) * (height - margin.top - margin.bottom)).toFixed(1);
  const color = (index: number) => colors[index % colors.length];
  const text = (at: string, words: string) => `<text ${at}>${words}</text>`;
  const shapes = bands.map(
    ({ from, low, high }, index) =>
      `<rect x="${x(from)}" y="${y(high)}" width="${Number(x(seconds)) - Number(x(from))}" ` +
      `height="${(Number(y(low)) - Number(y(high))).toFixed(1)}" fill="${color(index)}" ` +
      'fill-opacity="0.15"/>',
  );
  for (const [index, { name, values }] of series.entries()) {
    const points = values.map((value, second) => `${x(second)},${y(value)}`).join(" ");
    shapes.push(`<polyline points="${points}" fill="none" stroke="${color(index)}"/>`);
    const last = values.at(-1) ?? 0;
    const at = `x="${Number(x(seconds)) + 8}" y="${y(last)}" fill="${color(index)}"`;
    shapes.push(text(at, `${name}: ${Math.round(last)} ${unit}`));
  }
  for (let tick = 0; tick <= 4; tick += 1) {
    const value = (top * tick) / 4;
    shapes.push(text(`x="${margin.left - 8}" y="${y(value)}" text-anchor="end"`, value.toFixed(0)));
    const second = Math.round((seconds * tick) / 4);
    shapes.push(text(`x="${x(second)}" y="${height - 16}" text-anchor="middle"`, `${second} s`));
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
      'font-family="sans-serif" font-size="11" fill="#666">',
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(`x="${margin.left}" y="16" font-size="13"`, `${title}, ${unit}`),
    ...shapes,
    "</svg>",
    "",
  ].join("\n");
}

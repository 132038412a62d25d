import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Balancing, balancingLines, earlierOf, type Measured } from "./balancing/section.ts";
import { withPart, writePart } from "./page.ts";
import type { Section } from "./report.ts";
import { type Circumstances, keepRun, keptRun, type Place } from "./runs.ts";
import { sleepingTitles } from "./sections/sleeping.ts";
import { cpuTitle, throughputTitle } from "./sections/warm.ts";

const folder = mkdtempSync(join(tmpdir(), "lode-page-"));
afterAll(() => rmSync(folder, { recursive: true }));

const place: Place = {
  ...{ runs: join(folder, "runs"), page: join(folder, "page.md"), plots: join(folder, "plots") },
  says: "page.md",
};

const circumstances: Circumstances = {
  ...{ begunAt: "2030-01-02T03:04:05.678Z", seconds: 61.2, loadBefore: 0.4567 },
  ...{ machine: "2 × Processor, 8 GB; System", versions: ["Lode 1", "Docker 2"] },
};

const section = (title: string, unit: string, rows: Section["rows"]): Section => ({
  ...{ title, method: `How ${title}.`, unit, rows, targets: [] },
});

const run = (...sections: readonly Section[]) => ({ circumstances, data: sections });

const cold = run(
  section("Cold start", "ms", [
    { name: "bare `bun`", samples: [8, 7, 9] },
    { name: "Lode", samples: [16, 14] },
    { name: "workerd", missing: "not there" },
  ]),
);

describe("a part of the page", () => {
  test("says when and with which load it was run, and shows plot, method and table", () => {
    const text = withPart("", "cold", cold);
    expect(text).toContain(
      "\n## Cold start\n\nRun on 2030-01-02 at 03:04 UTC, 61 s; load average 0.46 when it began; " +
        "Lode 1; Docker 2; 2 × Processor, 8 GB; System.\n\n" +
        "![Cold start, to the first byte of the answer](plots/cold-start.svg)\n\n",
    );
    expect(text).toContain(
      "| Lode | 15.0 | 14.0–16.0 | 2 | 1.88× |\n| workerd | — | — | 0 | not there |",
    );
  });

  test("replaces its own earlier text, and nothing else", () => {
    const old = run(section("Old", "ms", []), section("Same", "ms", []));
    const both = withPart(withPart("", "deploy", old), "cold", cold);
    expect(both.indexOf("## Cold start")).toBeLessThan(both.indexOf("## Deploy to serving"));
    const again = withPart(
      both,
      "deploy",
      run(section("New", "ms", []), section("Same", "ms", [])),
    );
    expect(again).toBe(both.replaceAll("Old", "New"));
  });

  test("is written with its plots from the run that is kept, the same each time", async () => {
    expect(await writePart(place, "cold")).toBe(false);
    await keepRun(place, "cold", cold);
    expect(keptRun(place, "cold")?.data).toEqual(cold.data);
    expect(await writePart(place, "cold")).toBe(true);
    const read = () =>
      [place.page, join(place.plots, "cold-start.svg")].map((file) => readFileSync(file, "utf8"));
    const first = read();
    expect(await writePart(place, "cold")).toBe(true);
    expect(read()).toEqual(first);
  });
});

/** What each picture draws, by the names in it. */
async function pictures(part: Parameters<typeof writePart>[1], kept: typeof cold | object) {
  rmSync(place.plots, { recursive: true, force: true });
  await keepRun(place, part, kept as typeof cold);
  await writePart(place, part);
  const files = existsSync(place.plots) ? readdirSync(place.plots).sort() : [];
  return Object.fromEntries(
    files.map((file) => [file, readFileSync(join(place.plots, file), "utf8")]),
  );
}

describe("plots", () => {
  test("of warm requests: CPU by protocol with its goal, and throughput", async () => {
    const cpu = (protocol: string) =>
      section(cpuTitle(protocol), "µs", [
        { name: "Lode's gateways", samples: [30] },
        { name: "nginx 1.22.1", samples: [20] },
      ]);
    const drawn = await pictures(
      "warm",
      run(
        ...[cpu("HTTP/1.1"), cpu("HTTP/2")],
        section(throughputTitle, "requests/s", [{ name: "direct", samples: [90_000] }]),
      ),
    );
    expect(Object.keys(drawn)).toEqual(["warm-cpu.svg", "warm-throughput.svg"]);
    expect(drawn["warm-cpu.svg"]).toContain("goal: at most 1 × nginx's");
    expect(drawn["warm-cpu.svg"]).toContain("goal: at most 1.5 × nginx's");
    expect(drawn["warm-throughput.svg"]).toContain(">90,000<");
  });

  test("of sleeping apps: a line each over their number, memory apart from times", async () => {
    const rows = (values: readonly number[]) =>
      values.map((value, index) => ({ name: `${index}`, samples: [value], at: 10 ** (index + 1) }));
    const drawn = await pictures(
      "sleeping",
      run(
        section(sleepingTitles.memory, "MB", rows([60, 62, 140])),
        section(sleepingTitles.answered, "ms", rows([400, 450, 1900])),
        section("not drawn", "ms", rows([1, 1, 1])),
      ),
    );
    expect(Object.keys(drawn)).toEqual(["sleeping-memory.svg", "sleeping-times.svg"]);
    expect(drawn["sleeping-memory.svg"]).toContain("goal: at most 300 MB");
    expect(drawn["sleeping-times.svg"]).toContain(">lode up → API answers: 1,900<");
    expect(drawn["sleeping-times.svg"]).not.toContain("not drawn");
  });

  test("there are none of what was not measured", async () => {
    const nothing = section("Deploy", "ms", [{ name: "Docker", missing: "not there" }]);
    expect(await pictures("deploy", run(nothing))).toEqual({});
    expect(await pictures("warm", run())).toEqual({});
  });
});

describe("balancing", () => {
  const measured = (name: string, p99: number, failed = 0): Measured => ({
    ...{ name, cheapMs: [...Array(98).fill(1), p99, p99], dearMs: [500], lastMs: 50_000, failed },
    ...{ imbalance: 1.02, utilisation: 0.79 },
  });
  const found = (lode: Measured): Balancing => ({
    setting: {
      ...{ instances: 10, coresEach: 0.1, cheapMs: 0.5, dearMs: 50, requestsPerSecond: 708 },
      ...{ seconds: 50, seed: 7, load: 0.8 },
    },
    ...{ lode, oracle: measured("oracle", 15), peers: [measured("nginx", 400)] },
    ...{ costs: "CLASS", earlier: [] },
  });

  test("tells of requests that were lost, and of nothing when none was", () => {
    expect(balancingLines(found(measured("Lode", 12))).join("\n")).not.toContain(
      "without an answer",
    );
    expect(balancingLines(found(measured("Lode", 12, 2))).join("\n")).toContain(
      "Requests without an answer, which are in no latency: 2 of 103 in the turn of Lode.",
    );
  });

  test("tells of all earlier runs, whether they met the goals or not", () => {
    const first = earlierOf({ circumstances, data: found(measured("Lode", 12)) });
    const data = { ...found(measured("Lode", 90, 1)), earlier: first };
    const lines = balancingLines({ ...data, earlier: earlierOf({ circumstances, data }) });
    const from = lines.findIndex((line) => line.startsWith("| begun"));
    expect(lines.slice(from, from + 4)).toEqual([
      "| begun (UTC) | load average | s | Lode p99 ms | oracle p99 ms | nginx p99 ms | max/mean CPU | failed | goals |",
      "|---|---:|---:|---:|---:|---:|---:|---:|---|",
      "| 2030-01-02 03:04 | 0.46 | 50 | 12.0 | 15.0 | 400 | 1.020 | 0 | all met |",
      "| 2030-01-02 03:04 | 0.46 | 50 | 90.0 | 15.0 | 400 | 1.020 | 1 | **not all met** |",
    ]);
  });

  test("draws a curve for each contestant", async () => {
    const drawn = await pictures("balancing", { circumstances, data: found(measured("Lode", 12)) });
    expect(drawn["balancing.svg"]).toContain(">nginx: 400<");
  });
});

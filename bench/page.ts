import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { parsePage, renderPage, withSection } from "../tools/page.ts";
import { type Balancing, balancingLines, balancingPictures } from "./balancing/section.ts";
import {
  coldPictures,
  deployPictures,
  memoryPictures,
  type Picture,
  sleepingPictures,
  thawPictures,
  warmPictures,
} from "./pictures.ts";
import { renderSection, type Section } from "./report.ts";
import { inWords, keptRun, type Place, type Run } from "./runs.ts";

const head = `# Benchmarks

Written by \`npm run bench\`, which starts Lode and its peers on one machine, side by side, and
takes medians; each part says when and beside which load it was run (the average of the minute
before, to which an earlier part of the same run may belong). A ratio compares with the first row
of its table. Every peer runs the same program, \`examples/hello\`, unless said otherwise.`;

/** A part of the page: what one question of the benchmark has found. */
interface Part {
  readonly title: string;
  readonly lines: (data: unknown) => readonly string[];
  readonly pictures: (data: unknown) => readonly Picture[];
}

export type PartName = keyof typeof parts;

/** In the page's order. What is kept of a run is what the part's question gave. */
const parts = {
  cold: ofSections("Cold start", coldPictures),
  thaw: ofSections("Thaw", thawPictures),
  ready: ofSections("Memory of a sandbox made ahead"),
  deploy: ofSections("Deploy to serving", deployPictures),
  warm: ofSections("Warm requests", warmPictures),
  idle: ofSections("Lode at rest"),
  memory: ofSections("Idle apps", memoryPictures),
  sleeping: ofSections("Sleeping apps", sleepingPictures),
  balancing: {
    title: "Balancing by cost",
    lines: (data) => balancingLines(data as Balancing),
    pictures: (data) => balancingPictures(data as Balancing),
  } satisfies Part,
} as const;

export const partNames = Object.keys(parts) as PartName[];

function ofSections(
  title: string,
  pictures: (sections: readonly Section[]) => readonly Picture[] = () => [],
): Part {
  return {
    title,
    lines: (data) => {
      const sections = data as readonly Section[];
      // One alone is what the part is called after.
      const heading = (section: Section) =>
        sections.length > 1 ? [`### ${section.title}`, ""] : [];
      return sections.flatMap((section) => [...heading(section), ...renderSection(section), ""]);
    },
    pictures: (data) => pictures(data as readonly Section[]),
  };
}

/** Writes a part of the page and its plots from the run that is kept; false: there is none. */
export async function writePart(place: Place, name: PartName): Promise<boolean> {
  const run = keptRun(place, name);
  if (run === null) return false;
  const part: Part = parts[name];
  mkdirSync(place.plots, { recursive: true });
  for (const { file, svg } of part.pictures(run.data)) {
    await Bun.write(join(place.plots, file), svg);
  }
  const text = existsSync(place.page) ? await Bun.file(place.page).text() : "";
  await Bun.write(place.page, withPart(text, name, run));
  return true;
}

/** The page with this run's part in place of an earlier run's, and the others as they were. */
export function withPart(text: string, name: PartName, run: Run): string {
  const part: Part = parts[name];
  const pictures = part
    .pictures(run.data)
    .flatMap(({ file, title }) => [`![${title}](plots/${file})`, ""]);
  const lines = [inWords(run.circumstances), "", ...pictures, ...part.lines(run.data)];
  const page = withSection({ ...parsePage(text), head }, part.title, lines);
  return renderPage(
    page,
    partNames.map((each) => parts[each].title),
  );
}

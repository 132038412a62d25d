import { existsSync } from "node:fs";
import { join } from "node:path";
import { parsePage, renderPage, withSection } from "../../tools/page.ts";
import { repository } from "./cloud.ts";

const file = join(repository, "docs/GATEWAY-PROOF.md");

const opening = `# Proof of the gateway

Written by \`npm run proof:fuzz\` and \`npm run proof:soak\`, each its own section.
`;

/** Puts a section into docs/GATEWAY-PROOF.md in the place of the one with the same title. */
export async function writeSection(title: string, lines: readonly string[]): Promise<void> {
  const text = existsSync(file) ? await Bun.file(file).text() : opening;
  const page = withSection(parsePage(text), title, lines);
  await Bun.write(file, renderPage(page, [...page.sections.keys()].sort()));
}

// Writes docs/lode.schema.json from the table of keys of lode.toml (src/model/config/keys.ts).
// A test compares the two; run this when it fails: tools/bun tools/schema.ts

import { join } from "node:path";
import { lodeTomlSchema } from "../src/model/config/schema.ts";

export const schemaFile = join(import.meta.dir, "../docs/lode.schema.json");

export function schemaText(): string {
  return `${JSON.stringify(lodeTomlSchema, null, 2)}\n`;
}

if (import.meta.main) await Bun.write(schemaFile, schemaText());

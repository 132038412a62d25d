import { expect, test } from "bun:test";
import { schemaFile, schemaText } from "./schema.ts";

test("docs/lode.schema.json is what the table of keys says", async () => {
  const published: unknown = await Bun.file(schemaFile).json();
  expect(published).toEqual(JSON.parse(schemaText()));
});

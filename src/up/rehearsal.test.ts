import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "../fabric/system.ts";
import { rehearse } from "./rehearsal.ts";

test("every request is answered, also those that wake the app, and nothing is left", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lode-rehearsal-"));
  const rehearsed = await rehearse(systemClock, systemRandom, 6, folder);
  expect(rehearsed).toEqual({ requests: 12, wakes: 3 });
  expect(readdirSync(folder)).toEqual([]);
  rmdirSync(folder);
});

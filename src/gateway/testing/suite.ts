import { afterAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Rig, startRig } from "./harness.ts";

/**
 * A rig for all tests of a file; closed after them, when nothing unexpected may have come up.
 *
 * @param behind ends what is behind the gateway, which must outlive it
 */
export async function sharedRig(
  apps: Parameters<typeof startRig>[0],
  options: Parameters<typeof startRig>[1] = {},
  behind: readonly (() => unknown)[] = [],
): Promise<Rig> {
  const rig = await startRig(apps, options);
  afterAll(async () => {
    expect(rig.problems).toEqual([]);
    await rig.close();
    for (const end of behind) await end();
  });
  return rig;
}

/** A folder of the tests' own, gone after them. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "lode-gateway-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

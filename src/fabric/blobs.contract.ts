import { afterEach, describe, test } from "bun:test";
import { type BlobsFixture, blobsCases } from "./contract/blobs-case.ts";

/** Checks the rules of `blobs.SPEC.md` on one implementation; `open` gives an empty store. */
export function blobsContract(name: string, open: () => Promise<BlobsFixture>): void {
  const opened: BlobsFixture[] = [];
  afterEach(async () => {
    for (const fixture of opened.splice(0)) await fixture.dispose();
  });
  describe(`blobs contract: ${name}`, () => {
    for (const { name, run } of blobsCases) {
      test(name, async () => {
        const fixture = await open();
        opened.push(fixture);
        await run(fixture);
      });
    }
  });
}

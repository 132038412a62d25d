import { afterEach, describe, test } from "bun:test";
import { type WireFixture, wireCases } from "./contract/wire-case.ts";

/** Checks the rules of `wire.SPEC.md` on one implementation; `open` gives a wire of its own. */
export function wireContract(name: string, open: () => Promise<WireFixture>): void {
  const opened: WireFixture[] = [];
  afterEach(async () => {
    for (const fixture of opened.splice(0)) await fixture.dispose();
  });
  describe(`wire contract: ${name}`, () => {
    for (const { name, run } of wireCases) {
      test(name, async () => {
        const fixture = await open();
        opened.push(fixture);
        await run(fixture);
      });
    }
  });
}

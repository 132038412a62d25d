import { afterAll, expect } from "bun:test";
import { Cloud } from "./cloud.ts";
import { patienceMs } from "./pace.ts";

/** A cloud for all tests of a file; taken down after them, when it may leave nothing behind. */
export async function sharedCloud(options: Parameters<typeof Cloud.start>[0] = {}): Promise<Cloud> {
  const cloud = await Cloud.start(options);
  afterAll(async () => {
    expect(await cloud.stop()).toEqual([]);
  }, patienceMs(60_000));
  return cloud;
}

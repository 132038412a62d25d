import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { blobsContract } from "../blobs.contract.ts";
import { systemClock } from "../system.ts";
import { createMemoryBlobs } from "./blobs.ts";

blobsContract("memory", async () => {
  const directory = mkdtempSync(join(tmpdir(), "lode-blobs-"));
  return {
    blobs: createMemoryBlobs({ clock: systemClock }),
    directory,
    leftovers: async () => [],
    dispose: async () => rmSync(directory, { recursive: true }),
  };
});

import { test } from "bun:test";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const isRoot = process.getuid?.() === 0;

/** A test given the path of a file system of its own with 2 MiB; skipped when not root. */
export function onSmallDisk(name: string, run: (disk: string) => Promise<void>): void {
  test.skipIf(!isRoot)(name, async () => {
    const disk = mkdtempSync(join(tmpdir(), "lode-disk-"));
    command("mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", disk);
    try {
      await run(disk);
    } finally {
      // Lazily: what the test left open is closed after it.
      command("umount", "--lazy", disk);
      rmdirSync(disk);
    }
  });
}

function command(...argv: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(argv);
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
}

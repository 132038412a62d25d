/**
 * Gives the disk space of a file's first `bytes` back; its length and all offsets stay. False
 * where the file system has no holes (ext4, xfs, btrfs and tmpfs have), the file is gone, or the
 * machine has no room for one more process.
 *
 * A process of its own does it: the kernel waits for the pages that are being written, which in a
 * flood takes 60 ms and more, and meanwhile this one has others to serve.
 */
export async function freeHead(path: string, bytes: number): Promise<boolean> {
  const punch = ["fallocate", "--punch-hole", "--offset", "0", "--length", String(bytes), path];
  try {
    const child = Bun.spawn(punch, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    return (await child.exited) === 0;
  } catch {
    return false;
  }
}

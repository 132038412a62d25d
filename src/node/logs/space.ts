/** Joins each cgroup that still exists, then runs the rest before whatever else is in there. */
const script =
  'count=$1; shift; while [ "$count" -gt 0 ]; do { echo 0 > "$1"; } 2> /dev/null; ' +
  'shift; count=$((count - 1)); done; exec nice -n -20 "$@"';

/**
 * Gives the disk space of a file's first `bytes` back; its length and all offsets stay. False
 * where the file system has no holes (ext4, xfs, btrfs and tmpfs have), the file is gone, or the
 * machine has no room for one more process.
 *
 * A process of its own does it: the kernel waits for the pages that are being written, which in a
 * flood takes 60 ms and more, and meanwhile this one has others to serve. It works in the cgroups
 * whose `cgroup.procs` are given: cutting is as much work as a sixth of the writing, and whoever
 * floods pays for it, where it is allowed to run.
 */
export async function freeHead(
  path: string,
  bytes: number,
  runPaths: readonly string[],
): Promise<boolean> {
  const punch = ["fallocate", "--punch-hole", "--offset", "0", "--length", String(bytes), path];
  const argv = ["sh", "-c", script, "cut", String(runPaths.length), ...runPaths, ...punch];
  try {
    const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    return (await child.exited) === 0;
  } catch {
    return false;
  }
}

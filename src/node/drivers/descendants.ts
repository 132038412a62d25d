import { readParentPid } from "../linux/identity.ts";

/** Those of `pids` that `ancestor` started, or what it started did. */
export function descendants(pids: readonly number[], ancestor: number): number[] {
  const parents = new Map(pids.map((pid) => [pid, readParentPid(pid)]));
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid) ?? null;
    return parent !== null && (parent === ancestor || isBelow(parent));
  };
  return pids.filter(isBelow);
}

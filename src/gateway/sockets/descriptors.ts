import { assert } from "../../base/assert.ts";
import { calls } from "./system-calls.ts";

const duplicateClosedOnExec = 1030;

/** Another descriptor of the same socket, so that it outlives the close of the first. */
export function duplicate(descriptor: number): number {
  const made = calls.fcntl(descriptor, duplicateClosedOnExec, 0);
  assert(made >= 0, `descriptor ${descriptor} can be duplicated`);
  return made;
}

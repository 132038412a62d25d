import { dlopen } from "bun:ffi";
import { assert } from "../../base/assert.ts";

const library = dlopen("libc.so.6", {
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
});
const duplicateClosedOnExec = 1030;

/** Another descriptor of the same socket, so that it outlives the close of the first. */
export function duplicate(descriptor: number): number {
  const made = library.symbols.fcntl(descriptor, duplicateClosedOnExec, 0);
  assert(made >= 0, `descriptor ${descriptor} can be duplicated`);
  return made;
}

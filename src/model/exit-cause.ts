import { unreachable } from "../base/assert.ts";
import { formatBytes } from "../base/units.ts";
import type { ExitCause } from "./instance.ts";

/** An exit cause as the end of a sentence: "exit code 1", "signal SIGSEGV". */
export function describeCause(cause: ExitCause): string {
  switch (cause.kind) {
    case "exit":
      return `exit code ${cause.code}`;
    case "signal":
      return `signal ${cause.signal}`;
    case "out-of-memory":
      return cause.limitBytes === null
        ? "out of memory"
        : `out of memory (limit ${formatBytes(cause.limitBytes)})`;
    case "launch":
    case "unhealthy":
      return cause.reason;
    case "unknown":
      return "an end that nobody saw";
    default:
      return unreachable(cause);
  }
}

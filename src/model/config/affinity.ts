import { err, ok, type Result } from "../../base/result.ts";
import type { Affinity } from "../release.ts";

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;
const segmentMax = 32;
const forms = '"header:NAME", "cookie:NAME", "path:N" or "query:NAME"';

/** Reads `header:x-room`, `cookie:sid`, `path:2`, `query:room`. */
export function parseAffinity(text: string): Result<Affinity, string> {
  const at = text.indexOf(":");
  const kind = text.slice(0, Math.max(0, at));
  const name = text.slice(at + 1);
  switch (kind) {
    case "header":
      if (token.test(name)) return ok({ kind, name: name.toLowerCase() });
      return err(`"${name}" is not the name of a header field`);
    case "cookie":
      return token.test(name) ? ok({ kind, name }) : err(`"${name}" is not a cookie's name`);
    case "query":
      if (/^[^\p{Cc}]{1,128}$/u.test(name)) return ok({ kind, name });
      return err(`"${name}" is not the name of a query parameter`);
    case "path": {
      const index = /^[1-9]\d?$/.test(name) ? Number(name) : 0;
      if (index >= 1 && index <= segmentMax) return ok({ kind, index });
      return err(`"${name}" is not a segment of the path; count from 1 to ${segmentMax}`);
    }
    default:
      return err(`"${text}" says not where a request's key stands; write ${forms}`);
  }
}

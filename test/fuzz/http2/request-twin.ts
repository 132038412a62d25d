// What becomes of a request of HTTP/2, by its header fields: the gateway's rules once more, over
// the whole list at once (RFC 9113 8.2 and 8.3, and what HTTP/1.1 would read more into).

import { hostNamed, pretended } from "../twin.ts";
import type { Field } from "./hpack-twin.ts";

export const headerLimits = { bytesMax: 61_440, fieldsMax: 105 };
const startLineBytesMax = 8192;

export interface Forwarded {
  readonly kind: "forward";
  readonly method: string;
  readonly target: string;
  readonly authority: string;
  readonly host: string;
  /** As the app must get them, in order. */
  readonly fields: readonly Field[];
  /** -1: the client does not say. */
  readonly length: number;
  readonly upgrade: boolean;
  readonly acceptsTrailers: boolean;
}

export type Verdict =
  | Forwarded
  /** RST_STREAM with PROTOCOL_ERROR. */
  | { readonly kind: "malformed" }
  | { readonly kind: "page"; readonly status: number };

const malformed: Verdict = { kind: "malformed" };
const page = (status: number): Verdict => ({ kind: "page", status });

const goodName = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
const goodMethod = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const badValue = /[\0-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$/;
const ofConnection =
  /^(?:connection|transfer-encoding|upgrade|keep-alive|proxy-connection|http2-settings)$/;
const own = /^(?:host|content-length|te|expect|trailer|cookie)$/;
const pseudoNames = [":method", ":scheme", ":authority", ":path", ":protocol"];

export function overflows(fields: readonly Field[]): boolean {
  const bytes = fields.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  return bytes > headerLimits.bytesMax || fields.length > headerLimits.fieldsMax;
}

const isMalformed = ([name, value]: Field) =>
  !goodName.test(name) ||
  badValue.test(value) ||
  ofConnection.test(name) ||
  (name === "te" && value !== "trailers");

/** What one field alone makes of the request; null: nothing. */
function fieldVerdict(field: Field): Verdict | null {
  const [name, value] = field;
  if (isMalformed(field)) return malformed;
  if (/^(?:content[-_]length|transfer[-_]encoding)$/.test(name) && name.includes("_")) {
    return page(400);
  }
  return name === "expect" && value.toLowerCase() !== "100-continue" ? page(417) : null;
}

/** The first fault in the order of the fields; what may come once must not come twice. */
function listVerdict(fields: readonly Field[]): Verdict | null {
  const seen = new Map<string, string>();
  let isRegular = false;
  for (const field of fields) {
    const [name, value] = field;
    if (name.startsWith(":")) {
      if (isRegular || seen.has(name) || !pseudoNames.includes(name)) return malformed;
      seen.set(name, value);
      continue;
    }
    isRegular = true;
    const verdict = fieldVerdict(field);
    if (verdict !== null) return verdict;
    if (name === "host" && seen.has(name)) return malformed;
    if (name === "content-length" && (seen.get(name) ?? value) !== value) return malformed;
    seen.set(name, value);
  }
  return null;
}

export function verdictOf(fields: readonly Field[], ended: boolean): Verdict {
  if (overflows(fields)) return page(431);
  const fault = listVerdict(fields);
  if (fault !== null) return fault;
  const find = (name: string) => fields.find(([other]) => other === name)?.[1];
  const [method, protocol] = [find(":method"), find(":protocol")];
  const upgrade = method === "CONNECT";
  if (upgrade && protocol === undefined) return page(405);
  if (!upgrade && protocol !== undefined) return malformed;
  if (upgrade && protocol !== "websocket") return page(501);
  const target = find(":path") ?? "";
  if (method === undefined || target === "" || find(":scheme") === undefined) return malformed;
  const verb = upgrade ? "GET" : method;
  if (!goodMethod.test(verb)) return page(400);
  if (!/^(?:\/[\x21\x22\x24-\x7e\x80-\xff]*|\*)$/.test(target)) return page(400);
  if (target === "*" && verb !== "OPTIONS") return page(400);
  // The same bound as HTTP/1.1's, for the line that goes to the app.
  if (`${verb} ${target} HTTP/1.1`.length > startLineBytesMax) return page(414);
  const named = find("host");
  const authority = find(":authority") ?? named ?? "";
  if (named !== undefined && named.toLowerCase() !== authority.toLowerCase()) return page(400);
  const host = hostNamed(authority);
  if (host === null) return page(400);
  const given = find("content-length");
  if (given !== undefined && !/^[0-9]{1,15}$/.test(given)) return malformed;
  const length = given === undefined ? -1 : Number(given);
  if (ended && length > 0) return malformed;
  if (upgrade && length > 0) return page(400);
  if (host === "lost.test") return page(404);
  if (host !== "app.test") return page(421);
  const acceptsTrailers = find("te") !== undefined;
  const passed = passedOn(fields, authority, upgrade ? -1 : length, ended || upgrade);
  const rest = { fields: passed, length, upgrade, acceptsTrailers };
  return { kind: "forward", method: verb, target, authority, host, ...rest };
}

/** The app's fields, without those that the gateway adds at the end. */
function passedOn(
  fields: readonly Field[],
  authority: string,
  length: number,
  isBodiless: boolean,
): Field[] {
  const kept = fields.filter(
    ([name]) => !name.startsWith(":") && !own.test(name) && !pretended(name),
  );
  const crumbs = fields.filter(([name]) => name === "cookie").map(([, value]) => value);
  const cookie = crumbs.reduce((all, crumb) => (all === "" ? crumb : `${all}; ${crumb}`), "");
  const passed: Field[] = [["host", authority], ...kept];
  if (cookie !== "") passed.push(["cookie", cookie.trimEnd()]);
  if (length >= 0) passed.push(["content-length", `${length}`]);
  else if (!isBodiless) passed.push(["transfer-encoding", "chunked"]);
  return passed;
}

const trailersOnly =
  /^(?:host|content-length|te|expect|trailer|forwarded|x[-_]request[-_]id|x[-_]real[-_]ip|proxy|x[-_]forwarded[-_].+|authorization|cookie|set-cookie|content-type|content-encoding|content-range|proxy-authorization|endpoint-load-metrics(?:-json|-bin)?|orca-load-metrics)$/;

/** Whether these may be a request's trailers. */
export const areTrailers = (fields: readonly Field[]): boolean =>
  fields.every((field) => fieldVerdict(field) === null && !trailersOnly.test(field[0]));

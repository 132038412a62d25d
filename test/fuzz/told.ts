// What a back end says in its answer of the request that it saw, against what was meant.

import { createHash } from "node:crypto";

/** Methods whose bodies `Bun.serve` reads, but does not show. */
export const bodyHidden = /^(?:GET|HEAD|TRACE)$/;

interface Told {
  readonly method: string;
  readonly url: string;
  readonly length: number;
  readonly hash: string;
}

/** A request as it was meant; bytes are characters. */
export interface Meant {
  readonly method: string;
  readonly target: string;
  readonly body: string;
}

const hashOf = (body: string) =>
  createHash("sha1").update(Buffer.from(body, "latin1")).digest("hex").slice(0, 12);

/** A URL as `Bun.serve` shows it. */
function asUrl(target: string): string | null {
  try {
    const bytes = Buffer.from(target, "latin1").toString("utf8");
    return new URL(`http://a${bytes.startsWith("/") ? bytes : `/${bytes}`}`).pathname;
  } catch {
    return null;
  }
}

/** Null: a back end saw this. @param seen what it said of what it saw. */
export function toldFault(meant: Meant, seen: string): string | null {
  const told = JSON.parse(Buffer.from(seen, "base64url").toString()) as Told;
  if (told.method !== meant.method) return `it saw the method ${told.method}`;
  const isHidden = told.url.startsWith("http://") && bodyHidden.test(told.method);
  if (!isHidden || told.length > 0) {
    if (told.length !== meant.body.length) return `it saw a body of ${told.length} bytes`;
    if (told.hash !== hashOf(meant.body)) return "it saw another body";
  }
  if (told.url === meant.target) return null;
  // Bun shows whole, tidied URLs; what makes none is not compared.
  const wanted = asUrl(meant.target);
  const isTidied = told.url.startsWith("http://") && (wanted === null || told.url.includes(wanted));
  const isEncoded = /[\x80-\xff]/.test(meant.target) || meant.target.startsWith("//");
  return isTidied || isEncoded ? null : `it saw the target ${told.url}`;
}

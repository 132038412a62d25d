import type { Affinity } from "../../model/release.ts";

/** One instance that keys can belong to. */
export interface Member {
  /** `hashText` of its id. */
  readonly seed: number;
  /** Its share of the keys, relative to the others'; above 0. */
  readonly weight: number;
}

/** What a request shows of itself, in the words both HTTP versions share. */
export interface KeyedRequest {
  /** Lowercase, without port. */
  readonly host: string;
  /** Path and query. */
  readonly target: string;
  /** The values of the fields with this lowercase name, in order. */
  fields(name: string): readonly string[];
}

/** The request's key; null: it has none, so any instance will do. */
export function affinityKeyOf(affinity: Affinity, request: KeyedRequest): string | null {
  const key = foundKey(affinity, request);
  return key === "" ? null : key;
}

function foundKey(affinity: Affinity, request: KeyedRequest): string | null {
  switch (affinity.kind) {
    case "header":
      if (affinity.name === "host") return request.host;
      return request.fields(affinity.name)[0] ?? null;
    case "cookie":
      for (const field of request.fields("cookie")) {
        const value = pairValue(field, ";", affinity.name, (text) => text.trim());
        if (value !== null) return value;
      }
      return null;
    case "path": {
      const path = cut(request.target, "?")[0];
      return decoded(path.split("/", affinity.index + 1)[affinity.index] ?? "");
    }
    case "query":
      return pairValue(cut(request.target, "?")[1], "&", affinity.name, (text) =>
        decoded(text.replaceAll("+", " ")),
      );
  }
}

/** The first `name=value` of a list. */
function pairValue(
  text: string,
  separator: string,
  name: string,
  read: (text: string) => string,
): string | null {
  for (const pair of text.split(separator)) {
    const [left, value] = cut(pair, "=");
    if (read(left) === name) return read(value);
  }
  return null;
}

function cut(text: string, separator: string): readonly [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** Without percent signs, where they can be read: `%41` and `A` are one key. */
function decoded(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** 32 bits: FNV-1a, finished by the mix of MurmurHash3. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return mixed(hash);
}

function mixed(bits: number): number {
  let hash = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Which member a key belongs to, by weighted rendezvous hashing (Thaler & Ravishankar 1998;
 * weights by Schindelhauer & Schomaker 2005): each member draws −ln(u)/weight with u from key and
 * member alone, and the least draw wins. So all gateways agree without a word, a member that
 * goes gives up its own keys only, and one that comes takes its share from each of the others.
 *
 * @param key `hashText` of the key.
 * @returns null: there is no member.
 */
export function ownerOf<Each extends Member>(key: number, members: Iterable<Each>): Each | null {
  let owner: Each | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const member of members) {
    const draw = mixed(Math.imul(key, 0x9e3779b1) ^ mixed(key ^ member.seed));
    const score = -Math.log((draw + 0.5) / 2 ** 32) / member.weight;
    if (score < least || (score === least && owner !== null && member.seed < owner.seed)) {
      owner = member;
      least = score;
    }
  }
  return owner;
}

import { err, ok, type Result } from "../../base/result.ts";

/** IPv4 addresses as unsigned 32-bit numbers. */
export interface Range {
  readonly base: number;
  readonly prefix: number;
}

/**
 * One cloud's /20 is cut into four /22, one per bridge: a bridge has at most 1023 ports.
 * A slot's index counts addresses from the /20's base.
 */
export const subnetPrefix = 20;
export const bridgePrefix = 22;
export const bridgeCount = 4;
export const addressesPerBridge = 1024;
/** Offsets in a /22: 0 is the network, 1 the bridge, 2 and 3 further name servers. */
export const firstSlotOffset = 8;
export const lastSlotOffset = 1022;
export const nameServersMax = 3;

export function formatAddress(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

export function formatRange(range: Range): string {
  return `${formatAddress(range.base)}/${range.prefix}`;
}

/** The link address that belongs to an address: locally administered, and the four bytes. */
export function linkAddress(address: number): string {
  return [0x02, 0x10, ...[24, 16, 8, 0].map((shift) => (address >>> shift) & 255)]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join(":");
}

/** Dotted decimal only: no octal, no hexadecimal, no short forms. */
export function parseAddress(text: string): number | null {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part))) return null;
  const numbers = parts.map(Number);
  if (numbers.some((number) => number > 255)) return null;
  return numbers.reduce((address, number) => address * 256 + number, 0);
}

/** `10.0.0.0/8` or a single address. The error says what is wrong. */
export function parseRange(text: string): Result<Range, string> {
  const [address = "", prefixText = "32", ...rest] = text.split("/");
  const base = parseAddress(address);
  const prefix = /^\d{1,2}$/.test(prefixText) ? Number(prefixText) : 33;
  if (base === null || prefix > 32 || rest.length > 0) {
    return err(`"${text}" is not an IPv4 range; write it like 10.1.0.0/16`);
  }
  return ok({ base: base - (base % sizeOf(prefix)), prefix });
}

export function overlaps(one: Range, other: Range): boolean {
  return one.base < other.base + sizeOf(other.prefix) && other.base < one.base + sizeOf(one.prefix);
}

/**
 * A /20 of 10.0.0.0/8 that overlaps none of `taken`. The search begins at a place given by
 * the cloud's name, so that clouds started at one moment seldom want the same.
 */
export function chooseSubnet(cloud: string, taken: readonly Range[]): Result<Range, string> {
  const ten = 10 * 2 ** 24;
  const size = sizeOf(subnetPrefix);
  const count = 2 ** 24 / size;
  const start = hash(cloud) % count;
  for (let step = 0; step < count; step++) {
    const base = ten + ((start + step) % count) * size;
    const candidate = { base, prefix: subnetPrefix };
    if (!taken.some((range) => overlaps(candidate, range))) return ok(candidate);
  }
  return err("no free /20 is left in 10.0.0.0/8: this machine's routes cover all of it");
}

/** FNV-1a, 32 bits. */
export function hash(text: string): number {
  let value = 0x811c_9dc5;
  for (const character of text) {
    value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x0100_0193) >>> 0;
  }
  return value;
}

function sizeOf(prefix: number): number {
  return 2 ** (32 - prefix);
}

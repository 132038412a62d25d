import { ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import { attempt, libc, type SystemError } from "./libc.ts";

export interface ListenOptions {
  /** IPv4 or IPv6 address; `::` takes IPv6 only, so both families may listen side by side. */
  readonly host: string;
  /** 0: a free one; `listeningPort` tells which. */
  readonly port: number;
  readonly backlog: number;
  /** Several sockets share the port and the kernel spreads connections over them. */
  readonly reusePort: boolean;
}

const familyIpv4 = 2;
const familyIpv6 = 10;
const levelSocket = 1;
const levelIpv6 = 41;
const optionReuseAddress = 2;
const optionReusePort = 15;
const optionIpv6Only = 26;

/**
 * A listening TCP socket, non-blocking and close-on-exec, to be passed on to a gateway.
 * Errors say what to do about the port.
 */
export function listenTcp(options: ListenOptions): Result<number, string> {
  const address = socketAddress(options.host, options.port);
  if (address === null) {
    return err(`cannot listen on "${options.host}": not an IPv4 or IPv6 address`);
  }
  const streamNonBlockingCloseOnExec = 1 | 0x800 | 0x8_0000;
  const created = attempt("socket", libc.socket(address.family, streamNonBlockingCloseOnExec, 0));
  if (!created.ok) return err(listenMessage(options, created.error));
  const descriptor = created.value;
  const listening = bindAndListen(descriptor, address, options);
  if (listening.ok) return ok(descriptor);
  closeSync(descriptor);
  return err(listenMessage(options, listening.error));
}

/** The port of a listening socket. */
export function listeningPort(descriptor: number): number {
  const address = new Uint8Array(28);
  const length = new Uint32Array([address.length]);
  const got = attempt("getsockname", libc.getsockname(descriptor, ptr(address), ptr(length)));
  if (!got.ok) throw new Error(`port of descriptor ${descriptor}: ${got.error.code}`);
  return new DataView(address.buffer).getUint16(2, false);
}

function bindAndListen(
  descriptor: number,
  address: SocketAddress,
  options: ListenOptions,
): Result<number, SystemError> {
  const flags: (readonly [level: number, option: number])[] = [[levelSocket, optionReuseAddress]];
  if (options.reusePort) flags.push([levelSocket, optionReusePort]);
  if (address.family === familyIpv6) flags.push([levelIpv6, optionIpv6Only]);
  const on = new Int32Array([1]);
  for (const [level, option] of flags) {
    const set = attempt("setsockopt", libc.setsockopt(descriptor, level, option, ptr(on), 4));
    if (!set.ok) return set;
  }
  const { bytes } = address;
  const bound = attempt("bind", libc.bind(descriptor, ptr(bytes), bytes.length));
  return bound.ok ? attempt("listen", libc.listen(descriptor, options.backlog)) : bound;
}

interface SocketAddress {
  readonly family: number;
  /** `struct sockaddr_in` or `sockaddr_in6`. */
  readonly bytes: Uint8Array;
}

function socketAddress(host: string, port: number): SocketAddress | null {
  const ipv4 = parseIpv4(host);
  const ipv6 = ipv4 === null ? parseIpv6(host) : null;
  if (ipv4 === null && ipv6 === null) return null;
  const family = ipv4 === null ? familyIpv6 : familyIpv4;
  const bytes = new Uint8Array(ipv4 === null ? 28 : 16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, family, true);
  view.setUint16(2, port, false);
  bytes.set(ipv4 ?? ipv6 ?? [], ipv4 === null ? 8 : 4);
  return { family, bytes };
}

function parseIpv4(text: string): number[] | null {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part))) return null;
  const numbers = parts.map(Number);
  return numbers.every((number) => number <= 255) ? numbers : null;
}

/** The full forms and one `::`; no zone, no dotted tail. */
function parseIpv6(text: string): number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head = [], tail = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  if (![...head, ...tail].every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...Array<string>(missing).fill("0"), ...tail];
  return groups.flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function listenMessage(options: ListenOptions, error: SystemError): string {
  const where = `cannot listen on ${options.host} port ${options.port}`;
  switch (error.code) {
    case "EADDRINUSE":
      return `${where}: another program has it; choose another port or stop that program`;
    case "EACCES":
      return `${where}: ports below 1024 need root (or CAP_NET_BIND_SERVICE)`;
    case "EADDRNOTAVAIL":
      return `${where}: this machine has no such address`;
    default:
      return `${where}: ${error.call} failed with ${error.code}`;
  }
}

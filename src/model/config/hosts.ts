import { err, ok, type Result } from "../../base/result.ts";

/** A host name as certificates and Host headers have it: lowercase, dots, no port. */
export function parseHostName(text: string): Result<string, string> {
  const host = text.toLowerCase().replace(/\.$/, "");
  const labels = host.split(".");
  const valid = labels.every((label) => /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(label));
  if (valid && host.length <= 253 && !/^[\d.]+$/.test(host)) return ok(host);
  return err(`"${text.slice(0, 300)}" is not a host name; write it like www.example.org`);
}

/** An IPv4 or IPv6 network: `10.20.0.0/16`, `fd00::/8`; a bare address is one host. */
export function parseCidr(text: string): Result<string, string> {
  const [address = "", prefix, ...rest] = text.trim().split("/");
  const bits = isIpv4(address) ? 32 : isIpv6(address) ? 128 : 0;
  const length = prefix === undefined ? bits : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1;
  if (bits > 0 && rest.length === 0 && length >= 0 && length <= bits) {
    return ok(`${address.toLowerCase()}/${length}`);
  }
  return err(`"${text.slice(0, 100)}" is not a network; write it like 10.20.0.0/16 or fd00::/8`);
}

function isIpv4(address: string): boolean {
  const parts = address.split(".");
  return (
    parts.length === 4 && parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && +part < 256)
  );
}

function isIpv6(address: string): boolean {
  const halves = address.split("::");
  if (!/^[0-9a-f:]+$/i.test(address) || halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === "" ? [] : half.split(":")));
  const full = halves.length === 1 ? groups.length === 8 : groups.length < 8;
  return full && groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group));
}

import type { Endpoint } from "../../model/instance.ts";
import { calls, FixedBytes } from "./system-calls.ts";

/** <sys/socket.h> */
export const family = { unix: 1, inet: 2, inet6: 10 } as const;

/** Of sockaddr_un, the largest. */
const addressBytes = 110;
const pathOffset = 2;
/** Of sockaddr_in and sockaddr_in6. */
const inet = { offset: 4, length: 16 } as const;
const inet6 = { offset: 8, length: 28 } as const;
const textBytes = 46;

const text = new FixedBytes(textBytes);

/** A socket's address in the kernel's form, in memory that is used again for the next. */
export class SocketAddress {
  readonly bytes = new FixedBytes(addressBytes);
  family: number = family.unix;
  length = 0;

  /** False: it is none. */
  set(endpoint: Endpoint): boolean {
    this.bytes.buffer.fill(0);
    return endpoint.kind === "unix"
      ? this.setPath(endpoint.path)
      : this.setHost(endpoint.host, endpoint.port);
  }

  private setPath(path: string): boolean {
    const length = Buffer.byteLength(path);
    // The kernel wants a byte after it.
    if (pathOffset + length >= addressBytes) return false;
    this.family = family.unix;
    this.bytes.buffer.writeUInt16LE(family.unix, 0);
    this.bytes.buffer.write(path, pathOffset);
    this.length = pathOffset + length + 1;
    return true;
  }

  private setHost(host: string, port: number): boolean {
    const isOld = !host.includes(":");
    const { offset, length } = isOld ? inet : inet6;
    this.family = isOld ? family.inet : family.inet6;
    this.length = length;
    this.bytes.buffer.writeUInt16LE(this.family, 0);
    this.bytes.buffer.writeUInt16BE(port, 2);
    const written = text.buffer.write(`${host}\0`, "latin1");
    if (written !== host.length + 1) return false;
    return calls.inet_pton(this.family, text.address, this.bytes.address + offset) === 1;
  }

  /** An Internet address as text (RFC 5952), as the kernel has put it in; undefined: none. */
  read(): string | undefined {
    const kind = this.bytes.buffer.readUInt16LE(0);
    if (kind !== family.inet && kind !== family.inet6) return undefined;
    const { offset } = kind === family.inet ? inet : inet6;
    calls.inet_ntop(kind, this.bytes.address + offset, text.address, textBytes);
    return text.buffer.toString("latin1", 0, text.buffer.indexOf(0));
  }
}

// nghttp2's HPACK by its C interface: the implementation behind curl, Node and Apache, which
// shares no line with the gateway's. The library comes with Debian's nghttp2-client.

import { dlopen, FFIType, type Pointer, ptr, read, toArrayBuffer } from "bun:ffi";
import type { Field } from "./hpack-twin.ts";

const { i32, u64, ptr: pointer } = FFIType;

const library = dlopen("libnghttp2.so.14", {
  nghttp2_hd_inflate_new: { args: [pointer], returns: i32 },
  nghttp2_hd_inflate_del: { args: [pointer], returns: FFIType.void },
  nghttp2_hd_inflate_hd2: { args: [pointer, pointer, pointer, pointer, u64, i32], returns: u64 },
  nghttp2_hd_inflate_end_headers: { args: [pointer], returns: i32 },
  nghttp2_hd_deflate_new: { args: [pointer, u64], returns: i32 },
  nghttp2_hd_deflate_del: { args: [pointer], returns: FFIType.void },
  nghttp2_hd_deflate_change_table_size: { args: [pointer, u64], returns: i32 },
  nghttp2_hd_deflate_hd: { args: [pointer, pointer, u64, pointer, u64], returns: u64 },
  nghttp2_hd_deflate_bound: { args: [pointer, pointer, u64], returns: u64 },
}).symbols;

const inflateFlag = { final: 1, emit: 2 };
/** struct nghttp2_nv: name, value, namelen, valuelen, flags. */
const fieldBytes = 40;

function made(make: (out: Pointer) => number): Pointer {
  const out = new BigUint64Array(1);
  if (make(ptr(out)) !== 0) throw new Error("nghttp2 has no memory");
  return Number(out[0]) as Pointer;
}

function textAt(address: number, length: number): string {
  if (length === 0) return "";
  return Buffer.from(toArrayBuffer(address as Pointer, 0, length)).toString("latin1");
}

/** Reads the header blocks of one direction of a connection. */
export class Inflater {
  private readonly handle = made((out) => library.nghttp2_hd_inflate_new(out));
  private readonly field = new Uint8Array(fieldBytes);
  private readonly flags = new Int32Array(1);

  /** Null: malformed, and the connection with it. */
  read(block: Buffer): readonly Field[] | null {
    const fields: Field[] = [];
    // An address is needed also of nothing.
    const bytes = Buffer.concat([block, Buffer.alloc(1)]);
    let at = 0;
    for (;;) {
      this.flags[0] = 0;
      const from = (ptr(bytes) + at) as Pointer;
      const room = BigInt(block.length - at);
      const taken = Number(
        BigInt.asIntN(
          64,
          BigInt(
            library.nghttp2_hd_inflate_hd2(
              this.handle,
              ptr(this.field),
              ptr(this.flags),
              from,
              room,
              1,
            ),
          ),
        ),
      );
      if (taken < 0) return null;
      at += taken;
      const flags = this.flags[0] as number;
      if ((flags & inflateFlag.emit) !== 0) fields.push(this.emitted());
      if ((flags & inflateFlag.final) !== 0) break;
      if (flags === 0 && at === block.length) break;
    }
    library.nghttp2_hd_inflate_end_headers(this.handle);
    return fields;
  }

  private emitted(): Field {
    const at = ptr(this.field);
    const [name, value] = [Number(read.u64(at, 0)), Number(read.u64(at, 8))];
    const [nameLength, valueLength] = [Number(read.u64(at, 16)), Number(read.u64(at, 24))];
    return [textAt(name, nameLength), textAt(value, valueLength)];
  }

  free(): void {
    library.nghttp2_hd_inflate_del(this.handle);
  }
}

/** Writes them. */
export class Deflater {
  private readonly handle = made((out) => library.nghttp2_hd_deflate_new(out, 4096n));

  /** @param bytesMax of its table, from the next block on. */
  resize(bytesMax: number): void {
    library.nghttp2_hd_deflate_change_table_size(this.handle, BigInt(bytesMax));
  }

  write(fields: readonly Field[]): Buffer {
    // All texts in one piece, so that one address holds them all.
    const texts = Buffer.from(`${fields.map(([name, value]) => name + value).join("")} `, "latin1");
    const list = Buffer.alloc(fieldBytes * Math.max(1, fields.length));
    let at = ptr(texts) as number;
    for (const [index, [name, value]] of fields.entries()) {
      const own = index * fieldBytes;
      list.writeBigUInt64LE(BigInt(at), own);
      list.writeBigUInt64LE(BigInt(at + name.length), own + 8);
      list.writeBigUInt64LE(BigInt(name.length), own + 16);
      list.writeBigUInt64LE(BigInt(value.length), own + 24);
      at += name.length + value.length;
    }
    const count = BigInt(fields.length);
    const bound = library.nghttp2_hd_deflate_bound(this.handle, ptr(list), count);
    const out = Buffer.alloc(Number(bound) + 1);
    const length = Number(
      BigInt.asIntN(
        64,
        BigInt(
          library.nghttp2_hd_deflate_hd(
            this.handle,
            ptr(out),
            BigInt(out.length),
            ptr(list),
            count,
          ),
        ),
      ),
    );
    if (length < 0) throw new Error(`nghttp2 cannot write this: ${length}`);
    return out.subarray(0, length);
  }

  free(): void {
    library.nghttp2_hd_deflate_del(this.handle);
  }
}

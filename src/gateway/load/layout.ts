import { err, ok, type Result } from "../../base/result.ts";

/**
 * The load table: who has how much in flight, shared by the gateways of a machine.
 *
 *   page 0                 header: four 32-bit numbers
 *   page 1 + row·stride …  one row a gateway: four 32-bit numbers per column
 *
 *   column                 requests in flight │ CPU-µs of all that began │ of all that ended
 *                          │ dear ones in flight
 *
 * The sums wrap; their differences are exact.
 *
 * A column belongs to one instance while it exists; control gives it out. A row is written by
 * one gateway only, so plain stores suffice. Rows begin on pages of their own, and the file is
 * sparse: only pages of columns in use take memory.
 */
export interface LoadLayout {
  readonly rows: number;
  readonly columns: number;
}

/** Instances a machine's gateways can tell apart: 16 MiB of address space a row. */
export const loadColumnsMax = 2 ** 20;
export const loadRowsMax = 256;

export const pageBytes = 4096;
const magic = 0x4c6f6465;
const version = 2;

/** 32-bit numbers of a column. */
export const columnCells = 4;

export function rowBytes(layout: LoadLayout): number {
  return Math.ceil((layout.columns * columnCells * 4) / pageBytes) * pageBytes;
}

/** Offset of a row's first byte. */
export function rowOffset(layout: LoadLayout, row: number): number {
  return pageBytes + row * rowBytes(layout);
}

export function tableBytes(layout: LoadLayout): number {
  return rowOffset(layout, layout.rows);
}

export function encodeHeader(layout: LoadLayout): Uint8Array {
  const header = new Uint32Array([magic, version, layout.rows, layout.columns]);
  return new Uint8Array(header.buffer);
}

export const headerBytes = 16;

export function decodeHeader(bytes: Uint8Array): Result<LoadLayout, string> {
  if (bytes.byteLength < headerBytes) return err("it is too short to have a header");
  const [seenMagic, seenVersion, rows, columns] = new Uint32Array(
    bytes.slice(0, headerBytes).buffer,
  ) as unknown as [number, number, number, number];
  if (seenMagic !== magic) return err("it is not a load table");
  if (seenVersion !== version) return err(`its version is ${seenVersion}, not ${version}`);
  if (rows < 1 || rows > loadRowsMax) return err(`it has ${rows} rows, not 1 to ${loadRowsMax}`);
  if (columns < 1 || columns > loadColumnsMax) {
    return err(`it has ${columns} columns, not 1 to ${loadColumnsMax}`);
  }
  return ok({ rows, columns });
}

import { closeSync, ftruncateSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  decodeHeader,
  encodeHeader,
  headerBytes,
  type LoadLayout,
  loadColumnsMax,
  loadRowsMax,
  rowBytes,
  rowOffset,
  tableBytes,
} from "./layout.ts";

export interface LoadTable {
  /** Adds to this gateway's own number; a column out of range is not counted. */
  add(column: number, difference: 1 | -1): void;
  /** Requests in flight from all gateways. */
  total(column: number): number;
}

/**
 * Makes the table if there is none that fits. One that fits is kept: live gateways have it
 * mapped, and truncating a mapped file kills its readers.
 *
 * @param mode of the file; gateways need to read and write it.
 */
export function createLoadTable(path: string, rows: number, mode = 0o600): Result<void, string> {
  if (rows < 1 || rows > loadRowsMax) {
    return err(`cannot make the load table ${path} with ${rows} rows: use 1 to ${loadRowsMax}`);
  }
  const present = readLayout(path);
  if (present.ok && present.value.rows >= rows) return ok(undefined);
  const layout: LoadLayout = { rows, columns: loadColumnsMax };
  const fresh = `${path}.new`;
  try {
    const descriptor = openSync(fresh, "w", mode);
    ftruncateSync(descriptor, tableBytes(layout));
    writeSync(descriptor, encodeHeader(layout));
    closeSync(descriptor);
    renameSync(fresh, path);
  } catch (error) {
    return err(`cannot make the load table ${path}: ${messageOf(error)}`);
  }
  return ok(undefined);
}

/** Maps the table for the gateway that owns `row`, whose numbers begin at 0 again. */
export function openLoadTable(path: string, row: number): Result<LoadTable, string> {
  const layout = readLayout(path);
  if (!layout.ok) return err(`cannot open the load table ${path}: ${layout.error}`);
  if (row < 0 || row >= layout.value.rows) {
    return err(`the load table ${path} has rows 0 to ${layout.value.rows - 1}, not ${row}`);
  }
  try {
    clearRow(path, layout.value, row);
    const bytes = Bun.mmap(path, { shared: true });
    return ok(new MappedTable(new Int32Array(bytes.buffer), layout.value, row));
  } catch (error) {
    return err(`cannot map the load table ${path}: ${messageOf(error)}`);
  }
}

class MappedTable implements LoadTable {
  private readonly cells: Int32Array;
  private readonly layout: LoadLayout;
  private readonly own: number;
  private readonly first: number;
  private readonly stride: number;

  constructor(cells: Int32Array, layout: LoadLayout, row: number) {
    this.cells = cells;
    this.layout = layout;
    this.own = rowOffset(layout, row) / 4;
    this.first = rowOffset(layout, 0) / 4;
    this.stride = rowBytes(layout) / 4;
    assert(
      cells.length * 4 >= tableBytes(layout),
      "the load table is shorter than its header says",
    );
  }

  add(column: number, difference: 1 | -1): void {
    if (column < 0 || column >= this.layout.columns) return;
    const cell = this.own + column;
    this.cells[cell] = (this.cells[cell] as number) + difference;
  }

  total(column: number): number {
    if (column < 0 || column >= this.layout.columns) return 0;
    let total = 0;
    for (let row = 0; row < this.layout.rows; row += 1) {
      total += this.cells[this.first + row * this.stride + column] as number;
    }
    return total;
  }
}

function readLayout(path: string): Result<LoadLayout, string> {
  try {
    const descriptor = openSync(path, "r");
    const header = new Uint8Array(headerBytes);
    const length = readSync(descriptor, header, 0, headerBytes, 0);
    closeSync(descriptor);
    return decodeHeader(header.subarray(0, length));
  } catch (error) {
    return err(messageOf(error));
  }
}

/** A dead gateway's numbers go; only pages that hold some are touched, so holes stay holes. */
function clearRow(path: string, layout: LoadLayout, row: number): void {
  const descriptor = openSync(path, "r+");
  const block = new Uint8Array(4096);
  const zeros = new Uint8Array(4096);
  const end = rowOffset(layout, row + 1);
  for (let offset = rowOffset(layout, row); offset < end; offset += block.length) {
    const length = readSync(descriptor, block, 0, block.length, offset);
    if (block.subarray(0, length).some((byte) => byte !== 0)) {
      writeSync(descriptor, zeros, 0, length, offset);
    }
  }
  closeSync(descriptor);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from "node:fs";
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  columnCells,
  decodeHeader,
  encodeHeader,
  headerBytes,
  type LoadLayout,
  loadColumnsMax,
  loadRowsMax,
  pageBytes,
  rowBytes,
  rowOffset,
  tableBytes,
} from "./layout.ts";

/** What all gateways together have on one instance. */
export interface ColumnLoad {
  /** Requests in flight. */
  count: number;
  /** Sums of the costs of all requests that ever began and ended, in CPU-µs; they wrap. */
  beganUs: number;
  endedUs: number;
  /** Of those in flight, the dear ones. */
  dear: number;
}

export interface LoadTable {
  /** A request of this gateway begins or ends; a column out of range is not counted. */
  begin(column: number, costUs: number, isDear: boolean): void;
  end(column: number, costUs: number, isDear: boolean): void;
  /** Reads all gateways' numbers into `load`. */
  read(column: number, load: ColumnLoad): void;
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
    return ok(new MappedTable(openSync(path, "r+"), layout.value, row));
  } catch (error) {
    return err(`cannot map the load table ${path}: ${messageOf(error)}`);
  }
}

/** Columns of a part; 64 KiB of a row. */
const partColumns = 4096;
const partBytes = partColumns * columnCells * 4;

/**
 * The table, mapped part by part as columns come into use: the collector takes what is mapped for
 * memory that its next run might free, and puts that run off for as long as the whole is large.
 */
class MappedTable implements LoadTable {
  /** By part of the columns: the rows' cells. */
  private readonly parts: (readonly Int32Array[] | undefined)[] = [];
  private readonly descriptor: number;
  private readonly layout: LoadLayout;
  private readonly row: number;

  /** @throws when nothing can be mapped. */
  constructor(descriptor: number, layout: LoadLayout, row: number) {
    this.descriptor = descriptor;
    this.layout = layout;
    this.row = row;
    assert(
      fstatSync(descriptor).size >= tableBytes(layout),
      "the load table is shorter than its header says",
    );
    this.partOf(0);
  }

  begin(column: number, costUs: number, isDear: boolean): void {
    this.add(column, 1, 1, costUs, isDear);
  }

  end(column: number, costUs: number, isDear: boolean): void {
    this.add(column, -1, 2, costUs, isDear);
  }

  private add(
    column: number,
    difference: 1 | -1,
    sum: 1 | 2,
    costUs: number,
    isDear: boolean,
  ): void {
    if (column < 0 || column >= this.layout.columns) return;
    const cells = this.partOf(column)[this.row] as Int32Array;
    const cell = (column % partColumns) * columnCells;
    cells[cell] = (cells[cell] as number) + difference;
    cells[cell + sum] = ((cells[cell + sum] as number) + costUs) | 0;
    if (isDear) cells[cell + 3] = (cells[cell + 3] as number) + difference;
  }

  read(column: number, load: ColumnLoad): void {
    load.count = 0;
    load.beganUs = 0;
    load.endedUs = 0;
    load.dear = 0;
    if (column < 0 || column >= this.layout.columns) return;
    const cell = (column % partColumns) * columnCells;
    for (const cells of this.partOf(column)) {
      load.count += cells[cell] as number;
      load.beganUs = (load.beganUs + (cells[cell + 1] as number)) | 0;
      load.endedUs = (load.endedUs + (cells[cell + 2] as number)) | 0;
      load.dear += cells[cell + 3] as number;
    }
  }

  private partOf(column: number): readonly Int32Array[] {
    const index = Math.floor(column / partColumns);
    const known = this.parts[index];
    if (known !== undefined) return known;
    const bytesLeft = rowBytes(this.layout) - index * partBytes;
    const part = Array.from({ length: this.layout.rows }, (_, row) => {
      const offset = rowOffset(this.layout, row) + index * partBytes;
      const size = Math.min(partBytes, bytesLeft);
      // By descriptor: at the path may be another table by now.
      const bytes = Bun.mmap(`/proc/self/fd/${this.descriptor}`, { shared: true, offset, size });
      return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    });
    this.parts[index] = part;
    return part;
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

const blockBytes = 256 * pageBytes;

/** A dead gateway's numbers go; only pages that hold some are touched, so holes stay holes. */
function clearRow(path: string, layout: LoadLayout, row: number): void {
  const descriptor = openSync(path, "r+");
  const block = Buffer.alloc(blockBytes);
  const zeros = Buffer.alloc(blockBytes);
  const end = rowOffset(layout, row + 1);
  for (let offset = rowOffset(layout, row); offset < end; offset += blockBytes) {
    const length = readSync(descriptor, block, 0, Math.min(blockBytes, end - offset), offset);
    for (let page = 0; page < length; page += pageBytes) {
      const pageEnd = Math.min(length, page + pageBytes);
      if (block.compare(zeros, page, pageEnd, page, pageEnd) === 0) continue;
      writeSync(descriptor, zeros, page, pageEnd - page, offset + page);
    }
  }
  closeSync(descriptor);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

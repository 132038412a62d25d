import { closeSync, fstatSync, openSync, renameSync, write, writeSync } from "node:fs";
import { join } from "node:path";
import type { Clock, Timer } from "../../base/time.ts";
import { LineWriter, lineBytesMax } from "./lines.ts";
import type { AccessRecord } from "./record.ts";

export interface AccessLog {
  write(record: AccessRecord): void;
  /** Lines lost because the disk was slow or failed. */
  readonly dropped: number;
  /** Memory set aside for lines. */
  readonly heldBytes: number;
  /** Settles once every line kept is written. */
  close(): Promise<void>;
}

export const noAccessLog: AccessLog = { write() {}, dropped: 0, heldBytes: 0, async close() {} };

interface AccessLogOptions {
  readonly fileBytesMax: number;
  readonly filesMax: number;
  readonly bufferBytesMax: number;
  readonly flushMs: number;
}

/**
 * JSON lines in `access-<id>.log` under a directory. Lines are gathered and written some times
 * a second; a file that is full becomes `.1`, that one `.2`, and the last goes.
 */
export function openAccessLog(
  directory: string,
  id: string,
  clock: Clock,
  options: AccessLogOptions,
): AccessLog {
  return new FileLog(join(directory, `access-${id}.log`), clock, options);
}

const bufferBytesAtFirst = 64 * 1024;

class FileLog implements AccessLog {
  dropped = 0;
  private readonly path: string;
  private readonly clock: Clock;
  private readonly options: AccessLogOptions;
  private readonly lines = new LineWriter();
  private readonly firstBytes: number;
  private descriptor: number | null = null;
  private fileBytes = 0;
  /** Lines as bytes at once: strings kept for a while would be the collector's to move. */
  private buffer: Buffer;
  private used = 0;
  /** The buffer being written, and one that waits its turn. */
  private written: Buffer | null = null;
  private spare: Buffer | null = null;
  private timer: Timer | null = null;
  private writing = false;
  private closed = false;
  private onFinished: () => void = () => {};
  private droppedReported = 0;

  constructor(path: string, clock: Clock, options: AccessLogOptions) {
    this.path = path;
    this.clock = clock;
    this.options = options;
    this.firstBytes = Math.min(bufferBytesAtFirst, options.bufferBytesMax);
    this.buffer = Buffer.allocUnsafe(this.firstBytes);
  }

  get heldBytes(): number {
    const { buffer, written, spare } = this;
    return buffer.length + (written?.length ?? 0) + (spare?.length ?? 0);
  }

  write(record: AccessRecord): void {
    if (this.closed || !this.makeRoom(lineBytesMax(record))) {
      this.dropped += 1;
      return;
    }
    this.used = this.lines.write(record, this.buffer, this.used);
    this.flushLater();
  }

  private flushLater(): void {
    this.timer ??= this.clock.after(this.options.flushMs, () => {
      this.timer = null;
      this.flush();
    });
  }

  /** False: there is none, because the disk is slow. */
  private makeRoom(bytes: number): boolean {
    const needed = this.used + bytes;
    if (needed <= this.buffer.length) return true;
    if (needed > this.options.bufferBytesMax) return false;
    const grown = Buffer.allocUnsafe(
      Math.min(this.options.bufferBytesMax, Math.max(needed, this.buffer.length * 2)),
    );
    this.buffer.copy(grown, 0, 0, this.used);
    this.buffer = grown;
    return true;
  }

  close(): Promise<void> {
    this.timer?.cancel();
    this.timer = null;
    this.closed = true;
    return new Promise((resolve) => {
      this.onFinished = resolve;
      // A write under way ends with the rest and closes the file itself.
      if (!this.writing) this.finish();
    });
  }

  private finish(): void {
    try {
      const bytes = this.takeLines();
      if (bytes !== null) writeSync(this.openFor(bytes.length), bytes);
      if (this.descriptor !== null) closeSync(this.descriptor);
    } catch {
      this.dropped += 1;
    }
    this.descriptor = null;
    this.onFinished();
  }

  /** One write at a time, on another thread: a slow disk delays no request. */
  private flush(): void {
    if (this.writing) return;
    const bytes = this.takeLines();
    if (bytes === null) return;
    try {
      this.writing = true;
      this.writeFrom(this.openFor(bytes.length), bytes, 0);
    } catch {
      this.settle(bytes, true);
    }
  }

  private writeFrom(descriptor: number, bytes: Buffer, offset: number): void {
    write(descriptor, bytes, offset, bytes.length - offset, null, (error, written) => {
      if (error !== null) return this.settle(bytes, true);
      this.fileBytes += written;
      if (offset + written < bytes.length) this.writeFrom(descriptor, bytes, offset + written);
      else this.settle(bytes, false);
    });
  }

  /** A full or failing disk costs log lines, never requests. */
  private settle(bytes: Buffer, failed: boolean): void {
    this.writing = false;
    if (failed) this.dropped += bytes.toString().split("\n").length - 1;
    this.spare = this.written;
    this.written = null;
    if (this.closed) this.finish();
    // At once would be a write, and two threads woken, for every few lines.
    else if (this.used > 0) this.flushLater();
    else this.rest();
  }

  /** No line came while the last ones were written: what a load needed is given back. */
  private rest(): void {
    const { firstBytes, spare } = this;
    this.lines.release();
    if (this.buffer.length > firstBytes) this.buffer = Buffer.allocUnsafe(firstBytes);
    if (spare !== null && spare.length > firstBytes) this.spare = null;
  }

  private takeLines(): Buffer | null {
    if (this.used === 0) return null;
    if (this.dropped > this.droppedReported) {
      const lost = this.dropped - this.droppedReported;
      const line = `${JSON.stringify({ at: this.clock.now(), droppedLines: lost })}\n`;
      if (this.makeRoom(line.length)) {
        this.used += this.buffer.write(line, this.used, "latin1");
        this.droppedReported = this.dropped;
      }
    }
    const bytes = this.buffer.subarray(0, this.used);
    this.written = this.buffer;
    this.buffer = this.spare ?? Buffer.allocUnsafe(this.buffer.length);
    this.spare = null;
    this.used = 0;
    return bytes;
  }

  private openFor(bytesToCome: number): number {
    this.rotate(bytesToCome);
    this.descriptor ??= this.open();
    return this.descriptor;
  }

  private open(): number {
    const descriptor = openSync(this.path, "a", 0o640);
    this.fileBytes = fstatSync(descriptor).size;
    return descriptor;
  }

  private rotate(bytesToCome: number): void {
    this.descriptor ??= this.open();
    if (this.fileBytes === 0 || this.fileBytes + bytesToCome <= this.options.fileBytesMax) return;
    closeSync(this.descriptor);
    this.descriptor = null;
    for (let number = this.options.filesMax - 1; number >= 1; number -= 1) {
      const older = number === 1 ? this.path : `${this.path}.${number - 1}`;
      try {
        renameSync(older, `${this.path}.${number}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
  }
}

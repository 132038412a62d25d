import { closeSync, fstatSync, openSync, renameSync, write, writeSync } from "node:fs";
import { join } from "node:path";
import type { Clock, Timer, Timestamp } from "../../base/time.ts";

/** One request, as the access log tells it. */
export interface AccessRecord {
  readonly at: Timestamp;
  readonly requestId: string;
  /** `project/app`, or null when no app was found. */
  readonly app: string | null;
  readonly instance: string | null;
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly status: number;
  /** Bytes of the bodies. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly durationMs: number;
  /** From the request being sent to the instance to its answer's first byte; null: never. */
  readonly upstreamMs: number | null;
  /** How long it was held for an instance; 0: not at all. */
  readonly wakeMs: number;
  readonly client: string;
  readonly protocol: string;
  readonly userAgent: string | null;
}

export interface AccessLog {
  write(record: AccessRecord): void;
  /** Lines lost because the disk was slow or failed. */
  readonly dropped: number;
  /** Settles once every line kept is written. */
  close(): Promise<void>;
}

export const noAccessLog: AccessLog = { write() {}, dropped: 0, async close() {} };

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

class FileLog implements AccessLog {
  dropped = 0;
  private readonly path: string;
  private readonly clock: Clock;
  private readonly options: AccessLogOptions;
  private descriptor: number | null = null;
  private fileBytes = 0;
  private lines = "";
  private timer: Timer | null = null;
  private writing = false;
  private closed = false;
  private onFinished: () => void = () => {};
  private droppedReported = 0;

  constructor(path: string, clock: Clock, options: AccessLogOptions) {
    this.path = path;
    this.clock = clock;
    this.options = options;
  }

  write(record: AccessRecord): void {
    if (this.closed || this.lines.length > this.options.bufferBytesMax) {
      this.dropped += 1;
      return;
    }
    this.lines += lineOf(record);
    this.timer ??= this.clock.after(this.options.flushMs, () => {
      this.timer = null;
      this.flush();
    });
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
      this.settle(bytes);
    }
  }

  private writeFrom(descriptor: number, bytes: Buffer, offset: number): void {
    write(descriptor, bytes, offset, bytes.length - offset, null, (error, written) => {
      if (error !== null) return this.settle(bytes);
      this.fileBytes += written;
      if (offset + written < bytes.length) this.writeFrom(descriptor, bytes, offset + written);
      else this.settle(null);
    });
  }

  /** A full or failing disk costs log lines, never requests. */
  private settle(lost: Buffer | null): void {
    this.writing = false;
    if (lost !== null) this.dropped += lost.toString().split("\n").length - 1;
    if (this.closed) this.finish();
    else if (this.lines !== "") this.flush();
  }

  private takeLines(): Buffer | null {
    if (this.lines === "") return null;
    if (this.dropped > this.droppedReported) {
      const lost = this.dropped - this.droppedReported;
      this.lines += `${JSON.stringify({ at: this.clock.now(), droppedLines: lost })}\n`;
      this.droppedReported = this.dropped;
    }
    const bytes = Buffer.from(this.lines);
    this.lines = "";
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

/** The same as JSON.stringify, in a third of its time: this runs once a request. */
function lineOf(record: AccessRecord): string {
  const { app, instance, userAgent, host, path, method } = record;
  return (
    `{"at":${record.at},"requestId":"${record.requestId}","app":${quoteOrNull(app)},` +
    `"instance":${quoteOrNull(instance)},"method":${quote(method)},"host":${quote(host)},` +
    `"path":${quote(path)},"status":${record.status},"bytesIn":${record.bytesIn},` +
    `"bytesOut":${record.bytesOut},"durationMs":${record.durationMs},` +
    `"upstreamMs":${record.upstreamMs},"wakeMs":${record.wakeMs},"client":"${record.client}",` +
    `"protocol":"${record.protocol}","userAgent":${quoteOrNull(userAgent)}}\n`
  );
}

const plain = /^[ !#-[\]-~]*$/;

function quote(text: string): string {
  return plain.test(text) ? `"${text}"` : JSON.stringify(text);
}

function quoteOrNull(text: string | null): string {
  return text === null ? "null" : quote(text);
}

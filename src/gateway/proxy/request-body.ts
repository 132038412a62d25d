import { ChunkedDecoder } from "./chunked.ts";
import type { ChunkFault } from "./faults.ts";
import type { ParserPool } from "./head-reader.ts";
import type { RequestFacts } from "./request.ts";

/** Who the body is passed on to. */
export interface BodySink {
  sendBody(buffer: Buffer, start: number, end: number, last: boolean): void;
}

type Framed = Pick<RequestFacts, "framing" | "contentLength">;

export const noBody: Framed = { framing: "none", contentLength: 0 };

const emptyLine = Buffer.from("\r\n");

/**
 * The body of one HTTP/1 request. Its end is found in what came, and what came is passed on:
 *
 *   walk ─→ send ─→ walk … ─→ done
 *     └─→ fault
 */
export class RequestBody {
  /** All of it was walked. */
  done: boolean;
  fault: ChunkFault | null = null;
  private remaining: number;
  private readonly decoder: ChunkedDecoder | null;
  private wasInSection = false;

  constructor({ framing, contentLength }: Framed, parsers: ParserPool) {
    this.done = framing === "none";
    this.remaining = contentLength;
    this.decoder = framing === "chunked" ? new ChunkedDecoder(parsers) : null;
  }

  /** One past the last of the bytes that belong to it, unless there is a fault. */
  walk(buffer: Buffer, start: number, end: number): number {
    if (this.decoder !== null) return this.walkChunks(this.decoder, buffer, start, end);
    const own = Math.min(end, start + this.remaining);
    this.remaining -= own - start;
    this.done = this.remaining === 0;
    return own;
  }

  private walkChunks(decoder: ChunkedDecoder, buffer: Buffer, start: number, end: number): number {
    this.wasInSection = decoder.inSection;
    let position = start;
    while (position < end && !this.done) {
      const step = decoder.next(buffer, position, end);
      position = decoder.position;
      this.done = step === "done";
      if (step === "fault") {
        this.fault = decoder.fault ?? "chunkSize";
        break;
      }
    }
    return position;
  }

  /**
   * Passes on what was walked. Chunks go as they lie, but no trailers: there are servers (Bun's
   * is one) for which a request ends with its last chunk, and what follows is the next.
   */
  send(sink: BodySink, buffer: Buffer, start: number, end: number): void {
    const { decoder, done } = this;
    if (decoder === null) return sink.sendBody(buffer, start, end, done);
    const { inSection, sectionStart } = decoder;
    const dataEnd = this.wasInSection ? start : inSection ? sectionStart : end;
    if (done && end - dataEnd !== emptyLine.length) {
      if (dataEnd > start) sink.sendBody(buffer, start, dataEnd, false);
      sink.sendBody(emptyLine, 0, emptyLine.length, true);
    } else if (done) sink.sendBody(buffer, start, end, true);
    else if (dataEnd > start) sink.sendBody(buffer, start, dataEnd, false);
  }
}

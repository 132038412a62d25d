import type { Json } from "../../base/json.ts";
import { depthMax, nestsDeeper } from "../json.ts";
import { isPattern, isSubject } from "../subjects.ts";
import type { WireError } from "../wire.ts";

export const protocolVersion = 1;

/** Bytes of the largest frame a server sends; a route table may be large. */
export const serverFrameBytesMax = 64 * 1024 * 1024;

/** The longest a client may let a request wait. */
const timeoutMsMax = 3_600_000;

export type RefusedAction = "publish" | "subscribe" | "respond";

export type ClientFrame =
  | { readonly op: "hello"; readonly version: number }
  /** Answered by `synced` when all before it took effect. */
  | { readonly op: "sync" }
  | { readonly op: "publish"; readonly subject: string; readonly payload: Json }
  | { readonly op: "subscribe"; readonly id: number; readonly pattern: string }
  | { readonly op: "respond"; readonly id: number; readonly pattern: string }
  /** Ends a subscription or responder. */
  | { readonly op: "cancel"; readonly id: number }
  | {
      readonly op: "request";
      readonly id: number;
      readonly subject: string;
      readonly payload: Json;
      readonly timeoutMs: number;
    }
  | { readonly op: "answer"; readonly id: number; readonly payload: Json }
  | { readonly op: "failure"; readonly id: number; readonly message: string };

export type ServerFrame =
  | { readonly op: "welcome"; readonly version: number; readonly frameBytesMax: number }
  | { readonly op: "synced" }
  | {
      readonly op: "message";
      readonly id: number;
      readonly subject: string;
      readonly payload: Json;
    }
  | {
      readonly op: "request";
      readonly id: number;
      readonly responder: number;
      readonly subject: string;
      readonly payload: Json;
    }
  | { readonly op: "answer"; readonly id: number; readonly payload: Json }
  | { readonly op: "failure"; readonly id: number; readonly error: WireError }
  | { readonly op: "refused"; readonly action: RefusedAction; readonly subject: string };

export function encodeFrame(frame: ClientFrame | ServerFrame): Buffer {
  return frameOf(JSON.stringify(frame));
}

/** A frame whose payload was made JSON before, to be sent to several. */
export function encodeMessage(id: number, subject: string, payload: string): Buffer {
  const quoted = JSON.stringify(subject);
  return frameOf(`{"op":"message","id":${id},"subject":${quoted},"payload":${payload}}`);
}

function frameOf(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(4 + length);
  frame.writeUInt32BE(length, 0);
  frame.write(text, 4);
  return frame;
}

/**
 * Cuts a stream of bytes into frames. What it holds is at most one frame and a chunk, whatever
 * length a frame claims.
 */
export class FrameReader {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The JSON values now complete; null when the stream cannot be frames. */
  push(chunk: Uint8Array): Json[] | null {
    // A copy: the runtime reuses the chunk's memory.
    this.#chunks.push(Buffer.from(chunk));
    this.#bytes += chunk.byteLength;
    const values: Json[] = [];
    for (;;) {
      const length = this.#nextLength();
      if (length === null) return values;
      if (length > this.#bytesMax) return null;
      if (this.#bytes < 4 + length) return values;
      try {
        values.push(JSON.parse(this.#take(4 + length).toString("utf8", 4)) as Json);
      } catch {
        return null;
      }
    }
  }

  #nextLength(): number | null {
    if (this.#bytes < 4) return null;
    if ((this.#chunks[0] as Buffer).byteLength < 4) this.#join();
    return (this.#chunks[0] as Buffer).readUInt32BE(0);
  }

  #take(bytes: number): Buffer {
    if ((this.#chunks[0] as Buffer).byteLength < bytes) this.#join();
    const first = this.#chunks[0] as Buffer;
    this.#chunks = first.byteLength === bytes ? [] : [first.subarray(bytes)];
    this.#bytes -= bytes;
    return first.subarray(0, bytes);
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
}

/** The frame that a client sent; null when it makes no sense [W13]. */
export function parseClientFrame(value: Json): ClientFrame | null {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
  const frame = value as { readonly [key: string]: Json | undefined };
  return isClientFrame(frame) ? (frame as ClientFrame) : null;
}

function isClientFrame(frame: { readonly [key: string]: Json | undefined }): boolean {
  switch (frame.op) {
    case "hello":
      return typeof frame.version === "number";
    case "sync":
      return true;
    case "publish":
      return isText(frame.subject, isSubject) && isPayload(frame.payload);
    case "subscribe":
    case "respond":
      return isId(frame.id) && isText(frame.pattern, isPattern);
    case "cancel":
      return isId(frame.id);
    case "request":
      return (
        isId(frame.id) &&
        isText(frame.subject, isSubject) &&
        isPayload(frame.payload) &&
        typeof frame.timeoutMs === "number" &&
        frame.timeoutMs >= 0 &&
        frame.timeoutMs <= timeoutMsMax
      );
    case "answer":
      return isId(frame.id) && isPayload(frame.payload);
    case "failure":
      return isId(frame.id) && typeof frame.message === "string";
    default:
      return false;
  }
}

function isId(value: Json | undefined): boolean {
  return Number.isSafeInteger(value);
}

function isText(value: Json | undefined, isValid: (text: string) => boolean): boolean {
  return typeof value === "string" && isValid(value);
}

function isPayload(value: Json | undefined): boolean {
  return value !== undefined && !nestsDeeper(value, depthMax);
}

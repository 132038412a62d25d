import http2 from "node:http2";
import tls from "node:tls";
import { type HeaderListLimits, HpackDecoder } from "../http2/hpack-decoder.ts";
import { preface, readFrames, type SeenFrame, settings } from "./frames.ts";
import { eventually } from "./harness.ts";

function connectTls(port: number, host: string): tls.TLSSocket {
  return tls.connect({
    port,
    host: "127.0.0.1",
    servername: host,
    rejectUnauthorized: false,
    ALPNProtocols: ["h2"],
  });
}

export function http2Session(
  port: number,
  host: string,
  initialWindowSize = 65_535,
): http2.ClientHttp2Session {
  return http2.connect(`https://${host}:${port}`, {
    createConnection: () => connectTls(port, host),
    settings: { initialWindowSize },
  });
}

export interface Answer {
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
  readonly trailers: Readonly<Record<string, unknown>> | null;
  /** Statuses of interim answers. */
  readonly interim: readonly unknown[];
  readonly code: number | undefined;
}

export function ask(
  client: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: Buffer | string,
): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = client.request(headers, { endStream: body === undefined });
    let [seen, text, trailers]: [Answer["headers"], string, Answer["trailers"]] = [{}, "", null];
    const interim: unknown[] = [];
    stream.on("headers", (received) => interim.push(received[":status"]));
    stream.on("response", (received) => {
      seen = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      resolve({ headers: seen, body: text, trailers, interim, code: stream.rstCode });
    });
    if (body !== undefined) stream.end(body);
  });
}

const roomy: HeaderListLimits = { bytesMax: 1e6, fieldsMax: 1000 };

/** A connection on which the test writes every frame itself. */
export class FrameClient {
  closed = false;
  private readonly socket: tls.TLSSocket;
  private readonly decoder = new HpackDecoder(roomy);
  private bytes = Buffer.alloc(0);

  constructor(port: number, host: string) {
    this.socket = connectTls(port, host);
    this.socket.on("data", (chunk: Buffer) => {
      this.bytes = Buffer.concat([this.bytes, chunk]);
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
    });
  }

  /** With the preface, and SETTINGS of these pairs. */
  static begin(
    port: number,
    host: string,
    ...pairs: readonly (readonly [number, number])[]
  ): FrameClient {
    const client = new FrameClient(port, host);
    client.send(preface, settings(...pairs));
    return client;
  }

  send(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  get frames(): readonly SeenFrame[] {
    return readFrames(this.bytes);
  }

  dataOf(streamId: number): string {
    const own = this.frames.filter((seen) => seen.type === 0 && seen.streamId === streamId);
    return own.map(({ payload }) => payload.toString("latin1")).join("");
  }

  /** The fields of the only answer there was. */
  fields(): readonly string[] {
    const block = this.frames.find(({ type }) => type === 1)?.payload ?? Buffer.alloc(0);
    const fields = this.decoder.decode(block, 0, block.length) ?? [];
    return fields.map(({ name, value }) => `${name}: ${value}`);
  }

  async until(found: (frame: SeenFrame) => boolean): Promise<SeenFrame> {
    await eventually(() => this.frames.some(found));
    return this.frames.find(found) as SeenFrame;
  }

  async untilClosed(): Promise<void> {
    await eventually(() => this.closed);
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  close(): void {
    this.socket.destroy();
  }
}

// Ways to break the gateway, one at a time: what finds none of them out would prove nothing.

import type { Http2Connection as Connection } from "../../../src/gateway/http2/connection.ts";

/** What a class's objects can do, to be replaced. */
type Methods = Record<string, (...given: never[]) => unknown>;

const methodsOf = (made: { readonly prototype: object }): Methods => made.prototype as Methods;

function replace(
  made: { readonly prototype: object },
  name: string,
  by: (before: (...given: unknown[]) => unknown, self: object, given: unknown[]) => unknown,
): void {
  const methods = methodsOf(made);
  const before = methods[name] as (...given: unknown[]) => unknown;
  methods[name] = function (this: object, ...given: unknown[]) {
    return by(before.bind(this), this, given);
  };
}

const load = async () => ({
  ...(await import("../../../src/gateway/http2/connection.ts")),
  ...(await import("../../../src/gateway/http2/flood-guard.ts")),
  ...(await import("../../../src/gateway/http2/frames.ts")),
  ...(await import("../../../src/gateway/http2/hpack-decoder.ts")),
  ...(await import("../../../src/gateway/http2/stream.ts")),
  ...(await import("../../../src/gateway/proxy/stream-http2.ts")),
});
type Parts = Awaited<ReturnType<typeof load>>;

const ways: Readonly<Record<string, (parts: Parts) => void>> = {
  /** A body may be longer than its Content-Length: the rest is another request. */
  lengthUnchecked: ({ Http2Client }) =>
    replace(Http2Client, "pass", (_, self, given) => {
      const { exchange, request } = self as { exchange: Methods | null; request: unknown };
      const [block] = given as [{ buffer: Buffer; start: number; end: number }];
      if (exchange === null || request === null) return true;
      (exchange["sendBody"] as (...all: unknown[]) => void)(block.buffer, block.start, block.end);
      return true;
    }),
  /** Connections lose a little of their window with each request. */
  windowLost: ({ Http2Connection }) =>
    replace(Http2Connection, "returnToConnection", (before, _, [bytes]) =>
      before(Math.floor((bytes as number) / 2)),
    ),
  /** A stream is answered without regard to its window. */
  windowIgnored: ({ Http2Stream }) =>
    replace(Http2Stream, "send", (before, self, given) => {
      (self as { sendWindow: number }).sendWindow += 1_000_000;
      return before(...given);
    }),
  wrongCode: ({ FrameWriter }) =>
    replace(FrameWriter, "goaway", (before, _, [last, code, reason]) =>
      before(last, code === 9 ? 1 : code, reason),
    ),
  neverCalm: ({ FloodGuard }) => replace(FloodGuard, "reset", () => true),
  /** Now and then the last frame does not say that it is the last. */
  endForgotten: ({ FrameWriter }) => {
    let count = 0;
    replace(FrameWriter, "data", (before, _, [id, from, start, end, ends]) => {
      count += 1;
      return before(id, from, start, end, ends === true && count % 100 !== 0);
    });
  },
  /** Fields of the table are mistaken for their neighbours. */
  tableOff: ({ HpackDecoder }) =>
    replace(HpackDecoder, "lookUp", (before, _, [index]) =>
      before((index as number) > 62 ? (index as number) - 1 : index),
    ),
  throwing: ({ Http2Connection }) =>
    replace(Http2Connection, "takePriority", (before, self) => {
      if ((self as Connection).streams.size > 2) throw new Error("broken");
      return before();
    }),
};

export const sabotages: readonly string[] = Object.keys(ways);

export async function sabotage(way: string): Promise<void> {
  const apply = ways[way];
  if (apply === undefined) throw new Error(`no way to break it: ${way}`);
  apply(await load());
}

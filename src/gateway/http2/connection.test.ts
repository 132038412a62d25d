import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  block,
  frame,
  headers,
  number32,
  preface,
  readFrames,
  type SeenFrame,
  settings,
} from "../testing/frames.ts";
import { type ConnectionHost, Http2Connection, type Http2Limits } from "./connection.ts";
import { errorCode as code } from "./frames.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import type { HeaderField } from "./static-table.ts";
import type { Http2Stream, StreamUser } from "./stream.ts";

const limits: Http2Limits = {
  headers: { bytesMax: 4000, fieldsMax: 50 },
  streamsMax: 10,
  requestsMax: 1000,
  streamWindowBytes: 70_000,
  connectionWindowBytes: 100_000,
  flood: { resetsMax: 20, settingsMax: 10, pingsMax: 20, emptyMax: 10 },
};

/** What a stream's user saw. */
class User implements StreamUser {
  body = "";
  ended = false;
  closed: number | null | undefined;
  drained = 0;
  trailers: readonly HeaderField[] = [];
  readonly stream: Http2Stream;
  private readonly takes: boolean;

  constructor(stream: Http2Stream, takes: boolean) {
    this.stream = stream;
    this.takes = takes;
  }

  onInput(): void {
    while (this.takes) {
      const piece = this.stream.body.take();
      if (piece === null) break;
      this.body += piece.buffer.toString("latin1", piece.start, piece.end);
      this.stream.consumed(piece.end - piece.start);
    }
    this.ended = this.stream.inputEnded;
  }

  onTrailers(fields: readonly HeaderField[]): boolean {
    this.trailers = fields;
    return !fields.some(({ name }) => name.startsWith(":"));
  }

  onDrained(): void {
    this.drained += 1;
  }

  onClosed(why: number | null): void {
    this.closed = why;
  }

  respond(body: string | null): void {
    this.stream.beginBlock().status(200);
    this.stream.sendBlock(body === null);
    if (body !== null) this.stream.send(Buffer.from(body), 0, body.length, true);
  }
}

/** A connection whose bytes go nowhere but into a list. */
class Play implements ConnectionHost {
  readonly connection: Http2Connection;
  readonly users: User[] = [];
  readonly refused: number[] = [];
  sent: SeenFrame[] = [];
  now = 0;
  private readonly takes: boolean;

  constructor(takes = true, more: Partial<Http2Limits> = {}) {
    this.takes = takes;
    this.connection = new Http2Connection({ ...limits, ...more }, this, new HpackEncoder());
  }

  onRequest(stream: Http2Stream, fields: readonly HeaderField[] | null): void {
    if (fields === null) this.refused.push(stream.id);
    const user = new User(stream, this.takes);
    stream.user = user;
    this.users.push(user);
  }

  onOutput(): void {}

  flush(): void {
    this.sent.push(...readFrames(this.connection.sender.output.take()));
  }

  give(...frames: readonly Buffer[]): this {
    const bytes = Buffer.concat(frames);
    this.connection.receive(bytes, 0, bytes.length, this.now);
    this.flush();
    return this;
  }

  begin(...pairs: readonly (readonly [number, number])[]): this {
    return this.give(preface, settings(...pairs));
  }

  user(index = 0): User {
    return this.users[index] as User;
  }

  /** Type, stream and error of what ended something. */
  get verdicts(): readonly string[] {
    return this.sent.flatMap(({ type, streamId, payload }) => {
      if (type === 7) return [`goaway ${payload.readUInt32BE(4)}`];
      return type === 3 ? [`reset ${streamId} ${payload.readUInt32BE(0)}`] : [];
    });
  }

  data(streamId: number): string {
    return this.sent
      .filter((seen) => seen.type === 0 && seen.streamId === streamId)
      .map((seen) => seen.payload.toString("latin1"))
      .join("");
  }
}

const get = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/"],
  [":authority", "a.test"],
] as const;

const open = headers(1, get, 4);
const closed = headers(1, get);
const goaway = (error: number) => [`goaway ${error}`];
const reset = (streamId: number, error: number) => [`reset ${streamId} ${error}`];
const bytes = (length: number) => Buffer.alloc(length, "x");

/** What comes after preface and SETTINGS, and what ends by it. The numbers are h2spec's. */
const cases: Readonly<Record<string, readonly [readonly Buffer[], readonly string[]]>> = {
  "4.1: unknown types are ignored": [[frame(0x16, 0xff, 0, bytes(8)), closed], []],
  "4.1: unknown flags are ignored": [[frame(6, 0xfe & ~1, 0, bytes(8))], []],
  "4.2: a frame of the greatest length": [[open, frame(0, 1, 1, bytes(16_384))], []],
  "4.2: DATA too long": [[open, frame(0, 1, 1, bytes(16_385))], goaway(code.frameSizeError)],
  "4.2: HEADERS too long": [[frame(1, 5, 1, bytes(16_385))], goaway(code.frameSizeError)],
  "4.3: a block that is no block": [[frame(1, 5, 1, bytes(3))], goaway(code.compressionError)],
  "4.3: PRIORITY within a block": [
    [headers(1, get, 1), frame(2, 0, 1, [0, 0, 0, 0, 9])],
    goaway(code.protocolError),
  ],
  "4.3: HEADERS of another stream within a block": [
    [headers(1, get, 1), headers(3, get)],
    goaway(code.protocolError),
  ],
  "5.1: DATA on an idle stream": [[frame(0, 1, 1, bytes(4))], goaway(code.protocolError)],
  "5.1: RST_STREAM on an idle stream": [[frame(3, 0, 1, number32(8))], goaway(code.protocolError)],
  "5.1: WINDOW_UPDATE on an idle stream": [
    [frame(8, 0, 1, number32(100))],
    goaway(code.protocolError),
  ],
  "5.1: CONTINUATION on an idle stream": [[frame(9, 4, 1, block(get))], goaway(code.protocolError)],
  "5.1: DATA after END_STREAM": [[closed, frame(0, 1, 1, bytes(4))], reset(1, code.streamClosed)],
  "5.1: HEADERS after END_STREAM": [[closed, headers(1, get)], reset(1, code.streamClosed)],
  "5.1: CONTINUATION after END_STREAM": [
    [closed, frame(9, 4, 1, block(get))],
    goaway(code.protocolError),
  ],
  "5.1: DATA after the client's reset": [
    [open, frame(3, 0, 1, number32(8)), frame(0, 1, 1, bytes(4))],
    reset(1, code.streamClosed),
  ],
  "5.1: HEADERS after the client's reset": [
    [open, frame(3, 0, 1, number32(8)), headers(1, get)],
    goaway(code.streamClosed),
  ],
  "5.1: WINDOW_UPDATE and RST_STREAM on a closed stream": [
    [closed, frame(3, 0, 1, number32(8)), frame(8, 0, 1, number32(9)), frame(3, 0, 1, number32(8))],
    [],
  ],
  "5.1: what was on its way to a stream that was reset": [
    [closed, frame(0, 0, 1, bytes(4)), frame(0, 1, 1, bytes(4)), headers(1, get)],
    reset(1, code.streamClosed),
  ],
  "5.1.1: an even id": [[headers(2, get)], goaway(code.protocolError)],
  "5.1.1: an id lower than the last": [
    [headers(5, get), headers(3, get)],
    goaway(code.protocolError),
  ],
  "5.1.2: more streams than allowed": [
    Array.from({ length: 11 }, (_, at) => headers(1 + 2 * at, get, 4)),
    reset(21, code.refusedStream),
  ],
  "5.3.1: HEADERS that depend on themselves": [
    [frame(1, 0x25, 1, Buffer.concat([number32(1), Buffer.from([9]), block(get)]))],
    reset(1, code.protocolError),
  ],
  "5.3.1: PRIORITY that depends on itself": [
    [open, frame(2, 0, 1, [0, 0, 0, 1, 9])],
    reset(1, code.protocolError),
  ],
  "6.1: DATA on stream 0": [[frame(0, 1, 0, bytes(4))], goaway(code.protocolError)],
  "6.1: DATA with padding": [[open, frame(0, 9, 1, [2, 0x61, 0, 0])], []],
  "6.1: padding longer than DATA": [
    [open, frame(0, 9, 1, [5, 0, 0, 0, 0])],
    goaway(code.protocolError),
  ],
  "6.2: HEADERS with padding and priority": [
    [
      frame(
        1,
        0x2d,
        1,
        Buffer.concat([Buffer.from([3]), number32(0), Buffer.from([9]), block(get), bytes(3)]),
      ),
    ],
    [],
  ],
  "6.2: HEADERS on stream 0": [[headers(0, get)], goaway(code.protocolError)],
  "6.2: padding longer than HEADERS": [[frame(1, 13, 1, [9, 0x82])], goaway(code.protocolError)],
  "6.3: PRIORITY on stream 0": [[frame(2, 0, 0, [0, 0, 0, 3, 9])], goaway(code.protocolError)],
  "6.3: PRIORITY of another length": [
    [open, frame(2, 0, 1, [0, 0, 0, 3])],
    reset(1, code.frameSizeError),
  ],
  "6.3: PRIORITY on an idle stream": [[frame(2, 0, 3, [0, 0, 0, 1, 9])], []],
  "6.4: RST_STREAM on stream 0": [[frame(3, 0, 0, number32(8))], goaway(code.protocolError)],
  "6.4: RST_STREAM of another length": [
    [open, frame(3, 0, 1, [0, 0, 8])],
    goaway(code.frameSizeError),
  ],
  "6.5: SETTINGS on a stream": [[frame(4, 0, 1)], goaway(code.protocolError)],
  "6.5: acknowledgement with a payload": [[frame(4, 1, 0, [0])], goaway(code.frameSizeError)],
  "6.5: SETTINGS of another length": [[frame(4, 0, 0, [0, 1, 2])], goaway(code.frameSizeError)],
  "6.5.2: push neither on nor off": [[settings([2, 2])], goaway(code.protocolError)],
  "6.5.2: window too large": [[settings([4, 0x8000_0000])], goaway(code.flowControlError)],
  "6.5.2: frames too small": [[settings([5, 16_383])], goaway(code.protocolError)],
  "6.5.2: frames too large": [[settings([5, 16_777_216])], goaway(code.protocolError)],
  "6.5.2: unknown settings are ignored": [[settings([0xff, 1]), settings([1, 0])], []],
  "6.6: PUSH_PROMISE": [
    [frame(5, 4, 1, Buffer.concat([number32(2), block(get)]))],
    goaway(code.protocolError),
  ],
  "6.7: PING on a stream": [[frame(6, 0, 1, bytes(8))], goaway(code.protocolError)],
  "6.7: PING of another length": [[frame(6, 0, 0, bytes(6))], goaway(code.frameSizeError)],
  "6.7: an acknowledgement nobody asked for": [[frame(6, 1, 0, bytes(8))], []],
  "6.8: GOAWAY on a stream": [[frame(7, 0, 1, bytes(8))], goaway(code.protocolError)],
  "6.9: no increment": [[frame(8, 0, 0, number32(0))], goaway(code.protocolError)],
  "6.9: no increment, on a stream": [
    [open, frame(8, 0, 1, number32(0))],
    reset(1, code.protocolError),
  ],
  "6.9: WINDOW_UPDATE of another length": [[frame(8, 0, 0, [1])], goaway(code.frameSizeError)],
  "6.9.1: window beyond 2^31-1": [
    [frame(8, 0, 0, number32(0x7fff_ffff))],
    goaway(code.flowControlError),
  ],
  "6.9.1: window beyond 2^31-1, on a stream": [
    [open, frame(8, 0, 1, number32(0x7fff_ffff))],
    reset(1, code.flowControlError),
  ],
  "6.9.2: SETTINGS push a window beyond 2^31-1": [
    [open, frame(8, 0, 1, number32(0x7fff_0000)), settings([4, 0x7fff_ffff])],
    goaway(code.flowControlError),
  ],
  "6.10: two CONTINUATION frames": [
    [
      frame(1, 1, 1, block(get.slice(0, 1))),
      frame(9, 0, 1, block(get.slice(1, 2))),
      frame(9, 4, 1, block(get.slice(2))),
    ],
    [],
  ],
  "6.10: CONTINUATION on stream 0": [
    [headers(1, get, 1), frame(9, 4, 0)],
    goaway(code.protocolError),
  ],
  "6.10: CONTINUATION after END_HEADERS": [[open, frame(9, 4, 1)], goaway(code.protocolError)],
  "8.1: trailers": [[open, headers(1, [["x-sum", "1"]])], []],
  "8.1: trailers without END_STREAM": [
    [open, headers(1, [["x-sum", "1"]], 4)],
    reset(1, code.protocolError),
  ],
  "8.1: pseudo-header fields in trailers": [
    [open, headers(1, [[":path", "/"]])],
    reset(1, code.protocolError),
  ],
};

describe("conformance", () => {
  for (const [name, [frames, verdicts]] of Object.entries(cases)) {
    test(name, () => {
      expect(new Play().begin().give(...frames).verdicts).toEqual([...verdicts]);
    });
    test(`${name}, byte by byte`, () => {
      const play = new Play().begin();
      for (const byte of Buffer.concat(frames)) play.give(Buffer.from([byte]));
      expect(play.verdicts).toEqual([...verdicts]);
    });
  }

  test("3.4: no preface, or another frame than SETTINGS first", () => {
    const wrong = [Buffer.from("GET / HTTP/1.1\r\n\r\n")];
    for (const first of [frame(6, 0, 0, bytes(8)), open, frame(0, 0, 1), frame(4, 1, 0)]) {
      wrong.push(Buffer.concat([preface, first]));
    }
    for (const start of wrong) {
      expect(new Play().give(start).verdicts).toEqual(goaway(code.protocolError));
    }
  });

  test("6.7: PING is answered with its own payload, SETTINGS is acknowledged", () => {
    const play = new Play().begin().give(frame(6, 0, 0, Buffer.from("12345678")));
    const ping = play.sent.find(({ type }) => type === 6);
    expect([ping?.flags, ping?.payload.toString()]).toEqual([1, "12345678"]);
    expect(play.sent.filter(({ type, flags }) => type === 4 && flags === 1)).toHaveLength(1);
  });

  test("6.9.2: a window of one byte, which becomes none and then more", () => {
    const play = new Play().begin([4, 1]).give(closed);
    play.user().respond("hello");
    play.flush();
    expect(play.data(1)).toBe("h");
    play.give(settings([4, 0])).give(frame(8, 0, 1, number32(2)));
    expect(play.data(1)).toBe("he");
    play.give(settings([4, 9]));
    expect(play.data(1)).toBe("hello");
    expect(play.user().closed).toBe(null);
  });
});

describe("flow control", () => {
  test("bodies come whole and in order, whatever the windows", () => {
    const updates = fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 90_000 })), {
      maxLength: 20,
    });
    const sizes = fc.array(fc.nat(150_000), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(sizes, updates, fc.nat(70_000), (list, widths, initial) => {
        const play = new Play().begin([4, initial]);
        list.forEach((_, at) => {
          play.give(headers(1 + 2 * at, get));
        });
        const bodies = list.map((size, at) => String(at).repeat(size));
        bodies.forEach((body, at) => {
          play.user(at).respond(body);
        });
        play.flush();
        let room = 65_535;
        const own = list.map(() => initial);
        const check = () => {
          const sent = bodies.map((_, at) => play.data(1 + 2 * at));
          sent.forEach((text, at) => {
            expect(text.length).toBeLessThanOrEqual(own[at] ?? 0);
            expect(bodies[at]?.startsWith(text)).toBe(true);
          });
          const all = sent.reduce((sum, text) => sum + text.length, 0);
          expect(all).toBeLessThanOrEqual(room);
          // Nothing is held back that could go.
          const wanted = bodies.map((body, at) => Math.min(body.length, own[at] ?? 0));
          expect(all).toBe(
            Math.min(
              room,
              wanted.reduce((sum, size) => sum + size, 0),
            ),
          );
        };
        check();
        for (const [which, width] of widths) {
          const at = which - 1;
          if (at >= list.length) continue;
          if (which === 0) room += width;
          else own[at] = (own[at] ?? 0) + width;
          play.give(frame(8, 0, which === 0 ? 0 : 1 + 2 * at, number32(width)));
          check();
        }
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test("streams that wait for the connection's window take turns", () => {
    const play = new Play().begin([4, 1_000_000]).give(headers(1, get), headers(3, get));
    for (const at of [0, 1]) play.user(at).respond("x".repeat(200_000));
    for (let round = 0; round < 6; round += 1) play.give(frame(8, 0, 0, number32(16_384)));
    const later = play.sent.filter(({ type }) => type === 0).slice(5);
    expect(later.filter(({ streamId }) => streamId === 3)).toHaveLength(3);
  });

  test("trailers follow data that went out in turns", () => {
    const play = new Play().begin([4, 1_000_000]).give(closed);
    const { stream } = play.user();
    stream.beginBlock().status(200);
    stream.sendBlock(false);
    for (let piece = 0; piece < 5; piece += 1) stream.send(bytes(16_384), 0, 16_384, false);
    stream.end(block([["x-sum", "1"]]));
    play.give(frame(8, 0, 0, number32(16_385)));
    const [last, before] = play.sent.toReversed();
    expect([before?.type, before?.streamId]).toEqual([0, 1]);
    expect(last).toEqual({ type: 1, flags: 5, streamId: 1, payload: block([["x-sum", "1"]]) });
    expect(play.user().closed).toBe(null);
  });

  test("a body nobody takes stops at the window; taken, it goes on", () => {
    const lazy = new Play(false).begin().give(open);
    for (let sent = 0; sent < 64_000; sent += 16_000) lazy.give(frame(0, 0, 1, bytes(16_000)));
    expect(lazy.sent.filter(({ type }) => type === 8)).toHaveLength(1);
    lazy.give(frame(0, 0, 1, bytes(6001)));
    expect(lazy.verdicts).toEqual(reset(1, code.flowControlError));
    const eager = new Play().begin().give(open);
    for (let sent = 0; sent < 100; sent += 1) eager.give(frame(0, 0, 1, bytes(16_000)));
    expect(eager.user().body.length).toBe(1_600_000);
    expect(eager.verdicts).toEqual([]);
  });

  test("the window of the whole connection holds too, and comes back with a reset", () => {
    const play = new Play(false).begin();
    for (const id of [1, 3]) play.give(headers(id, get, 4));
    for (const id of [1, 3]) {
      for (let sent = 0; sent < 48_000; sent += 16_000) play.give(frame(0, 0, id, bytes(16_000)));
    }
    play.give(frame(3, 0, 1, number32(8)), frame(3, 0, 3, number32(8)));
    expect(play.sent.filter(({ type, streamId }) => type === 8 && streamId === 0)).toHaveLength(2);
    for (const id of [5, 7]) play.give(headers(id, get, 4));
    for (const id of [5, 7, 5]) {
      for (let sent = 0; sent < 48_000; sent += 16_000) play.give(frame(0, 0, id, bytes(16_000)));
    }
    expect(play.verdicts).toEqual(goaway(code.flowControlError));
  });

  test("padding and what nobody wants is given back at once", () => {
    const play = new Play(false).begin().give(open);
    play.user().stream.discard();
    for (let sent = 0; sent < 50; sent += 1) {
      play.give(frame(0, 8, 1, Buffer.concat([Buffer.from([200]), bytes(8000), bytes(200)])));
    }
    expect(play.verdicts).toEqual([]);
    play.user().respond(null);
    play.flush();
    expect(play.verdicts).toEqual(reset(1, code.noError));
  });

  test("a socket that takes nothing stops data, and nothing is lost", () => {
    const play = new Play().begin([4, 1_000_000]).give(frame(8, 0, 0, number32(1_000_000)), closed);
    play.connection.sender.blocked = true;
    play.user().respond("y".repeat(300_000));
    play.flush();
    expect(play.data(1)).toBe("");
    play.connection.sender.unblock();
    play.flush();
    expect(play.data(1).length).toBe(300_000);
    expect(play.user().closed).toBe(null);
  });
});

describe("floods end the connection", () => {
  const many = (count: number, make: (at: number) => Buffer) =>
    Array.from({ length: count }, (_, at) => make(at));
  const resetSoon = (at: number) =>
    Buffer.concat([headers(1 + 2 * at, get), frame(3, 0, 1 + 2 * at, number32(8))]);
  const overrun = (at: number) =>
    Buffer.concat([headers(1 + 2 * at, get, 4), frame(8, 0, 1 + 2 * at, number32(0))]);
  const floods: Readonly<Record<string, readonly Buffer[]>> = {
    "rapid reset (CVE-2023-44487)": many(21, resetSoon),
    "resets by our own hand (CVE-2025-8671)": many(21, overrun),
    "CONTINUATION (CVE-2024-27316)": [
      headers(1, get, 0),
      ...many(33, () => frame(9, 0, 1, [0x82])),
    ],
    "a header block without end": [
      headers(1, get, 0),
      ...many(2, () => frame(9, 0, 1, bytes(16_000))),
    ],
    "PING (CVE-2019-9512)": many(21, () => frame(6, 0, 0, bytes(8))),
    "SETTINGS (CVE-2019-9515)": many(10, () => settings()),
    "empty DATA (CVE-2019-9518)": [open, ...many(11, () => frame(0, 0, 1))],
    "frames of padding": [open, ...many(11, () => frame(0, 8, 1, [3, 0, 0, 0]))],
    "unknown frames": many(21, () => frame(99, 0, 0)),
    "PRIORITY (CVE-2019-9513)": many(101, () => frame(2, 0, 1, [0, 0, 0, 0, 9])),
    "WINDOW_UPDATE (CVE-2019-9511)": many(101, () => frame(8, 0, 0, number32(1))),
    "more streams than allowed, again and again": many(31, (at) => headers(1 + 2 * at, get, 4)),
  };
  for (const [name, frames] of Object.entries(floods)) {
    test(name, () => {
      const last = frames.at(-1) as Buffer;
      const before = new Play().begin().give(...frames.slice(0, -1));
      expect(before.verdicts.some((verdict) => verdict.startsWith("goaway"))).toBe(false);
      before.give(last);
      expect(before.verdicts.at(-1)).toBe(`goaway ${code.enhanceYourCalm}`);
      expect(before.connection.over).toBe(true);
      expect(before.connection.streams.size).toBe(0);
    });
  }

  test("the same over a longer time is no flood", () => {
    const play = new Play().begin();
    for (let count = 0; count < 60; count += 1) {
      play.now += 1000;
      play.give(frame(6, 0, 0, bytes(8)), resetSoon(count));
    }
    expect(play.connection.over).toBe(false);
  });

  test("a PING for each DATA frame that was sent is no flood: gRPC measures by them", () => {
    const play = new Play().begin([4, 1_000_000]).give(frame(8, 0, 0, number32(1_000_000)), closed);
    play.user().respond("x".repeat(60 * 16_384));
    play.flush();
    play.give(...many(75, () => frame(6, 0, 0, bytes(8))));
    expect(play.connection.over).toBe(false);
  });

  test("a header list beyond the limits costs its request, not the connection", () => {
    const play = new Play().begin();
    const long = Array.from({ length: 51 }, () => ["a", "b"] as const);
    play.give(headers(1, long), headers(3, [["a", "x".repeat(3990)]]), headers(5, get));
    expect(play.refused).toEqual([1, 3]);
    expect(play.verdicts).toEqual([]);
  });
});

describe("the end of a connection", () => {
  test("what is on its way is served, what comes later is not", () => {
    const play = new Play().begin().give(headers(1, get));
    play.connection.drain();
    play.flush();
    const ping = play.sent.find(({ type }) => type === 6)?.payload as Buffer;
    play.give(headers(3, get));
    play.give(frame(6, 1, 0, ping));
    play.give(headers(5, get));
    expect(play.users.map(({ stream }) => stream.id)).toEqual([1, 3]);
    const lastIds = play.sent
      .filter(({ type }) => type === 7)
      .map((seen) => seen.payload.readUInt32BE(0));
    expect(lastIds).toEqual([0x7fff_ffff, 3]);
    play.user(0).respond("a");
    expect(play.connection.over).toBe(false);
    play.user(1).respond("b");
    play.flush();
    expect(play.data(3)).toBe("b");
    expect(play.connection.over).toBe(true);
  });

  test("after so many requests it is ended in order", () => {
    const play = new Play(true, { requestsMax: 2 }).begin().give(headers(1, get));
    expect(play.verdicts).toEqual([]);
    expect(play.give(headers(3, get)).verdicts).toEqual(goaway(code.noError));
  });

  test("GOAWAY of the client ends it once its requests are answered", () => {
    const play = new Play().begin().give(closed, frame(7, 0, 0, bytes(8)));
    expect(play.connection.over).toBe(false);
    play.user().respond(null);
    expect(play.connection.over).toBe(true);
  });

  test("no bytes make it throw, and every stream hears its end", () => {
    const anyFrame = fc
      .tuple(
        fc.nat(10),
        fc.nat(255),
        fc.constantFrom(0, 1, 1, 3, 5, 2),
        fc.uint8Array({ maxLength: 40 }),
      )
      .map(([type, flags, id, payload]) => frame(type, flags, id, Buffer.from(payload)));
    const good = fc.constantFrom(open, closed, headers(3, get, 4), frame(0, 0, 1, bytes(9)));
    fc.assert(
      fc.property(fc.array(fc.oneof(anyFrame, good), { maxLength: 30 }), (frames) => {
        const play = new Play().begin();
        for (const one of frames) play.give(one);
        for (const user of play.users) if (!user.stream.outputEnded) user.respond("ok");
        play.connection.abandon();
        for (const user of play.users) expect(user.closed).not.toBe(undefined);
        expect(play.connection.streams.size).toBe(0);
      }),
      { numRuns: 1000, seed: 2 },
    );
  });
});

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { block, huffman, integer, text } from "../testing/frames.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import { decodeHuffman } from "./huffman.ts";
import { staticTable } from "./static-table.ts";

type Pairs = readonly (readonly [string, string])[];

const roomy = { bytesMax: 100_000, fieldsMax: 1000 };

function decode(decoder: HpackDecoder, bytes: Buffer): Pairs | null {
  const fields = decoder.decode(bytes, 0, bytes.length);
  return fields === null ? null : fields.map(({ name, value }) => [name, value]);
}

const hex = (digits: string) => Buffer.from(digits.replaceAll(" ", ""), "hex");

const www: Pairs = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const custom: Pairs = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  ["custom-key", "custom-value"],
];
const found: Pairs = [
  [":status", "302"],
  ["cache-control", "private"],
  ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ["location", "https://www.example.com"],
];
const cookie: Pairs = [
  [":status", "200"],
  ["cache-control", "private"],
  ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
  ["location", "https://www.example.com"],
  ["content-encoding", "gzip"],
  ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
];

/** RFC 7541 appendix C: each list one connection. The answers' table has 256 bytes. */
const vectors: Readonly<Record<string, readonly (readonly [string, Pairs])[]>> = {
  "C.2.1": [
    [
      "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
      [["custom-key", "custom-header"]],
    ],
  ],
  "C.2.2": [["040c 2f73 616d 706c 652f 7061 7468", [[":path", "/sample/path"]]]],
  "C.2.3": [["1008 7061 7373 776f 7264 0673 6563 7265 74", [["password", "secret"]]]],
  "C.2.4": [["82", [[":method", "GET"]]]],
  "C.3": [
    ["8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", www],
    ["8286 84be 5808 6e6f 2d63 6163 6865", [...www, ["cache-control", "no-cache"]]],
    ["8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", custom],
  ],
  "C.4": [
    ["8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", www],
    ["8286 84be 5886 a8eb 1064 9cbf", [...www, ["cache-control", "no-cache"]]],
    ["8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", custom],
  ],
  "C.5": [
    [
      "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133" +
        "2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65" +
        "2e63 6f6d",
      found,
    ],
    ["4803 3330 37c1 c0bf", [[":status", "307"], ...found.slice(1)]],
    [
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0" +
        "5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851" +
        "5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
      cookie,
    ],
  ],
  "C.6": [
    [
      "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6" +
        "2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      found,
    ],
    ["4883 640e ffc1 c0bf", [[":status", "307"], ...found.slice(1)]],
    [
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad" +
        "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160" +
        "65c0 03ed 4ee5 b106 3d50 07",
      cookie,
    ],
  ],
};

describe("vectors of RFC 7541", () => {
  for (const [name, blocks] of Object.entries(vectors)) {
    test(name, () => {
      const decoder = new HpackDecoder(roomy);
      for (const [bytes, fields] of blocks) expect(decode(decoder, hex(bytes))).toEqual(fields);
    });
  }
});

test("what is malformed is an error of compression", () => {
  const bad: Readonly<Record<string, string>> = {
    "index 0": "80",
    "index beyond the static table": "be",
    "name index beyond the tables": "7e 01 61",
    "integer cut off": "ff",
    "integer without an end": "ff ff ff ff ff ff 01",
    "integer beyond 28 bits": "ff 80 80 80 80 01",
    "string cut off": "00 05 61 62",
    "value missing": "00 01 61",
    "table larger than allowed": "3f e2 1f",
    "table resized after a field": "82 20",
    "Huffman: EOS": "00 84 ff ff ff ff 01 61",
    "Huffman: padding of a whole byte": "00 82 1f ff 01 61",
    "Huffman: padding of zeros": "00 81 18 01 61",
  };
  for (const [name, bytes] of Object.entries(bad)) {
    expect([name, decode(new HpackDecoder(roomy), hex(bytes))]).toEqual([name, null]);
  }
  const good = ["3f e1 1f 82", "20 3f e1 1f 82", "00 81 1f 01 61"];
  for (const bytes of good) expect(decode(new HpackDecoder(roomy), hex(bytes))).toHaveLength(1);
});

test("a list beyond the limits is not kept, and the table stays in step", () => {
  const decoder = new HpackDecoder({ bytesMax: 1000, fieldsMax: 5 });
  const long = Buffer.concat([Buffer.from([0x40]), text("x"), text("y".repeat(900))]);
  const bomb = Buffer.concat([long, Buffer.alloc(16_000, 0xbe)]);
  expect(decode(decoder, bomb)).toHaveLength(1);
  expect(decoder.overflowed).toBe(true);
  expect(decode(decoder, Buffer.from([0xbe]))).toEqual([["x", "y".repeat(900)]]);
  expect(decoder.overflowed).toBe(false);
  expect(decode(decoder, Buffer.alloc(6, 0x82))).toHaveLength(5);
  expect(decoder.overflowed).toBe(true);
});

const anyText = fc
  .uint8Array({ maxLength: 60 })
  .map((bytes) => Buffer.from(bytes).toString("latin1"));

test("Huffman's code: there and back", () => {
  fc.assert(
    fc.property(anyText, (value) => {
      const bytes = huffman(value);
      const out = Buffer.alloc(Math.ceil((bytes.length * 8) / 5));
      const length = decodeHuffman(bytes, 0, bytes.length, out);
      expect(out.toString("latin1", 0, length)).toBe(value);
    }),
    { seed: 1 },
  );
});

/** What an encoder may do with one field, chosen by a number. */
type Move = readonly [name: string, value: string, choice: number];

/** A naive encoder: its table is a plain array, newest first. */
class Twin {
  table: [string, string][] = [];
  private bytesMax = 4096;

  encode(moves: readonly Move[]): Buffer {
    const parts: Buffer[] = [];
    for (const [name, value, choice] of moves) {
      if (parts.length === 0 && choice % 7 === 0) parts.push(this.resize(choice % 4097));
      parts.push(this.encodeOne(name, value, choice));
    }
    return Buffer.concat(parts);
  }

  private resize(bytesMax: number): Buffer {
    this.bytesMax = bytesMax;
    this.evict();
    return integer(0x20, 5, bytesMax);
  }

  private all(): readonly (readonly [string, string])[] {
    return [...staticTable.map((field) => [field.name, field.value] as const), ...this.table];
  }

  private encodeOne(name: string, value: string, choice: number): Buffer {
    const all = this.all();
    const same = all.findIndex((entry) => entry[0] === name && entry[1] === value);
    if (same >= 0 && choice % 2 === 0) return integer(0x80, 7, same + 1);
    const named = choice % 3 === 0 ? -1 : all.findIndex((entry) => entry[0] === name);
    const [flags, bits] = [[0x40, 6] as const, [0, 4] as const, [0x10, 4] as const][choice % 3] ?? [
      0, 4,
    ];
    const isHuffman = choice % 5 < 2;
    const start = integer(flags, bits, named + 1);
    const own = named < 0 ? text(name, isHuffman) : Buffer.alloc(0);
    if (flags === 0x40) {
      this.table.unshift([name, value]);
      this.evict();
    }
    return Buffer.concat([start, own, text(value, isHuffman)]);
  }

  private evict(): void {
    const bytes = () => this.table.reduce((sum, [n, v]) => sum + n.length + v.length + 32, 0);
    while (bytes() > this.bytesMax) this.table.pop();
  }
}

test("the decoder follows any encoder", () => {
  const name = fc.constantFrom("a", "cookie", ":path", "x-long-name", "accept", "b");
  const value = fc.oneof(fc.constantFrom("", "1", "gzip, deflate", "v".repeat(700)), anyText);
  const move = fc.tuple(name, value, fc.nat(10_000));
  const blocks = fc.array(fc.array(move, { maxLength: 12 }), { maxLength: 12 });
  fc.assert(
    fc.property(blocks, (list) => {
      const twin = new Twin();
      const decoder = new HpackDecoder(roomy);
      for (const moves of list) {
        expect(decode(decoder, twin.encode(moves))).toEqual(moves.map(([n, v]) => [n, v]));
      }
    }),
    { seed: 2 },
  );
});

test("no bytes make the decoder throw or hang", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HpackDecoder(roomy);
      for (const bytes of blocks) decode(decoder, Buffer.from(bytes));
    }),
    { numRuns: 2000, seed: 3 },
  );
});

test("what the encoder writes is what a decoder reads", () => {
  const names = fc.constantFrom(
    "Content-Type",
    "x-a",
    "ETag",
    "www-authenticate",
    `x-${"n".repeat(200)}`,
  );
  const fields = fc.array(fc.tuple(names, anyText), { maxLength: 20 });
  fc.assert(
    fc.property(fields, fc.integer({ min: 100, max: 599 }), (list, status) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder(roomy);
      for (const isFirst of [true, false]) {
        encoder.begin(isFirst);
        encoder.status(status);
        for (const [name, value] of list) {
          const bytes = Buffer.from(`${name}${value}`, "latin1");
          encoder.field(bytes, 0, name.length, name.length, bytes.length);
        }
        const expected = list.map(([name, value]) => [name.toLowerCase(), value] as const);
        expect(decode(decoder, encoder.buffer.subarray(0, encoder.length))).toEqual([
          [":status", String(status)],
          ...expected,
        ]);
      }
    }),
    { seed: 4 },
  );
});

test("names that the static table has take a byte or two", () => {
  const encoder = new HpackEncoder();
  encoder.begin(false);
  encoder.text("content-type", "a");
  expect(encoder.buffer.subarray(0, encoder.length)).toEqual(hex("0f10 01 61"));
  expect(block([["a", "b"]])).toEqual(hex("00 01 61 01 62"));
});

/** Code lengths in bits of bytes 0 to 255 and of EOS (RFC 7541 appendix B). */
const codeLengths: readonly number[] = [
  ...[13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28],
  ...[30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8],
  ...[6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7],
  ...[7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6],
  ...[5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20],
  ...[22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23],
  ...[23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21],
  ...[22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20],
  ...[19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21],
  ...[21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26],
  ...[23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30],
];

const endOfString = 256;

export interface HuffmanCode {
  readonly symbol: number;
  readonly code: number;
  readonly bits: number;
}

/** The code is canonical: in order of length, then of symbol, each code is the next number. */
export function huffmanCodes(): readonly HuffmanCode[] {
  const ordered = codeLengths
    .map((bits, symbol) => ({ symbol, bits }))
    .sort((a, b) => a.bits - b.bits || a.symbol - b.symbol);
  let code = 0;
  let length = 0;
  return ordered.map(({ symbol, bits }) => {
    code *= 2 ** (bits - length);
    length = bits;
    const own = { symbol, code, bits };
    code += 1;
    return own;
  });
}

interface Tables {
  /** Per state and half byte: the next state; `failed` after a whole EOS. */
  readonly next: Uint16Array;
  /** Per state and half byte: 1 + the symbol that is complete there; 0: none. */
  readonly emitted: Uint16Array;
  /** Per state: a string may end here, all bits since the last symbol being 1, at most seven. */
  readonly mayEnd: Uint8Array;
}

const failed = 0xffff;

/** Inner nodes of the code's tree; a child below 0 is the symbol -1 - child. */
function makeTree(): number[][] {
  const tree: number[][] = [[]];
  for (const { symbol, code, bits } of huffmanCodes()) {
    let node = 0;
    for (let bit = bits - 1; bit > 0; bit -= 1) {
      const side = Math.floor(code / 2 ** bit) % 2;
      const children = tree[node] as number[];
      if (children[side] === undefined) {
        children[side] = tree.length;
        tree.push([]);
      }
      node = children[side] as number;
    }
    (tree[node] as number[])[code % 2] = -1 - symbol;
  }
  return tree;
}

function makeTables(): Tables {
  const tree = makeTree();
  const next = new Uint16Array(tree.length * 16);
  const emitted = new Uint16Array(tree.length * 16);
  for (let state = 0; state < tree.length; state += 1) {
    for (let half = 0; half < 16; half += 1) {
      let node = state;
      for (let bit = 3; bit >= 0 && node !== failed; bit -= 1) {
        const child = tree[node]?.[(half >> bit) & 1] as number;
        if (child >= 0) node = child;
        else if (child === -1 - endOfString) node = failed;
        else {
          // The shortest code has five bits: a half byte completes one symbol at most.
          emitted[state * 16 + half] = -child;
          node = 0;
        }
      }
      next[state * 16 + half] = node;
    }
  }
  const mayEnd = new Uint8Array(tree.length);
  for (let bits = 0, node = 0; bits < 8; bits += 1) {
    mayEnd[node] = 1;
    node = tree[node]?.[1] as number;
  }
  return { next, emitted, mayEnd };
}

const tables = makeTables();

/**
 * Decodes [start, end) of `buffer` into `out`, which has room for 8/5 as many bytes. Returns how
 * many came out, or -1: a whole EOS, or padding that is too long or not of ones (RFC 7541 5.2).
 */
export function decodeHuffman(buffer: Buffer, start: number, end: number, out: Buffer): number {
  const { next, emitted, mayEnd } = tables;
  let state = 0;
  let length = 0;
  for (let position = start; position < end; position += 1) {
    const byte = buffer[position] as number;
    const high = state * 16 + (byte >> 4);
    if ((emitted[high] as number) !== 0) {
      out[length] = (emitted[high] as number) - 1;
      length += 1;
    }
    state = next[high] as number;
    if (state === failed) return -1;
    const low = state * 16 + (byte & 15);
    if ((emitted[low] as number) !== 0) {
      out[length] = (emitted[low] as number) - 1;
      length += 1;
    }
    state = next[low] as number;
    if (state === failed) return -1;
  }
  return mayEnd[state] === 1 ? length : -1;
}

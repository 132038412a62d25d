export type Weight = "regular" | "bold";

/** Widths are guessed: which font draws the text is not known, and wide ones need this much. */
const widthOfCharacter: Readonly<Record<Weight, number>> = { regular: 0.59, bold: 0.65 };

/** In pixels, at a font size in pixels; rather too much than too little. */
export function textWidth(text: string, size: number, weight: Weight = "regular"): number {
  return [...text].length * size * widthOfCharacter[weight];
}

/**
 * Which of the texts, each centred on its place, can stand in a line without touching the one
 * before; the places ascend.
 */
export function fitting(
  texts: readonly { readonly label: string; readonly place: number }[],
  size: number,
): readonly boolean[] {
  let end = Number.NEGATIVE_INFINITY;
  return texts.map(({ label, place }) => {
    const half = textWidth(label, size) / 2;
    if (place - half < end + size / 2) return false;
    end = place + half;
    return true;
  });
}

/** Lines that are no wider, broken at spaces; a longer word has a line of its own. */
export function wrap(
  text: string,
  widthMax: number,
  size: number,
  weight: Weight = "regular",
): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && textWidth(`${last} ${word}`, size, weight) <= widthMax) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines;
}

/**
 * Moves labels apart as little as possible, so that they are a gap from one another and between
 * two bounds (if these leave room): the least sum of squares, by pooling what collides
 * (isotonic regression, Ayer et al. 1955).
 *
 * @returns the places in the order given
 */
export function spread(
  places: readonly number[],
  gap: number,
  [low, high]: readonly [number, number],
): readonly number[] {
  const order = places.map((_, index) => index);
  order.sort((one, other) => (places[one] as number) - (places[other] as number));
  // With the gaps taken out, places that keep them are merely not descending.
  const pools: { sum: number; indexes: number[] }[] = [];
  const mean = ({ sum, indexes }: { sum: number; indexes: number[] }) => sum / indexes.length;
  for (const [rank, index] of order.entries()) {
    let pool = { sum: (places[index] as number) - rank * gap, indexes: [index] };
    for (let last = pools.at(-1); last !== undefined; last = pools.at(-1)) {
      if (mean(last) <= mean(pool)) break;
      pools.pop();
      pool = { sum: last.sum + pool.sum, indexes: [...last.indexes, ...pool.indexes] };
    }
    pools.push(pool);
  }
  const highest = Math.max(low, high - (places.length - 1) * gap);
  const moved = [...places];
  let rank = 0;
  for (const pool of pools) {
    const at = Math.min(highest, Math.max(low, mean(pool)));
    for (const index of pool.indexes) {
      moved[index] = at + rank * gap;
      rank += 1;
    }
  }
  return moved;
}

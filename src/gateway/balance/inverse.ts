/**
 * The diagonal of A⁻¹ for a symmetric, positive definite A, by Cholesky: A = LLᵀ, and the k-th
 * entry is |L⁻¹e_k|². Entries of a matrix that is singular in floating point are infinite.
 */
export function inverseDiagonal(matrix: readonly (readonly number[])[]): readonly number[] {
  const size = matrix.length;
  const lower = cholesky(matrix);
  if (lower === null) return new Array<number>(size).fill(Number.POSITIVE_INFINITY);
  return matrix.map((_, k) => {
    const solution = new Float64Array(size);
    let sum = 0;
    for (let i = k; i < size; i += 1) {
      const row = lower[i] as Float64Array;
      let value = i === k ? 1 : 0;
      for (let j = k; j < i; j += 1) value -= (row[j] as number) * (solution[j] as number);
      solution[i] = value / (row[i] as number);
      sum += (solution[i] as number) ** 2;
    }
    return sum;
  });
}

function cholesky(matrix: readonly (readonly number[])[]): readonly Float64Array[] | null {
  const lower = matrix.map(() => new Float64Array(matrix.length));
  for (let i = 0; i < matrix.length; i += 1) {
    const row = lower[i] as Float64Array;
    for (let j = 0; j <= i; j += 1) {
      const other = lower[j] as Float64Array;
      let sum = matrix[i]?.[j] as number;
      for (let k = 0; k < j; k += 1) sum -= (row[k] as number) * (other[k] as number);
      if (i !== j) row[j] = sum / (other[j] as number);
      else if (sum > 0) row[i] = Math.sqrt(sum);
      else return null;
    }
  }
  return lower;
}

import { assert } from "../base/assert.ts";

/** Bytes of a subject or pattern. */
export const subjectBytesMax = 512;

const subjectSyntax = /^[!-),+\-/-=?-~]+(?:\.[!-),+\-/-=?-~]+)*$/;
const patternSyntax = /^(?:(?:[!-),+\-/-=?-~]+|\*)\.)*(?:[!-),+\-/-=?-~]+|\*|>)$/;

/** Tokens of printable ASCII without `.`, `*` and `>`, joined by dots. */
export function isSubject(text: string): boolean {
  return text.length <= subjectBytesMax && subjectSyntax.test(text);
}

/** A subject in which `*` may stand for a token and a last `>` for one or more. */
export function isPattern(text: string): boolean {
  return text.length <= subjectBytesMax && patternSyntax.test(text);
}

export function assertSubject(text: string): void {
  assert(isSubject(text), `${JSON.stringify(text.slice(0, 80))} is not a wire subject [W1]`);
}

export function assertPattern(text: string): void {
  assert(isPattern(text), `${JSON.stringify(text.slice(0, 80))} is not a wire pattern [W1]`);
}

/** Whether every subject that `inner` (a subject or pattern) stands for is one of `outer`'s. */
export function covers(outer: string, inner: string): boolean {
  const outerTokens = outer.split(".");
  const innerTokens = inner.split(".");
  for (const [index, token] of outerTokens.entries()) {
    const other = innerTokens[index];
    if (other === undefined) return false;
    if (token === ">") return true;
    if (other === ">" || (token !== "*" && token !== other)) return false;
  }
  return outerTokens.length === innerTokens.length;
}

interface Branch<Value> {
  readonly next: Map<string, Branch<Value>>;
  readonly values: Set<Value>;
}

function branch<Value>(): Branch<Value> {
  return { next: new Map(), values: new Set() };
}

/** Values filed under patterns and found by subject, in time that grows with its tokens only. */
export class SubjectIndex<Value> {
  readonly #root = branch<Value>();

  add(pattern: string, value: Value): void {
    let at = this.#root;
    for (const token of pattern.split(".")) {
      let next = at.next.get(token);
      if (next === undefined) {
        next = branch<Value>();
        at.next.set(token, next);
      }
      at = next;
    }
    at.values.add(value);
  }

  remove(pattern: string, value: Value): void {
    this.#remove(this.#root, pattern.split("."), 0, value);
  }

  /** The most specific pattern's values first: a token before `*`, `*` before `>`. */
  find(subject: string): Value[] {
    const found: Value[] = [];
    this.#find(this.#root, subject.split("."), 0, found);
    return found;
  }

  #find(at: Branch<Value>, tokens: readonly string[], index: number, found: Value[]): void {
    const token = tokens[index];
    if (token === undefined) {
      found.push(...at.values);
      return;
    }
    for (const step of [token, "*"]) {
      const next = at.next.get(step);
      if (next !== undefined) this.#find(next, tokens, index + 1, found);
    }
    const rest = at.next.get(">");
    if (rest !== undefined) found.push(...rest.values);
  }

  #remove(at: Branch<Value>, tokens: readonly string[], index: number, value: Value): void {
    const token = tokens[index];
    if (token === undefined) {
      at.values.delete(value);
      return;
    }
    const next = at.next.get(token);
    if (next === undefined) return;
    this.#remove(next, tokens, index + 1, value);
    if (next.values.size === 0 && next.next.size === 0) at.next.delete(token);
  }
}

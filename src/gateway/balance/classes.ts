import { foldsAlways, pathSegments } from "./segments.ts";

// The classes of one app's requests, found without being told: a method and a path template.
// Paths are kept in a tree of segments. What looks like an id is `{}` at once; a node that gets
// more than `literalsMax` different segments keeps those with much of its traffic and folds the
// others into one `{}`:
//
//   literal ─(too many siblings, and seldom)─→ folded into {}
//      ↑                                           │
//      └──(much of what is folded at its place)────┘
//
// So junk paths (scanners) fold together and the routes in use stay apart. The number of classes
// is bounded; a path that finds no room belongs to the class `other`.

/** Classes of an app, `other` not counted. */
export const classesMax = 64;
/** Different segments at one place of a path before seldom ones are folded. */
const literalsMax = 16;
/** Less than this share of the requests at its place, or so few, make a segment seldom. */
const seldomShare = 1 / 32;
const seldomRequests = 8;
/** Of so many requests to a folded place a segment that has this share comes out of it again. */
const reviewRequests = 256;
const frequentShare = 1 / 8;
const wildcard = "{}";
export const otherName = "other";

/** Requests of one app thought to cost the same. */
export class RouteClass {
  /** `GET /users/{}` */
  readonly name: string;
  /** CPU-µs a request is thought to use; null: nothing is known. */
  costUs: number | null = null;
  requests = 0;
  /** Requests are counted there now. */
  into: RouteClass | null = null;

  constructor(name: string) {
    this.name = name;
  }

  /** The class that stands for it after folds. */
  get present(): RouteClass {
    let present: RouteClass = this;
    while (present.into !== null) present = present.into;
    return present;
  }
}

interface TreeNode {
  readonly literals: Map<string, TreeNode>;
  /** Ids, and words once `foldsWords`. */
  folded: TreeNode | null;
  foldsWords: boolean;
  /** Words folded here, counted since the last review by Misra and Gries' rule. */
  counts: Map<string, number> | null;
  countedRequests: number;
  readonly classes: Map<string, RouteClass>;
}

const emptyNode = (): TreeNode => ({
  literals: new Map(),
  folded: null,
  foldsWords: false,
  counts: null,
  countedRequests: 0,
  classes: new Map(),
});

function requestsBelow(node: TreeNode): number {
  let requests = node.folded === null ? 0 : requestsBelow(node.folded);
  for (const { requests: own } of node.classes.values()) requests += own;
  for (const child of node.literals.values()) requests += requestsBelow(child);
  return requests;
}

export class RouteClasses {
  readonly other: RouteClass = new RouteClass(otherName);
  private readonly root = emptyNode();
  private readonly names = new Map<string, RouteClass>();
  /** Paths without a folded segment, as they come: the common case is one look-up. */
  private readonly known = new Map<string, Map<string, RouteClass>>();

  get size(): number {
    return this.names.size;
  }

  /** The class of a request. @param target path and query */
  of(method: string, target: string): RouteClass {
    const queryAt = target.indexOf("?");
    const path = queryAt < 0 ? target : target.slice(0, queryAt);
    const found = this.known.get(method)?.get(path) ?? this.walk(method, path);
    found.requests += 1;
    return found;
  }

  /** The class of this name, made when there is room: another gateway found it. */
  adopt(name: string): RouteClass {
    const space = name.indexOf(" ");
    if (space < 0) return this.other;
    const segments = pathSegments(name.slice(space + 1));
    const found = this.ensure(this.root, segments, 0, name.slice(0, space), "", false);
    return found?.present ?? this.other;
  }

  [Symbol.iterator](): Iterator<RouteClass> {
    return this.names.values();
  }

  private walk(method: string, path: string): RouteClass {
    const segments = pathSegments(path);
    const found = this.ensure(this.root, segments, 0, method, "", true);
    if (found === null) return this.other;
    // In its one spelling: others (`//`, a last `/`) are without number.
    if (found.name.length === method.length + 1 + path.length && found.name.endsWith(path)) {
      const paths = this.known.get(method) ?? new Map<string, RouteClass>();
      this.known.set(method, paths.set(path, found));
    }
    return found.present;
  }

  /** The class below `node`; null: no room for a new one. */
  private ensure(
    node: TreeNode,
    segments: readonly string[],
    depth: number,
    method: string,
    prefix: string,
    counted: boolean,
  ): RouteClass | null {
    const segment = segments[depth];
    if (segment === undefined) return this.classAt(node, method, prefix === "" ? "/" : prefix);
    const isFolded = segment === wildcard || foldsAlways(segment);
    const literal = isFolded ? undefined : node.literals.get(segment);
    const folds = isFolded || (literal === undefined && node.foldsWords);
    if (literal === undefined && !(folds && node.folded !== null) && !this.hasRoom) return null;
    let next = folds ? node.folded : literal;
    if (next === undefined || next === null) {
      next = emptyNode();
      if (folds) node.folded = next;
      else node.literals.set(segment, next);
    }
    if (folds && !isFolded && counted) this.review(node, segment);
    const path = `${prefix}/${folds ? wildcard : segment}`;
    const found = this.ensure(next, segments, depth + 1, method, path, counted);
    if (node.literals.size > literalsMax) this.fold(node, prefix);
    return found;
  }

  /** Lets a word out that is asked for often: scanners may have come before its users. */
  private review(node: TreeNode, segment: string): void {
    node.counts ??= new Map();
    const { counts } = node;
    const count = counts.get(segment);
    if (count !== undefined || counts.size < literalsMax) counts.set(segment, (count ?? 0) + 1);
    else {
      for (const [word, other] of counts) {
        if (other === 1) counts.delete(word);
        else counts.set(word, other - 1);
      }
    }
    node.countedRequests += 1;
    if (node.countedRequests < reviewRequests) return;
    for (const [word, often] of counts) {
      const isFrequent = often >= reviewRequests * frequentShare;
      if (!isFrequent || node.literals.size >= literalsMax || !this.hasRoom) continue;
      node.literals.set(word, emptyNode());
    }
    node.counts = null;
    node.countedRequests = 0;
  }

  private get hasRoom(): boolean {
    return this.names.size < classesMax;
  }

  private classAt(node: TreeNode, method: string, path: string): RouteClass | null {
    const present = node.classes.get(method);
    if (present !== undefined) return present;
    return this.hasRoom ? this.makeClass(node, method, path) : null;
  }

  private makeClass(node: TreeNode, method: string, path: string): RouteClass {
    const made = new RouteClass(`${method} ${path}`);
    node.classes.set(method, made);
    this.names.set(made.name, made);
    return made;
  }

  private fold(node: TreeNode, prefix: string): void {
    this.known.clear();
    node.foldsWords = true;
    const bound = Math.max(seldomRequests, requestsBelow(node) * seldomShare);
    for (const [segment, child] of node.literals) {
      if (requestsBelow(child) > bound) continue;
      node.literals.delete(segment);
      node.folded ??= emptyNode();
      this.merge(node.folded, child, `${prefix}/${wildcard}`);
    }
  }

  /** Puts all of `from` where `into` is. */
  private merge(into: TreeNode, from: TreeNode, prefix: string): void {
    for (const [method, old] of from.classes) {
      const present = into.classes.get(method) ?? this.makeClass(into, method, prefix);
      present.costUs ??= old.costUs;
      present.requests += old.requests;
      old.into = present;
      this.names.delete(old.name);
    }
    for (const [segment, child] of from.literals) {
      const path = `${prefix}/${segment}`;
      const present = into.literals.get(segment);
      const target = present ?? emptyNode();
      if (present === undefined) into.literals.set(segment, target);
      this.merge(target, child, path);
    }
    if (from.folded !== null) {
      into.folded ??= emptyNode();
      into.foldsWords ||= from.foldsWords;
      this.merge(into.folded, from.folded, `${prefix}/${wildcard}`);
    }
    if (into.literals.size > literalsMax) this.fold(into, prefix);
  }
}

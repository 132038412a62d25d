import { expect, test } from "bun:test";
import fc from "fast-check";
import { classesMax, RouteClasses } from "./classes.ts";
import { depthMax, foldsAlways, pathSegments } from "./segments.ts";

const nameOf = (classes: RouteClasses, target: string, method = "GET") =>
  classes.of(method, target).name;

test("ids, dates and long texts fold at once, words do not", () => {
  const folded = ["1", "2024-01-31", "9f86d081", "550e8400-e29b-41d4-a716-446655440000"];
  for (const segment of [...folded, "x".repeat(33)]) expect(foldsAlways(segment)).toBe(true);
  for (const segment of ["users", "v1", "facade", "a-b", "index.html"]) {
    expect(foldsAlways(segment)).toBe(false);
  }
});

test("a class is a method and a template, without the query", () => {
  const classes = new RouteClasses();
  expect(nameOf(classes, "/")).toBe("GET /");
  expect(nameOf(classes, "/users/42?x=1")).toBe("GET /users/{}");
  expect(nameOf(classes, "/users/me")).toBe("GET /users/me");
  expect(nameOf(classes, "/users/43/posts/")).toBe("GET /users/{}/posts");
  expect(nameOf(classes, "/users/42", "PUT")).toBe("PUT /users/{}");
  expect(classes.of("GET", "/users/1")).toBe(classes.of("GET", "/users/2"));
  expect(nameOf(classes, "*", "OPTIONS")).toBe("OPTIONS /*");
});

test("names fold when they are many; a route in use stays itself, whatever scanners ask", () => {
  const classes = new RouteClasses();
  const early = classes.of("GET", "/people/ann");
  early.costUs = 7;
  for (let index = 0; index < 400; index += 1) {
    nameOf(classes, "/search");
    nameOf(classes, `/people/name-of-${index}x`);
    nameOf(classes, `/junk${index}/wp${index}.php`);
  }
  expect(nameOf(classes, "/people/zoe")).toBe("GET /people/{}");
  expect(early.present.name).toBe("GET /people/{}");
  expect(early.present.costUs).toBe(7);
  expect(nameOf(classes, "/search")).toBe("GET /search");
  expect(nameOf(classes, "/junk9/wp9.php")).toBe("GET /{}/{}");
  expect(classes.size).toBeLessThan(classesMax);
});

test("a route that scanners folded before it was ever asked for comes out again", () => {
  const classes = new RouteClasses();
  for (let index = 0; index < 100; index += 1) nameOf(classes, `/junk${index}x`);
  expect(nameOf(classes, "/checkout")).toBe("GET /{}");
  for (let index = 0; index < 1000; index += 1) {
    nameOf(classes, "/checkout");
    nameOf(classes, `/other${index}x`);
  }
  expect(nameOf(classes, "/checkout")).toBe("GET /checkout");
  expect(nameOf(classes, "/other7x")).toBe("GET /{}");
});

test("whatever comes, classes are bounded and the same request has the same class", () => {
  const segment = fc.oneof(
    fc.constantFrom("a", "b", "users", "42", ""),
    fc.string({ maxLength: 4 }).map((text) => text.replace(/[/?]/g, "")),
  );
  const request = fc.record({
    method: fc.constantFrom("GET", "POST", "X"),
    path: fc.array(segment, { maxLength: depthMax + 3 }).map((list) => `/${list.join("/")}`),
  });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 400 }), (requests) => {
      const classes = new RouteClasses();
      const seen = requests.map(({ method, path }) => classes.of(method, path));
      expect(classes.size).toBeLessThanOrEqual(classesMax);
      for (const one of seen) expect(one.present.into).toBe(null);
      for (const { path } of requests) {
        expect(pathSegments(path).length).toBeLessThanOrEqual(depthMax);
      }
      const names = new Set([...classes].map(({ name }) => name));
      expect(names.size).toBe(classes.size);
      for (const one of seen) {
        if (one !== classes.other) expect(names.has(one.present.name)).toBe(true);
      }
      for (const { method, path } of requests.slice(-1)) {
        expect(classes.of(method, path)).toBe(classes.of(method, path));
      }
    }),
    { numRuns: 200, seed: 8 },
  );
});

test("another gateway's classes are adopted", () => {
  const classes = new RouteClasses();
  expect(classes.adopt("GET /users/{}").name).toBe("GET /users/{}");
  expect(classes.of("GET", "/users/7")).toBe(classes.adopt("GET /users/{}"));
  expect(classes.adopt("POST /cart")).toBe(classes.of("POST", "/cart"));
  expect(classes.adopt("other")).toBe(classes.other);
});

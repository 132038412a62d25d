import { expect, test } from "bun:test";
import { parsePage, renderPage, withSection } from "./page.ts";

const text = "# Page\n\nHead.\n\n## One\n\nold\n\n### Part\n\n1\n\n## Two\n\n2\n";

test("a page that is read and written is the same", () => {
  const page = parsePage(text);
  expect([...page.sections.keys()]).toEqual(["One", "Two"]);
  expect(renderPage(page, ["One", "Two"])).toBe(text);
});

test("a section takes the place of its namesake, parts and all, and leaves the others", () => {
  const page = withSection(parsePage(text), "One", ["new $&"]);
  expect(renderPage(page, ["One", "Two"])).toBe(
    "# Page\n\nHead.\n\n## One\n\nnew $&\n\n## Two\n\n2\n",
  );
});

test("sections stand in the order asked for; one that nobody knows goes", () => {
  const page = withSection(parsePage(text), "Three", ["3"]);
  expect(renderPage(page, ["Three", "Four", "Two"])).toBe(
    "# Page\n\nHead.\n\n## Three\n\n3\n\n## Two\n\n2\n",
  );
  expect(renderPage(withSection(parsePage(""), "One", []), ["One"])).toBe("\n\n## One\n");
});

import { expect, test } from "bun:test";
import { parseProcfile } from "./procfile.ts";

function read(text: string): Record<string, string> | string {
  const parsed = parseProcfile(text);
  return parsed.ok ? Object.fromEntries(parsed.value) : parsed.error.message;
}

test("each line is a process; comments, blank lines and line endings do not matter", () => {
  expect(
    read("# start\r\nweb:  node a.js --x=1:2 \r\n\r\nworker: python3 w.py && echo done"),
  ).toEqual({
    web: "node a.js --x=1:2",
    worker: "python3 w.py && echo done",
  });
  expect(read("\ufeffrelease: ./migrate")).toEqual({ release: "./migrate" });
});

test("what is wrong is named with its line", () => {
  expect(read("web: a\nnode server.js")).toBe(
    'Procfile, line 2: "node server.js" has no "name:" before it',
  );
  expect(read("\n\nweb:  ")).toBe("Procfile, line 3: web has no command");
  expect(read("web: a\nweb: b")).toBe("Procfile, line 2: web is there twice");
  expect(read("My Worker: a")).toMatch(/^Procfile, line 1: "My Worker" cannot be a process type/);
  expect(read("# nothing\n")).toBe("Procfile names no process");
});

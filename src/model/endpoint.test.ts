import { expect, test } from "bun:test";
import { formatCloudEndpoint, parseCloudEndpoint } from "./endpoint.ts";

test("an endpoint survives its file", () => {
  const endpoint = { apiUrl: "http://127.0.0.1:4600", pid: 12, version: "0.1.0" };
  expect(parseCloudEndpoint(formatCloudEndpoint(endpoint))).toEqual({ ok: true, value: endpoint });
});

test("a damaged file is told apart by what is wrong", () => {
  for (const [text, reason] of [
    ["", "is not JSON"],
    ["null", "is not a JSON object"],
    ['{"apiUrl":"ftp://x","pid":1,"version":""}', "has no valid apiUrl"],
    ['{"apiUrl":"http://x","pid":"1","version":""}', "has no valid pid"],
    ['{"apiUrl":"http://x","pid":1}', "has no valid version"],
  ] as const) {
    expect(parseCloudEndpoint(text)).toEqual({ ok: false, error: reason });
  }
});

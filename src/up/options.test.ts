import { expect, test } from "bun:test";
import { parseUpOptions } from "./options.ts";

const raw = { httpPort: "8080", apiPort: "4600", domain: "localhost" };

test("the data directory comes from the option, then LODE_DATA_DIR, then the default", () => {
  const directory = (dataDir: string | undefined, env: string | undefined) => {
    const parsed = parseUpOptions(dataDir === undefined ? raw : { ...raw, dataDir }, {
      LODE_DATA_DIR: env,
    });
    return parsed.ok ? parsed.value.dataDirectory : parsed.error;
  };
  expect(directory("/a", "/b")).toBe("/a");
  expect(directory(undefined, "/b")).toBe("/b");
  expect(directory(undefined, undefined)).toBe("/var/lib/lode");
});

test.each([
  [{ ...raw, httpPort: "0" }, '--http-port "0"'],
  [{ ...raw, httpPort: "65536" }, '--http-port "65536"'],
  [{ ...raw, apiPort: "eighty" }, '--api-port "eighty"'],
  [{ ...raw, httpsPort: "" }, '--https-port ""'],
  [{ ...raw, apiPort: "8080" }, "must differ"],
  [{ ...raw, ready: "many" }, '--ready "many"'],
  [{ ...raw, keepReleases: "0" }, '--keep-releases "0"'],
  [{ ...raw, domain: "no spaces" }, '--domain "no spaces"'],
])("%p is refused by name", (options, message) => {
  const parsed = parseUpOptions(options, {});
  expect(parsed.ok ? "" : parsed.error).toContain(message);
});

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { lodeTomlKeys } from "./keys.ts";
import { environmentFault, parseLodeToml } from "./lode-toml.ts";
import { appNameOf } from "./resolve.ts";
import { editDistance, lineOf } from "./toml.ts";

/** `message | remedy` of what is refused, "accepted" otherwise. */
function verdict(text: string): string {
  const parsed = parseLodeToml(text);
  if (parsed.ok) return "accepted";
  const { message, remedy, at } = parsed.error;
  expect(at).toMatch(/^lode\.toml:\d+$/);
  return `${message} | ${remedy}`;
}

const everything = `
app = "shop"
run = { web = "node server.js", worker = "node worker.js" }
build = ["npm run build", " "]
egress = ["10.20.0.0/16", "fd00::1"]

[env]
LEVEL = "info"
WORKERS = 4
DEBUG = false

[resources]
cpu = "0.25:2:4"
memory = { min = "64M", burst = "1G" }
pids = 100
openFiles = 1024
disk = "5G"

[scale]
min = 1
max = 4
inFlight = 10
freeze = 20
idle = "10m"

[http]
health = "/healthz"
timeout = 5
hosts = ["WWW.Example.org", "api.example.org."]
process = "web"
affinity = "cookie:sid"
`;

test("every key is read", () => {
  const parsed = parseLodeToml(everything);
  if (!parsed.ok) throw new Error(parsed.error.message);
  const { run, ...rest } = parsed.value;
  expect(Object.fromEntries(run ?? [])).toEqual({
    web: "node server.js",
    worker: "node worker.js",
  });
  expect(rest as unknown).toEqual({
    app: "shop",
    build: ["npm run build"],
    publish: null,
    egress: { kind: "public-and", cidrs: ["10.20.0.0/16", "fd00::1/128"] },
    env: { LEVEL: "info", WORKERS: "4", DEBUG: "false" },
    cpu: { min: 0.25, max: 2, burst: 4 },
    memory: { min: 64 * 1024 ** 2, max: null, burst: 1024 ** 3 },
    pids: 100,
    openFiles: 1024,
    disk: 5 * 1024 ** 3,
    scaleMin: 1,
    scaleMax: 4,
    inFlight: 10,
    freezeMs: 20_000,
    idleMs: 600_000,
    healthPath: "/healthz",
    healthTimeoutMs: 5000,
    hosts: ["www.example.org", "api.example.org"],
    affinity: { kind: "cookie", name: "sid" },
    process: "web",
  });
});

test("every example in the table of keys is accepted where it stands", () => {
  let examples = 0;
  const accepted = (text: string) => {
    expect(`${text}: ${verdict(text)}`).toBe(`${text}: accepted`);
    examples += 1;
  };
  for (const [name, key] of Object.entries(lodeTomlKeys)) {
    accepted(key.example);
    for (const shape of key.shapes) {
      if (shape.type !== "table") continue;
      for (const [inner, value] of Object.entries(shape.keys)) {
        accepted(`[${name}]\n${value.example}`);
        for (const deep of value.shapes) {
          if (deep.type !== "table") continue;
          for (const bound of Object.values(deep.keys)) {
            accepted(`[${name}.${inner}]\n${bound.example}`);
          }
        }
      }
    }
  }
  expect(examples).toBeGreaterThan(20);
});

describe("what is wrong is named with its line and a way to mend it", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["a = = 1", "line 1: not valid TOML"],
    ["\nrunn = 'x'", "line 2: unknown key runn | did you mean run?"],
    ["[http]\n\nhost = ['a']", "line 3: unknown key http.host | did you mean http.hosts?"],
    ["[htpt]\nhosts = []", "line 1: unknown key htpt | did you mean http?"],
    ["memory = '1G'", "unknown key memory | did you mean resources.memory?"],
    ["[processes]\nweb = 'x'", "unknown key processes | did you mean run?"],
    ["qqqq = 1", "unknown key qqqq | known here: app, run, build"],
    ["[scale]\nresources = 1", "unknown key scale.resources | did you mean resources?"],
    ["__proto__ = 1", "unknown key __proto__"],
    ["run = 5", 'run must be a string or a table, not a number | write it like: run = "node'],
    ["run = { web = 5 }", "line 1: run.web must be a string, not a number"],
    ["run = ''", "line 1: run: the command is empty"],
    ["[run]", "run: the table names no process"],
    ["[run]\n\"Web 1\" = 'x'", 'line 2: run.Web 1: "Web 1" cannot be a process type'],
    ["[scale]\nmin = 1.5", "line 2: scale.min must be a whole number, not a number"],
    ["[scale]\nmin = -1", "scale.min: -1 is not between 0 and 1000"],
    ["[scale]\nmin = 5\nmax = 2", "line 3: scale.max: 2 is below scale.min, 5"],
    ["[scale]\nidle = 'soon'", '"soon" is not a duration; write it like'],
    ["[scale]\nidle = 0", '"0" is no time at all'],
    ["[resources]\ncpu = '4:2'", 'resources.cpu: "4:2" has a min above its max'],
    ["[resources]\ncpu = { min = 4, max = 2 }", "has a min above its max"],
    ["[resources]\nmemory = '0'", "has a bound of 0 bytes"],
    ["[resources.memory]\nmax = 'lots'", 'line 2: resources.memory.max: "lots" is not an amount'],
    ["[env]\nPORT = 80", "line 2: env.PORT: PORT is given by Lode itself"],
    ["[env]\n'A-B' = 'x'", 'line 2: env.A-B: "A-B" is not a variable\'s name'],
    ["[env]\nA = []", "line 2: env.A must be a string or a number or true or false, not a list"],
    ["egress = 'all'", 'egress: "all" is neither "public", "none" nor a list'],
    ["egress = ['10.0.0.0/33']", '"10.0.0.0/33" is not a network'],
    ["[http]\nhealth = 'healthz'", '"healthz" is not a path of a URL'],
    ["[http]\nhosts = ['http://x']", '"http://x" is not a host name'],
    ["[http]\nhosts = 'x.org'", "http.hosts must be a list of strings, not a string"],
    ["publish = '../x'", '"../x" is not inside the app'],
    ["app = 'My App'", "cannot be an app's name"],
    ["build = [1]", "build must be a string or a list of strings, not a list"],
    ["run = 1979-05-27", "not a date"],
  ];
  for (const [text, wanted] of cases) {
    test(JSON.stringify(text), () => expect(verdict(text)).toContain(wanted));
  }
});

test("the line of a key is found among tables, dotted keys and long strings", () => {
  const text = 'a = """\nb = 1\n"""\n[x.y]\nz.w = 1\n"q r" = 2\n[[list]]\nv = 1';
  expect(lineOf(text, ["a"])).toBe(1);
  expect(lineOf(text, ["x", "y", "z", "w"])).toBe(5);
  expect(lineOf(text, ["x", "y", "q r"])).toBe(6);
  expect(lineOf(text, ["x", "y", "nowhere"])).toBe(4);
  expect(lineOf(text, ["list", "v"])).toBe(8);
  expect(lineOf(text, ["absent"])).toBe(1);
});

test("any text is read or refused, never thrown at", () => {
  const words = fc.constantFrom(
    "run",
    "env",
    "[",
    "]",
    "=",
    '"',
    "'",
    "\n",
    ".",
    "{",
    "}",
    "1",
    "a",
  );
  fc.assert(
    fc.property(fc.array(words, { maxLength: 12 }), (parts) => {
      verdict(parts.join(""));
    }),
    { numRuns: 3000, seed: 20_261_122 },
  );
});

test("the distance of two words counts a swap as one", () => {
  expect(editDistance("host", "hosts")).toBe(1);
  expect(editDistance("htpt", "http")).toBe(1);
  expect(editDistance("", "abc")).toBe(3);
  fc.assert(
    fc.property(fc.string(), fc.string(), (left, right) => {
      expect(editDistance(left, right)).toBe(editDistance(right, left));
      expect(editDistance(left, left)).toBe(0);
    }),
    { seed: 20_261_123 },
  );
});

test("the client learns the app's name", () => {
  expect(appNameOf('app = "shop"')).toEqual({ ok: true, value: "shop" as never });
  expect(appNameOf("")).toEqual({ ok: true, value: null });
  expect(appNameOf("app = 1").ok).toBe(false);
});

test("names of Lode's own are not for users to set", () => {
  expect(environmentFault("GREETING", "hello")).toBeNull();
  expect(environmentFault("LODE_APP", "x")).toContain("given by Lode");
  expect(environmentFault("A", "b\0c")).toContain("NUL");
});

// The import rules of the architecture, finer than what the compiler's project references say.
// `npm run check` runs this over src/; tools/canaries.test.ts proves that every rule can fail.
//
// With TypeScript 7 alone dependency-cruiser finds no modules and ends with 0: it needs
// @swc/core, and tools/check.ts refuses a run that saw too few modules.

/** What a folder of src/ may import besides itself, as prefixes of paths under src/. */
const layers = {
  base: [],
  model: ["base/"],
  policy: ["base/", "model/"],
  scheduler: ["base/", "model/", "policy/"],
  metering: ["base/", "model/"],
  fabric: ["base/"],
  identity: ["base/", "model/", "fabric/[^/]+$"],
  control: [
    "base/",
    "model/",
    "policy/",
    "scheduler/",
    "metering/",
    "fabric/[^/]+$",
    "identity/[^/]+$",
  ],
  node: ["base/", "model/", "fabric/[^/]+$"],
  "node/decide": ["base/", "model/"],
  gateway: ["base/", "model/", "fabric/[^/]+$"],
  "gateway/balance": ["base/", "model/"],
  api: ["base/", "model/", "control/operations\\.ts$", "identity/[^/]+$"],
  clients: ["base/", "model/", "api/native/client\\.ts$"],
};

/** Pure folders know no outside: no npm package but their own, no built-in module. */
const pure = ["base", "model", "policy", "scheduler", "metering", "node/decide", "gateway/balance"];

/** Every third-party package has one owner; everyone else talks to the owner. */
const owners = [
  ["smol-toml", "model/config/", "lode.toml is read in one place; nothing else speaks TOML"],
  ["ignore", "clients/cli/", "only the client decides what is uploaded"],
  ["commander", "(?:clients/cli/|main\\.ts$)", "arguments are the command line's"],
  ["@clack/prompts", "clients/cli/", "questions are asked at a terminal only"],
  ["picocolors", "clients/cli/", "colours are the terminal's; records and wires are plain"],
  ["hono", "api/", "HTTP formats stop at the API"],
  ["@hono/zod-openapi", "api/", "schemas of requests are the API's; inside, types suffice"],
  ["zod", "api/", "schemas of requests are the API's; inside, types suffice"],
  ["bun:sqlite", "fabric/sqlite/", "the ledger is the only database"],
  [
    "bun:ffi",
    "(?:node/(?:linux|cgroup|network|sandbox|volume)|gateway/(?:load|sockets)|up)/",
    "the kernel's door",
  ],
];

/** Code that only tests run. */
const testing =
  "(?:\\.(?:test|contract|crash)\\.ts$)|(?:^|/)(?:contract|testing)/|(?:^|[/-])(?:harness|for-test)\\.ts$";

/** Shipped code that only tests and the simulation use: the world they run in. */
const simulated = "^src/(?:base/virtual\\.ts$|fabric/memory/)";

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");

const forbidden = [
  {
    name: "no-cycles",
    comment: "Two modules that need each other are one, or lack a third.",
    severity: "error",
    from: {},
    to: { circular: true },
  },
  {
    name: "resolvable",
    comment: "An import must lead somewhere.",
    severity: "error",
    from: {},
    to: { couldNotResolve: true, pathNot: "^bun(?::|$)" },
  },
  {
    name: "no-tests-in-production",
    comment: "What ships must not need what only tests bring.",
    severity: "error",
    from: { path: "^src/", pathNot: testing },
    to: { path: [testing, "^(?:test|tools|bench|sim)/", "^bun:test$", "/fast-check/"] },
  },
  {
    name: "adapters-apart",
    comment: "An adapter knows the ports and its driver, never another adapter.",
    severity: "error",
    from: { path: "^src/fabric/([^/]+)/", pathNot: testing },
    to: { path: "^src/fabric/[^/]+/", pathNot: "^src/fabric/$1/" },
  },
  {
    name: "ports-without-adapters",
    comment: "A port is what adapters have in common; it names none.",
    severity: "error",
    from: { path: "^src/fabric/[^/]+$", pathNot: testing },
    to: { path: "^src/fabric/[^/]+/" },
  },
  {
    name: "api-modules-apart",
    comment: "native, ec2 and s3 are separate wire formats over the same operations.",
    severity: "error",
    from: { path: "^src/api/([^/]+)/", pathNot: testing },
    to: { path: "^src/api/[^/]+/", pathNot: "^src/api/$1/" },
  },
  {
    name: "nobody-imports-main",
    comment: "main.ts and up/ put the parts together; no part knows them.",
    severity: "error",
    from: { path: "^src/[^/]+/", pathNot: "^src/up/" },
    to: { path: "^src/(?:up/|[^/]+$)" },
  },
  {
    name: "no-dead-modules",
    comment: "Code that main.ts does not reach is dead, unless a test or a process starts it.",
    severity: "error",
    from: { path: "^src/main\\.ts$" },
    to: { path: "^src/", pathNot: [testing, simulated], reachable: false },
  },
  ...Object.entries(layers).map(([layer, allowed]) => ({
    name: `layer-${layer.replace("/", "-")}`,
    comment: `src/${layer} may import: ${["itself", ...allowed].join(", ")}`,
    severity: "error",
    from: { path: `^src/${layer}/`, pathNot: testing },
    to: { path: "^src/", pathNot: [`${layer}/`, ...allowed].map((path) => `^src/${path}`) },
  })),
  ...pure.map((layer) => ({
    name: `pure-${layer.replace("/", "-")}`,
    comment: "A pure folder takes the outside world as arguments.",
    severity: "error",
    from: { path: `^src/${layer}/`, pathNot: testing },
    to: { dependencyTypes: ["core"] },
  })),
  ...owners.map(([name, owner, reason]) => ({
    name: `owner-${name}`,
    comment: `${name} belongs to src/${owner}: ${reason}`,
    severity: "error",
    from: { path: "^src/", pathNot: [`^src/${owner}`, testing] },
    to: { path: name.startsWith("bun:") ? `^${name}$` : `node_modules/${escaped(name)}/` },
  })),
  {
    name: "owned-packages-only",
    comment: "A new dependency needs an owner, and a line above that says why.",
    severity: "error",
    from: { path: "^src/", pathNot: testing },
    to: {
      path: "node_modules/",
      pathNot: owners.map(([name]) => `node_modules/${escaped(name)}/`),
    },
  },
];

export default {
  forbidden,
  options: {
    parser: "swc",
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^(?:\\.build|dist)/" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
      extensions: [".ts", ".mjs", ".js", ".json"],
    },
    builtInModules: { add: ["bun", "bun:test", "bun:sqlite", "bun:ffi", "bun:jsc"] },
  },
};

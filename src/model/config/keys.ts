/** What a value in lode.toml may look like. */
export type Shape =
  | { readonly type: "string" | "integer" | "number" | "boolean" }
  /** A list of strings. */
  | { readonly type: "list" }
  /** Any key; every value of one of these shapes. */
  | { readonly type: "map"; readonly values: readonly Shape[] }
  | { readonly type: "table"; readonly keys: KeyTable };

export interface Key {
  readonly description: string;
  /** As it is written in lode.toml. */
  readonly example: string;
  readonly shapes: readonly Shape[];
}

export type KeyTable = Readonly<Record<string, Key>>;

const text: Shape = { type: "string" };
const integer: Shape = { type: "integer" };
const number: Shape = { type: "number" };
const list: Shape = { type: "list" };

function boundKeys(what: string, examples: readonly [string, string, string]): KeyTable {
  const [min, max, burst] = examples;
  const shapes = [text, number];
  return {
    min: { description: `${what} guaranteed under contention.`, example: `min = ${min}`, shapes },
    max: { description: `${what}, the sustained ceiling.`, example: `max = ${max}`, shapes },
    burst: {
      description: `${what}, the ceiling while the app has credit.`,
      example: `burst = ${burst}`,
      shapes,
    },
  };
}

const resources: KeyTable = {
  cpu: {
    description: "Cores per instance: min:max:burst, or one number for the max.",
    example: 'cpu = "0.25:2:4"',
    shapes: [text, number, { type: "table", keys: boundKeys("Cores", ["0.25", "2", "4"]) }],
  },
  memory: {
    description: "Memory per instance: min:max:burst, or one amount for the max.",
    example: 'memory = "64M:512M:1G"',
    shapes: [text, { type: "table", keys: boundKeys("Memory", ['"64M"', '"512M"', '"1G"']) }],
  },
  pids: {
    description: "Processes and threads of one instance.",
    example: "pids = 1024",
    shapes: [integer],
  },
  openFiles: {
    description: "Open files of each process.",
    example: "openFiles = 65536",
    shapes: [integer],
  },
  disk: {
    description: "What the app may keep in its HOME, shared by its instances.",
    example: 'disk = "1G"',
    shapes: [text],
  },
};

const scale: KeyTable = {
  min: {
    description: "Instances kept awake; 0 lets all sleep when idle.",
    example: "min = 1",
    shapes: [integer],
  },
  max: { description: "The most instances.", example: "max = 4", shapes: [integer] },
  inFlight: {
    description: "Requests in flight per instance beyond which another starts, up to max.",
    example: "inFlight = 32",
    shapes: [integer],
  },
  freeze: {
    description:
      "Time without a request after which instances beyond min are frozen: they keep their " +
      'memory, get no CPU, and the next request thaws them. "never": they are not.',
    example: 'freeze = "30s"',
    shapes: [text, integer],
  },
  idle: {
    description: "Time without a request after which instances beyond min are stopped.",
    example: 'idle = "5m"',
    shapes: [text, integer],
  },
};

const http: KeyTable = {
  health: {
    description: "Path that must answer 200–399 before an instance takes requests.",
    example: 'health = "/healthz"',
    shapes: [text],
  },
  timeout: {
    description: "Time from start to healthy; beyond it, the instance has failed.",
    example: 'timeout = "30s"',
    shapes: [text, integer],
  },
  hosts: {
    description: "Host names of the app besides its own.",
    example: 'hosts = ["www.example.org"]',
    shapes: [list],
  },
  affinity: {
    description:
      "Where a request's key stands: requests with one key go to the instance that holds its " +
      "memory. header:NAME, cookie:NAME, path:N (the Nth segment) or query:NAME.",
    example: 'affinity = "header:x-room"',
    shapes: [text],
  },
  process: {
    description: "The process that takes requests; the others take none.",
    example: 'process = "web"',
    shapes: [text],
  },
};

/** Every key of lode.toml: the parser, its errors and the JSON Schema all come from here. */
export const lodeTomlKeys: KeyTable = {
  app: {
    description: "The app's name, when it is not that of the folder.",
    example: 'app = "my-app"',
    shapes: [text],
  },
  run: {
    description:
      "How to start: a shell line, or a table of one line per process. A line that is just a " +
      "module of the app (src/app.ts) is served by its default export's fetch. The process " +
      "`release` runs once before the switch.",
    example: 'run = "node server.js"',
    shapes: [text, { type: "map", values: [text] }],
  },
  build: {
    description:
      "Shell lines that build the app after its dependencies are installed; [] builds nothing.",
    example: 'build = "npm run build"',
    shapes: [text, list],
  },
  publish: {
    description: "Folder to serve as a static site.",
    example: 'publish = "dist"',
    shapes: [text],
  },
  egress: {
    description:
      'Where the app may connect to: "public" (the default), "none", or private networks ' +
      "(CIDR) allowed besides the public ones.",
    example: 'egress = ["10.20.0.0/16"]',
    shapes: [text, list],
  },
  env: {
    description: "Environment variables. Secrets belong to `lode secrets set`.",
    example: 'env = { LOG_LEVEL = "info" }',
    shapes: [{ type: "map", values: [text, number, { type: "boolean" }] }],
  },
  resources: {
    description: "Limits per instance; `lode limits` changes them on the live app.",
    example: 'resources = { cpu = "2", memory = "512M" }',
    shapes: [{ type: "table", keys: resources }],
  },
  scale: {
    description: "How many instances, and when they sleep.",
    example: 'scale = { min = 1, idle = "5m" }',
    shapes: [{ type: "table", keys: scale }],
  },
  http: {
    description: "How requests reach the app.",
    example: 'http = { health = "/healthz" }',
    shapes: [{ type: "table", keys: http }],
  },
};

/** What people write elsewhere for what lode.toml calls otherwise. */
export const synonyms: Readonly<Record<string, string>> = {
  processes: "run",
  start: "run",
  command: "run",
  cmd: "run",
  web: "run.web",
  worker: "run.worker",
  name: "app",
  environment: "env",
  vars: "env",
  variables: "env",
  static: "publish",
  root: "publish",
  dir: "publish",
  limits: "resources",
  domains: "http.hosts",
  domain: "http.hosts",
  healthcheck: "http.health",
  instances: "scale.min",
  replicas: "scale.min",
  network: "egress",
};

import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { Digest } from "../names.ts";
import type { ManifestEntry, ReleaseConfig } from "../release.ts";
import { checkManifest, compareEntries } from "./manifest.ts";
import type { ConfigProblem } from "./problem.ts";
import { resolveConfig } from "./resolve.ts";
import { filesToRead } from "./tree.ts";

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Paths ending in `*` have the executable bit. */
type Files = Readonly<Record<string, string>>;

function resolve(files: Files): ReleaseConfig | ConfigProblem {
  const texts = new Map<string, string>();
  const entries = Object.entries(files).map(([name, text]): ManifestEntry => {
    const path = name.replace(/\*$/, "");
    texts.set(path, text);
    const size = text.length;
    return { kind: "file", path, digest: sha256(text) as Digest, size, executable: path !== name };
  });
  const manifest = { entries: entries.sort(compareEntries) };
  expect(checkManifest(manifest).ok).toBe(true);
  const contents = new Map(filesToRead(manifest).map((path) => [path, texts.get(path) ?? ""]));
  const resolved = resolveConfig(manifest, contents, { sha256 });
  return resolved.ok ? resolved.value : resolved.error;
}

function config(files: Files): ReleaseConfig {
  const resolved = resolve(files);
  if ("code" in resolved) throw new Error(resolved.message);
  return resolved;
}

function problem(files: Files): string {
  const resolved = resolve(files);
  return "code" in resolved ? `${resolved.message} | ${resolved.remedy}` : "accepted";
}

/** `name listen command` of each process, for reading at a glance. */
function processes(files: Files): readonly string[] {
  return Object.entries(config(files).processes).map(([name, { command, listen }]) => {
    const text = {
      fetch: () => (command.kind === "fetch" ? command.entry : ""),
      static: () => (command.kind === "static" ? command.root : ""),
      shell: () => (command.kind === "shell" ? command.line : ""),
      argv: () => (command.kind === "argv" ? command.argv.join(" ") : ""),
    }[command.kind]();
    return `${name} ${listen} ${command.kind}: ${text}`;
  });
}

function commands(files: Files): readonly string[] {
  return config(files).build.flatMap((step) => [
    `${step.produces} → ${step.output}`,
    ...step.commands,
  ]);
}

const npmPath = 'export PATH="/app/node_modules/.bin:$PATH"; ';
const venvPath = 'export PATH="/app/.venv/bin:$PATH"; ';

describe("what a folder is", () => {
  const cases: readonly (readonly [string, Files, string, readonly string[]])[] = [
    [
      "lode.toml beats a Procfile",
      { "lode.toml": 'run = "./a"', Procfile: "web: ./b" },
      "lode.toml",
      ["web tcp shell: exec ./a"],
    ],
    [
      "a Procfile beats package.json",
      {
        Procfile: "web: ./b\nworker: a | b\nrelease: cd x",
        "package.json": '{"scripts":{"start":"c"}}',
      },
      "procfile",
      ["web tcp shell: exec ./b", "worker none shell: a | b", "release none shell: cd x"],
    ],
    [
      "a start script beats a module",
      {
        "package.json": '{"scripts":{"prestart":"a","start":"node b.js"},"dependencies":{"c":"1"}}',
        "index.ts": "export default {fetch(){}}",
      },
      "package.json",
      [`web tcp shell: ${npmPath}a && exec node b.js`],
    ],
    [
      "a module with a default export",
      {
        "index.ts": "// export default x\nconst a = 1;\nexport { a as default };",
        "index.html": "",
      },
      "fetch",
      ["web unix fetch: index.ts"],
    ],
    [
      "package.json's main",
      { "package.json": '{"main":"./lib/web.js"}', "lib/web.js": "export default app" },
      "fetch",
      ["web unix fetch: lib/web.js"],
    ],
    [
      "a server without a start script",
      { "package.json": "{}", "server.js": "http.createServer(f).listen(process.env.PORT)" },
      "package.json",
      ["web tcp argv: node server.js"],
    ],
    [
      "a server that exports itself",
      { "package.json": "{}", "app.js": "app.listen(process.env.PORT); export default app" },
      "package.json",
      ["web tcp argv: node app.js"],
    ],
    [
      "a fetch handler that can also serve itself",
      { "app.js": "serve({ fetch: app.fetch }); export default app" },
      "fetch",
      ["web unix fetch: app.js"],
    ],
    [
      "a Bun server alone",
      { "main.ts": "Bun.serve({ fetch: f })" },
      "executable",
      ["web tcp argv: bun main.ts"],
    ],
    [
      "Python without dependencies",
      { "main.py": "print('x')" },
      "python",
      ["web tcp shell: exec python3 main.py"],
    ],
    [
      "FastAPI with uvicorn",
      {
        "main.py": "from fastapi import FastAPI\napi = FastAPI()",
        "requirements.txt": "uvicorn[standard]>=0.3",
      },
      "python",
      [`web tcp shell: ${venvPath}exec uvicorn main:api --host 0.0.0.0 --port $PORT`],
    ],
    [
      "Flask with gunicorn",
      { "app.py": "app = Flask(__name__)", "requirements.txt": "Flask\nGunicorn==22" },
      "python",
      [`web tcp shell: ${venvPath}exec gunicorn --bind 0.0.0.0:$PORT app:app`],
    ],
    [
      "Flask alone",
      { "app.py": "server = flask.Flask(__name__)", "requirements.txt": "flask" },
      "python",
      [`web tcp shell: ${venvPath}exec flask --app app run --host 0.0.0.0 --port $PORT`],
    ],
    [
      "Flask that runs itself",
      {
        "app.py": "app = Flask(__name__)\nif __name__ == '__main__':\n  app.run()",
        "requirements.txt": "flask",
      },
      "python",
      [`web tcp shell: ${venvPath}exec python3 app.py`],
    ],
    [
      "Django",
      { "manage.py": "", "shop/wsgi.py": "", "requirements.txt": "django\ngunicorn" },
      "python",
      [`web tcp shell: ${venvPath}exec gunicorn --bind 0.0.0.0:$PORT shop.wsgi`],
    ],
    [
      "a jar",
      { "target/a.jar": "", "target/original-a.jar": "", "target/a-sources.jar": "" },
      "jar",
      [
        "web tcp shell: SERVER_PORT=$PORT QUARKUS_HTTP_PORT=$PORT MICRONAUT_SERVER_PORT=$PORT " +
          "exec java -XX:MaxRAMPercentage=70 -XX:+ExitOnOutOfMemoryError -jar target/a.jar",
      ],
    ],
    ["a binary", { "tool*": "", "README.md": "" }, "executable", ["web tcp argv: ./tool"]],
    [
      "a binary among others",
      { "bin/server*": "", "a*": "", "b*": "" },
      "executable",
      ["web tcp argv: ./bin/server"],
    ],
    [
      "a site, whose script is the browser's",
      { "index.html": '<script src="app.js">', "app.js": "export default 1; x.listen()" },
      "static",
      ["web unix static: ."],
    ],
    ["a site in a folder", { "public/index.html": "" }, "static", ["web unix static: public"]],
    [
      "a generated site",
      {
        "index.html": "",
        "package.json": '{"scripts":{"build":"vite build"},"devDependencies":{"vite":"5"}}',
      },
      "static",
      ["web unix static: dist"],
    ],
  ];
  for (const [what, files, kind, wanted] of cases) {
    test(what, () => {
      expect(processes(files)).toEqual(wanted);
      expect(config(files).recognition.kind as string).toBe(kind);
      expect(config(files).recognition.reason).toMatch(/^[\x20-\x7e]{10,}$/);
    });
  }
});

describe("lode.toml", () => {
  test("a line that is a module is served by its fetch, or run when it takes no requests", () => {
    const toml = '[run]\nweb = "api/a.ts"\nworker = "./api/b.js"\nother = "api/c.ts"';
    const files = { "lode.toml": toml, "api/a.ts": "", "api/b.js": "" };
    expect(processes(files)).toEqual([
      "web unix fetch: api/a.ts",
      "worker none argv: node api/b.js",
      "other none shell: exec api/c.ts",
    ]);
  });

  test("publish serves a folder, and may have workers beside it", () => {
    expect(processes({ "lode.toml": 'publish = "./out/"\nrun = { worker = "./w" }' })).toEqual([
      "worker none shell: exec ./w",
      "web unix static: out",
    ]);
    expect(problem({ "lode.toml": 'publish = "x"\nrun = "y"' })).toMatch(
      /both publish and a run line/,
    );
  });

  test("its limits, scale, health and environment reach the release", () => {
    const toml =
      'run = "./a"\negress = "none"\n[env]\nNODE_ENV = "test"\n[resources]\nmemory = "1G"\n' +
      '[scale]\nmin = 2\nfreeze = "never"\nidle = "1h"\n[http]\nhealth = "/up"\nhosts = ["a.org", "A.org"]';
    expect(config({ "lode.toml": toml, "package.json": "{}" })).toMatchObject({
      limits: { memory: { min: null, max: 1024 ** 3, burst: null }, pids: 1024 },
      scale: { min: 2, max: 2, freezeMs: null, idleMs: 3_600_000 },
      http: { process: "web", hosts: ["a.org"], health: { path: "/up", timeoutMs: 30_000 } },
      egress: { kind: "none" },
      env: { NODE_ENV: "test" },
    });
  });

  test("http.process names who takes requests", () => {
    const run = "[run]\napi = './a'\nrelease = './r'\n[http]\n";
    const files = (http: string) => ({ "lode.toml": `${run}${http}` });
    expect(processes(files('process = "api"'))[0]).toBe("api tcp shell: exec ./a");
    expect(problem(files('process = "apo"'))).toContain("the processes are: api, release");
    expect(problem(files('process = "release"'))).toContain("cannot take requests");
    expect(problem(files('health = "/"'))).toContain("no process takes requests");
    expect(config(files("")).http).toBeNull();
  });

  test("build lines replace the build script", () => {
    const manifest = '{"scripts":{"build":"x"},"dependencies":{"a":"1"}}';
    const files = (build: string) => ({
      "lode.toml": `run = "./a"\nbuild = ${build}`,
      "package.json": manifest,
    });
    expect(commands(files('["make", "make test"]')).slice(-3)).toEqual([
      "app → .",
      "make",
      "make test",
    ]);
    expect(commands(files("[]"))).toEqual([
      "dependencies → node_modules",
      "npm install --no-audit --no-fund --omit=dev",
    ]);
    expect(commands({ "lode.toml": 'run = "./a"\nbuild = "go build"', "go.mod": "" })).toEqual([
      "app → .",
      "go build",
    ]);
  });

  test("a jar's heap follows its memory", () => {
    const files = { "a.jar": "", "lode.toml": '[resources]\nmemory = "64M:512M:1G"' };
    expect(processes(files)[0]).toContain(`exec java -XX:MaxRAM=${1024 ** 3} `);
  });
});

describe("defaults", () => {
  test("what Lode serves itself may sleep, a program stays awake", () => {
    expect(config({ "index.html": "" }).scale).toEqual({
      min: 0,
      max: 1,
      inFlight: 32,
      freezeMs: 30_000,
      idleMs: 300_000,
    });
    expect(config({ "index.js": "export default a" }).scale.min).toBe(0);
    expect(config({ "a*": "" }).scale.min).toBe(1);
    expect(config({ Procfile: "worker: a" })).toMatchObject({ http: null, scale: { min: 1 } });
  });

  test("nothing recognised names everything looked for, and the way out", () => {
    expect(problem({})).toContain("the folder is empty");
    const looked = problem({ "notes.txt": "" });
    for (const what of [
      "lode.toml",
      "Procfile",
      "start script",
      "index.ts",
      "app.py",
      ".jar",
      "index.html",
    ]) {
      expect(looked).toContain(what);
    }
    expect(problem({ "package.json": "{}" })).toContain("has no start script");
    expect(problem({ Dockerfile: "" })).toContain("Lode builds no images");
    expect(problem({ "go.mod": "" })).toContain("go build -o server");
  });

  test("broken files are named", () => {
    expect(problem({ "package.json": "{" })).toContain("package.json is not valid JSON");
    expect(problem({ "package.json": "[]" })).toContain("package.json is not a JSON object");
    expect(problem({ "lode.toml": "x = " })).toContain("lode.toml, line 1");
    expect(problem({ "lode.toml": "#".repeat(300_000) })).toContain("too large");
    expect(problem({ "package.json": " ".repeat(300_000) })).toContain("too large");
    expect(problem({ Procfile: "#".repeat(300_000) })).toContain("too large");
    expect(problem({ "app.py": "", "pyproject.toml": "= 1" })).toContain("pyproject.toml, line 1");
  });
});

test("hostile text costs no more than reading it", () => {
  const size = 250_000;
  const fill = (piece: string) => piece.repeat(size / piece.length);
  const pieces = [
    "/*",
    "//",
    "\n",
    " ",
    '"',
    "'\\",
    '"\\"',
    "`${",
    "export{",
    "export ",
    "a.",
    "(",
    "\\",
  ];
  // Quadratic work would take minutes and end by the limit below.
  for (const piece of pieces) {
    const text = fill(piece);
    resolve({ "index.ts": text, "app.py": text, "lode.toml": `a = ${text}` });
    resolve({ "index.ts": text, "requirements.txt": text, "app.py": text });
    resolve({ "main.py": text, "pyproject.toml": text });
    expect(problem({ Procfile: `web: x ${text}y` })).toMatch(/longer than 8192|has no "name:"/);
    resolve({ "package.json": JSON.stringify({ scripts: { start: text }, packageManager: text }) });
    resolve({ "lode.toml": `${text.replace(/[^a-z]/g, "a")} = 1` });
    resolve({ "lode.toml": `a = ${fill("[")}` });
  }
}, 60_000);

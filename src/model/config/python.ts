import { ok, type Result } from "../../base/result.ts";
import type { BuildStep } from "../release.ts";
import { type BuildContext, buildStep } from "./build-step.ts";
import type { ConfigProblem } from "./problem.ts";
import { shellWord } from "./shell.ts";
import { parseToml } from "./toml.ts";
import type { Tree } from "./tree.ts";

export const pythonEntries: readonly string[] = [
  "app.py",
  "main.py",
  "server.py",
  "wsgi.py",
  "asgi.py",
  "application.py",
  "run.py",
];

export interface PythonDependencies {
  /** Names of the packages asked for, in lowercase; those of included files too. */
  readonly packages: ReadonlySet<string>;
  /** Null: the standard library is enough. */
  readonly step: BuildStep | null;
  readonly note: string | null;
}

const none: PythonDependencies = { packages: new Set(), step: null, note: null };

/** A virtual environment from requirements.txt, or else from pyproject.toml's project table. */
export function pythonDependencies(
  tree: Tree,
  context: BuildContext,
): Result<PythonDependencies, ConfigProblem> {
  if (tree.has("requirements.txt")) return ok(fromRequirements(tree, context));
  if (tree.has("pyproject.toml")) return fromProject(tree, context);
  return ok(none);
}

function venvStep(
  tree: Tree,
  context: BuildContext,
  inputs: readonly string[] | null,
  what: string,
): BuildStep {
  return buildStep(tree, context, {
    produces: "dependencies",
    inputs,
    commands: [
      "python3 -m venv .venv",
      `.venv/bin/pip install --no-input --disable-pip-version-check ${what}`,
    ],
    output: ".venv",
  });
}

function fromRequirements(tree: Tree, context: BuildContext): PythonDependencies {
  const read = readRequirements(tree, "requirements.txt");
  if (read.packages.size === 0 && read.inputs !== null && read.inputs.length === 1) return none;
  const inputs = read.inputs === null ? null : [...new Set(read.inputs)].sort();
  return {
    packages: read.packages,
    step: venvStep(tree, context, inputs, "-r requirements.txt"),
    note: "dependencies by pip (requirements.txt)",
  };
}

interface Requirements {
  readonly packages: ReadonlySet<string>;
  /** Files that pip will look at; null: too many to say, so all. */
  readonly inputs: readonly string[] | null;
}

function readRequirements(tree: Tree, path: string, above: readonly string[] = []): Requirements {
  const text = tree.text(path);
  if (text === null || above.includes(path)) return { packages: new Set(), inputs: null };
  const packages = new Set<string>();
  let inputs: string[] | null = [path];
  for (const raw of text.replaceAll("\\\n", " ").split(/\r?\n/)) {
    const line = raw.replace(/(?:^|\s)#.*$/, "").trim();
    const included = /^(?:-r|-c|--requirement|--constraint)[\s=]+(\S+)$/.exec(line)?.[1];
    const local = /^(?:-e\s|--editable|-f\s|--find-links|file:|\.{0,2}\/)|^\.$|@\s*file:/.test(
      line,
    );
    if (included !== undefined) {
      const folder = path.slice(0, path.lastIndexOf("/") + 1);
      const inner = readRequirements(tree, `${folder}${included.replace(/^\.\//, "")}`, [
        ...above,
        path,
      ]);
      for (const name of inner.packages) packages.add(name);
      inputs = inner.inputs === null || inputs === null ? null : [...inputs, ...inner.inputs];
    } else if (local || /\.whl\b|\.tar\.gz\b/.test(line)) {
      const wheel = line.replace(/^\.\//, "").split(/[\s;]/)[0] ?? "";
      inputs = inputs !== null && tree.has(wheel) ? [...inputs, wheel] : null;
    } else {
      const name = requirementName(line);
      if (name !== null) packages.add(name);
    }
  }
  return { packages, inputs };
}

function requirementName(line: string): string | null {
  return /^[A-Za-z0-9][\w.-]*/.exec(line)?.[0].toLowerCase().replace(/[_.]/g, "-") ?? null;
}

function fromProject(tree: Tree, context: BuildContext): Result<PythonDependencies, ConfigProblem> {
  const document = parseToml("pyproject.toml", tree.text("pyproject.toml") ?? "");
  if (!document.ok) return document;
  const project = document.value.root["project"];
  if (typeof project !== "object" || project === null) return ok(none);
  const { dependencies } = project as { readonly dependencies?: unknown };
  if (!Array.isArray(dependencies)) {
    const dynamic = document.value.root["build-system"] !== undefined;
    if (!dynamic) return ok(none);
    const note = "dependencies by pip (the project itself, by its build system)";
    return ok({ packages: new Set(), step: venvStep(tree, context, null, "."), note });
  }
  const wanted = dependencies.filter((item) => typeof item === "string");
  if (wanted.length === 0) return ok(none);
  const packages = new Set(wanted.flatMap((item) => requirementName(item) ?? []));
  const locks = ["uv.lock", "poetry.lock", "pdm.lock"].filter((lock) => tree.has(lock));
  const sources = ["pyproject.toml", ...locks.map((lock) => `not ${lock}`)].join(", ");
  const note = `dependencies by pip (${sources})`;
  const what = wanted.map(shellWord).join(" ");
  return ok({ packages, step: venvStep(tree, context, ["pyproject.toml"], what), note });
}

export interface PythonStart {
  readonly line: string;
  readonly reason: string;
}

/** The line that serves a Python app, by what it depends on; null: no entry was found. */
export function pythonStart(tree: Tree, packages: ReadonlySet<string>): PythonStart | null {
  if (tree.has("manage.py")) return djangoStart(tree, packages);
  const entry = pythonEntries.find((path) => tree.has(path));
  if (entry === undefined) return null;
  const module = entry.slice(0, -".py".length);
  const text = tree.text(entry) ?? "";
  const name = applicationName(text);
  const asgi = /\b(?:FastAPI|Starlette|Quart|Litestar)\s*\(/.test(text) || module === "asgi";
  const runsItself = /^if\s+__name__\s*==\s*["']__main__["']/m.test(text);
  if (name !== null && asgi && packages.has("uvicorn")) {
    const line = `uvicorn ${module}:${name} --host 0.0.0.0 --port $PORT`;
    return { line, reason: `${entry} has the ASGI application "${name}": uvicorn serves it` };
  }
  if (name !== null && !asgi && packages.has("gunicorn")) {
    const line = `gunicorn --bind 0.0.0.0:$PORT ${module}:${name}`;
    return { line, reason: `${entry} has the WSGI application "${name}": gunicorn serves it` };
  }
  if (name !== null && !asgi && packages.has("flask") && !runsItself) {
    const line = `flask --app ${module} run --host 0.0.0.0 --port $PORT`;
    return { line, reason: `${entry} is a Flask app: Flask's own server runs it` };
  }
  const line = `python3 ${entry}`;
  return { line, reason: `${entry} is there: it is run by python3 and must listen on $PORT` };
}

/** The variable at the top level that is made by a framework or named as WSGI wants it. */
function applicationName(text: string): string | null {
  const made =
    /^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)*(?:Flask|FastAPI|Starlette|Quart|Litestar)\s*\(/m;
  const named = /^(?:def\s+|(?=\w+\s*=[^=]))(application|app)\b/m;
  return made.exec(text)?.[1] ?? named.exec(text)?.[1] ?? null;
}

function djangoStart(tree: Tree, packages: ReadonlySet<string>): PythonStart {
  const [wsgi] = tree.files((path) => /^[^/]+\/wsgi\.py$/.test(path));
  const [asgi] = tree.files((path) => /^[^/]+\/asgi\.py$/.test(path));
  const moduleOf = (path: string) => path.slice(0, -".py".length).replaceAll("/", ".");
  if (wsgi !== undefined && packages.has("gunicorn")) {
    const line = `gunicorn --bind 0.0.0.0:$PORT ${moduleOf(wsgi.path)}`;
    return { line, reason: "manage.py is there: gunicorn serves the Django project" };
  }
  if (asgi !== undefined && packages.has("uvicorn")) {
    const line = `uvicorn ${moduleOf(asgi.path)}:application --host 0.0.0.0 --port $PORT`;
    return { line, reason: "manage.py is there: uvicorn serves the Django project" };
  }
  return {
    line: "python3 manage.py runserver --noreload 0.0.0.0:$PORT",
    reason:
      "manage.py is there: Django's development server runs it " +
      "(add gunicorn to requirements.txt for production)",
  };
}

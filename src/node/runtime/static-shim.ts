// Runs inside an app's sandbox, as the app: `bun static-shim.ts ROOT SOCKET [GATE]`. It
// serves the files under ROOT on the unix socket SOCKET. A file SOCKET.listens tells Lode that it
// does. With GATE, a descriptor, it waits there for a byte first, as fetch-shim.ts does.
//
// Self-contained (this text is embedded in the lode executable and written out for apps).
import { closeSync, readSync, realpathSync, type Stats } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { join, resolve, sep } from "node:path";

interface Found {
  readonly path: string;
  readonly stat: Stats;
}

const encodings = [
  ["br", ".br"],
  ["gzip", ".gz"],
] as const;

/** Answers for the files under `rootPath` (absolute). Symlinks that leave it are not followed. */
export function createStaticHandler(rootPath: string): (request: Request) => Promise<Response> {
  const root = realpathSync(rootPath);

  async function find(path: string): Promise<Found | null> {
    try {
      const real = await realpath(path);
      if (real !== root && !real.startsWith(root + sep)) return null;
      return { path: real, stat: await stat(real) };
    } catch {
      return null;
    }
  }

  async function findFile(path: string): Promise<Found | null> {
    const found = await find(path);
    return found?.stat.isFile() ? found : null;
  }

  async function send(request: Request, file: Found, path: string): Promise<Response> {
    const encoded = await findEncoded(request, path);
    const chosen = encoded?.file ?? file;
    const headers = new Headers({
      "content-type": contentType(file.path),
      "cache-control": "public, max-age=0, must-revalidate",
      "last-modified": chosen.stat.mtime.toUTCString(),
      etag: etagOf(chosen.stat),
      "accept-ranges": "bytes",
      "x-content-type-options": "nosniff",
    });
    if (encoded !== null) headers.set("content-encoding", encoded.encoding);
    if (encoded !== null || (await hasEncoded(path))) headers.set("vary", "accept-encoding");
    if (notModified(request, chosen.stat)) return new Response(null, { status: 304, headers });
    return body(request, chosen, headers);
  }

  async function hasEncoded(path: string): Promise<boolean> {
    for (const [, suffix] of encodings) if ((await findFile(path + suffix)) !== null) return true;
    return false;
  }

  async function findEncoded(request: Request, path: string) {
    const accepted = request.headers.get("accept-encoding");
    if (accepted === null || request.headers.has("range")) return null;
    for (const [encoding, suffix] of encodings) {
      if (!accepts(accepted, encoding)) continue;
      const file = await findFile(path + suffix);
      if (file !== null) return { encoding, file };
    }
    return null;
  }

  async function notFound(request: Request): Promise<Response> {
    const page = await findFile(join(root, "404.html"));
    if (page === null) return text(404, "Not found\n");
    const headers = { "content-type": "text/html;charset=utf-8" };
    return new Response(request.method === "HEAD" ? null : Bun.file(page.path), {
      status: 404,
      headers,
    });
  }

  return async (request) => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      return text(405, "Only GET and HEAD are served here\n", { allow: "GET, HEAD" });
    }
    const url = new URL(request.url);
    const relative = safePath(url.pathname);
    if (relative === null) return notFound(request);
    const path = join(root, relative);
    const found = await find(path);
    if (found === null) return notFound(request);
    if (found.stat.isFile() && !url.pathname.endsWith("/")) return send(request, found, path);
    if (!found.stat.isDirectory()) return notFound(request);
    const index = join(path, "index.html");
    const page = await findFile(index);
    if (page === null) return notFound(request);
    if (url.pathname.endsWith("/")) return send(request, page, index);
    // Relative, as the scheme and port that the client sees are not known here. A leading
    // double slash would name another host.
    const location = `${url.pathname.replace(/^\/+/, "/")}/${url.search}`;
    return new Response(null, { status: 301, headers: { location } });
  };
}

/** The path below the root; null for what is never served (hidden files, `..`, bad escapes). */
function safePath(pathname: string): string | null {
  let decoded: string;
  try {
    decoded = decodeURIComponent(pathname);
  } catch {
    return null;
  }
  if (decoded.includes("\0") || decoded.includes("\\")) return null;
  const segments = decoded.split("/").filter((segment) => segment !== "");
  const hidden = segments.some(
    (segment, index) => segment.startsWith(".") && !(index === 0 && segment === ".well-known"),
  );
  return hidden ? null : segments.join("/");
}

function contentType(path: string): string {
  const type = Bun.file(path).type;
  return type === "" ? "application/octet-stream" : type;
}

function etagOf(stat: Stats): string {
  return `"${Math.trunc(stat.mtimeMs).toString(16)}-${stat.size.toString(16)}"`;
}

/** RFC 9110, 13.2.2: If-None-Match wins over If-Modified-Since. */
function notModified(request: Request, stat: Stats): boolean {
  const tags = request.headers.get("if-none-match");
  if (tags !== null) {
    const own = etagOf(stat);
    return tags.split(",").some((tag) => {
      const candidate = tag.trim();
      return candidate === "*" || candidate === own || candidate === `W/${own}`;
    });
  }
  // Exact, as nginx has it: after a rollback a file may be older and still be another.
  return request.headers.get("if-modified-since") === stat.mtime.toUTCString();
}

/** Whether the header names the coding with a weight above 0. */
function accepts(header: string, encoding: string): boolean {
  return header.split(",").some((part) => {
    const [name, ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    return name === encoding && !parameters.some((piece) => /^q=0(\.0*)?$/.test(piece));
  });
}

function body(request: Request, file: Found, headers: Headers): Response {
  const size = file.stat.size;
  const range = requestedRange(request, file.stat);
  if (range === "unsatisfiable") {
    headers.set("content-range", `bytes */${size}`);
    return new Response(null, { status: 416, headers });
  }
  const [from, to] = range ?? [0, size - 1];
  headers.set("content-length", String(to - from + 1));
  if (range !== null) headers.set("content-range", `bytes ${from}-${to}/${size}`);
  const status = range === null ? 200 : 206;
  if (request.method === "HEAD") return new Response(null, { status, headers });
  const content = Bun.file(file.path);
  return new Response(range === null ? content : content.slice(from, to + 1), { status, headers });
}

/**
 * First and last byte of a single range. Null: the whole file (no range, one that is not
 * understood, or several, which a server may answer with everything).
 */
function requestedRange(request: Request, stat: Stats): [number, number] | "unsatisfiable" | null {
  const header = request.headers.get("range");
  const match = header === null ? null : /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  if (match === null) return null;
  const condition = request.headers.get("if-range");
  const current = [etagOf(stat), stat.mtime.toUTCString()];
  if (condition !== null && !current.includes(condition.trim())) return null;
  const [first = "", last = ""] = match.slice(1);
  if (first === "" && last === "") return null;
  if (first === "") {
    const length = Math.min(Number(last), stat.size);
    return length === 0 ? "unsatisfiable" : [stat.size - length, stat.size - 1];
  }
  const from = Number(first);
  const to = last === "" ? stat.size - 1 : Math.min(Number(last), stat.size - 1);
  if (last !== "" && Number(last) < from) return null;
  return from >= stat.size ? "unsatisfiable" : [from, to];
}

function text(status: number, message: string, headers: Record<string, string> = {}): Response {
  return new Response(message, {
    status,
    headers: { "content-type": "text/plain;charset=utf-8", ...headers },
  });
}

function main(rootPath?: string, socket?: string, gate?: string): void {
  if (rootPath === undefined || socket === undefined) {
    console.error("lode: usage: static-shim ROOT SOCKET");
    process.exit(1);
  }
  if (gate !== undefined) {
    if (readSync(Number(gate), new Uint8Array(1)) !== 1) process.exit(125);
    closeSync(Number(gate));
  }
  const server = Bun.serve({
    unix: socket,
    fetch: createStaticHandler(resolve(rootPath)),
    error: () => text(500, "This file cannot be read\n"),
  });
  void Bun.write(`${socket}.listens`, "");
  process.once("SIGTERM", () => {
    server.stop().then(() => process.exit(0));
  });
}

if (import.meta.main) main(...process.argv.slice(2));

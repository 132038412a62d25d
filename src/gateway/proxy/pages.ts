const titles: Readonly<Record<number, string>> = {
  400: "Bad request",
  404: "Not found",
  405: "Method not allowed",
  408: "Request timed out",
  414: "Request line too long",
  417: "Expectation failed",
  421: "Misdirected request",
  431: "Header fields too large",
  500: "Internal error",
  501: "Not implemented",
  502: "Bad answer from the app",
  503: "App not available",
  504: "The app did not answer in time",
  505: "HTTP version not supported",
};

/** The reason phrase and page title of a status the gateway answers by itself. */
function titleOf(status: number): string {
  return titles[status] ?? "Error";
}

export interface Page {
  readonly contentType: string;
  readonly body: Buffer;
}

/** A page a person understands, or a problem document (RFC 9457) for a program. */
export function makePage(
  status: number,
  cause: string,
  requestId: string,
  accept: string | null,
): Page {
  const title = titleOf(status);
  if (prefersJson(accept)) {
    const problem = { type: "about:blank", title, status, detail: cause, requestId };
    return {
      contentType: "application/problem+json",
      body: Buffer.from(`${JSON.stringify(problem)}\n`),
    };
  }
  const html =
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>${status} ${title}</title>` +
    '<meta name="viewport" content="width=device-width">' +
    "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;" +
    "max-width:36rem;margin:15vh auto;padding:0 1rem}h1{font-size:1.4rem}" +
    "small{opacity:.6}</style>" +
    `<h1>${status} ${title}</h1><p>${escapeHtml(cause)}</p>` +
    `<p><small>Request ${requestId}</small></p></html>\n`;
  return { contentType: "text/html; charset=utf-8", body: Buffer.from(html) };
}

/** The HTTP/1.1 head of a page. @param added complete lines. */
export function pageHead(status: number, page: Page, requestId: string, added: string): Buffer {
  const allow = status === 405 ? "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n" : "";
  return Buffer.from(
    `HTTP/1.1 ${status} ${titleOf(status)}\r\nContent-Type: ${page.contentType}\r\n` +
      `Content-Length: ${page.body.length}\r\nCache-Control: no-store\r\n` +
      `X-Request-Id: ${requestId}\r\n${allow}${added}\r\n`,
  );
}

/** Whether JSON stands before HTML in an Accept field (their order; q=0 aside). */
export function prefersJson(accept: string | null): boolean {
  if (accept === null) return false;
  const ranges = accept
    .toLowerCase()
    .split(",")
    .filter((range) => !/;\s*q=0(?:\.0*)?\s*$/.test(range));
  const json = ranges.findIndex((range) => /^\s*application\/(?:[a-z.-]+\+)?json\b/.test(range));
  const html = ranges.findIndex((range) => /^\s*(?:text\/(?:html|\*))/.test(range));
  return json >= 0 && (html < 0 || json < html);
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Of what no app was found for: none, not on this connection, or not found out. */
export type UnroutedStatus = 404 | 421 | 503;

export function unroutedCause(status: UnroutedStatus, host: string): string {
  if (status === 404) return `No app is served at ${host}.`;
  if (status === 421) return `This connection's certificate is not for ${host}. Connect anew.`;
  return `The app at ${host} could not be looked up. Try again in a moment.`;
}

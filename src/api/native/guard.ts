import type { Problem } from "./problems.ts";

const nameAndPort = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?$/;
const ipv4 = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/**
 * Refuses requests that a browser was tricked into sending. A page whose name was rebound to
 * this address still sends its own name as Host, so only names that are ours and literal
 * addresses pass; a page of another site sends its Origin.
 */
export function hostProblem(headers: Headers, allowedHosts: ReadonlySet<string>): Problem | null {
  const host = headers.get("host") ?? "";
  const match = nameAndPort.exec(host);
  if (match === null || !URL.canParse(`http://${host}`)) {
    return { code: "invalid", detail: `The Host header ${JSON.stringify(host)} is not one host` };
  }
  const name = match[2]?.toLowerCase();
  if (name !== undefined && !ipv4.test(name) && name !== "localhost" && !allowedHosts.has(name)) {
    return {
      code: "forbidden",
      detail: `This API does not answer to the host name ${JSON.stringify(name)}`,
      remedy: "Use its address, or add the name to the API's host names",
    };
  }
  const origin = headers.get("origin");
  if (origin !== null && origin.replace(/^https?:\/\//, "").toLowerCase() !== host.toLowerCase()) {
    return {
      code: "forbidden",
      detail: `Pages of ${JSON.stringify(origin)} may not use this API`,
      remedy: "Call it from a page of its own origin, or without a browser",
    };
  }
  return null;
}

/** The bearer token: from the header, or, for sockets of browsers, from a subprotocol. */
export function bearerOf(headers: Headers): string | null {
  const header = /^Bearer +([A-Za-z0-9._~+/=-]{1,512})$/i.exec(headers.get("authorization") ?? "");
  if (header !== null) return header[1] ?? null;
  for (const protocol of (headers.get("sec-websocket-protocol") ?? "").split(",")) {
    const match = /^lode\.bearer\.([A-Za-z0-9._~+-]{1,512})$/.exec(protocol.trim());
    if (match !== null) return match[1] ?? null;
  }
  return null;
}

/** Reads a body of at most `bytesMax` bytes as text, or says why not. */
export async function readBody(
  request: Request,
  bytesMax: number,
): Promise<{ readonly text: string } | Problem> {
  const refusal: Problem = {
    code: "tooLarge",
    detail: `The body is larger than ${bytesMax} bytes, the most this route takes`,
  };
  if (Number(request.headers.get("content-length") ?? 0) > bytesMax) return refusal;
  if (request.body === null) return { text: "" };
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let bytes = 0;
  try {
    for await (const chunk of request.body) {
      bytes += chunk.byteLength;
      if (bytes > bytesMax) return refusal;
      text += decoder.decode(chunk, { stream: true });
    }
    return { text: text + decoder.decode() };
  } catch {
    return { code: "invalid", detail: "The body could not be read as UTF-8 text to its end" };
  }
}

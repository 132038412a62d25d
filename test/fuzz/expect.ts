import {
  type Body,
  type Field,
  passedOn,
  type Request,
  readRequestBody,
  readRequestHead,
  valuesOf,
} from "./twin.ts";

/** One whole message of a client, and what is to become of it. */
export interface Expected {
  readonly request: Request;
  readonly body: Body;
  /** False: no app is served at its host. */
  readonly forwarded: boolean;
}

/** How a client's bytes end, after its whole messages. */
export type Tail =
  /** The gateway waits for another request. */
  | { readonly kind: "open" }
  /** It closes, whatever follows: the client or the framing asked for it. */
  | { readonly kind: "closed" }
  | { readonly kind: "tunnel"; readonly from: number }
  | { readonly kind: "halfHead" }
  | { readonly kind: "halfBody"; readonly request: Request }
  | { readonly kind: "badHead"; readonly status: number }
  | { readonly kind: "badBody"; readonly request: Request };

export interface Expectation {
  readonly messages: readonly Expected[];
  readonly tail: Tail;
}

/** Reads all that a client sends, as the twin understands it. */
export function expectationOf(
  text: string,
  isServed: (host: string) => boolean,
  /** What the app answered to the nth forwarded request. */
  answered: (
    index: number,
    request: Request,
  ) => { readonly switched: boolean; readonly unbounded: boolean } | undefined,
): Expectation {
  const messages: Expected[] = [];
  let forwardedCount = 0;
  for (let at = 0; at < text.length; ) {
    const head = readRequestHead(text, at);
    if (head.kind === "more") return { messages, tail: { kind: "halfHead" } };
    if (head.kind === "refused") {
      return { messages, tail: { kind: "badHead", status: head.status } };
    }
    const { request } = head;
    if (!isServed(request.host)) {
      const body: Body = { kind: "body", body: "", trailers: [], end: request.headEnd };
      messages.push({ request, body, forwarded: false });
      if (request.framing !== "none" || !request.keepAlive) {
        return { messages, tail: { kind: "closed" } };
      }
      at = request.headEnd;
      continue;
    }
    const body = readRequestBody(text, request);
    if (body.kind === "more") return { messages, tail: { kind: "halfBody", request } };
    if (body.kind === "refused") return { messages, tail: { kind: "badBody", request } };
    messages.push({ request, body, forwarded: true });
    const answer = answered(forwardedCount, request);
    forwardedCount += 1;
    if (request.upgrade !== null && answer?.switched === true) {
      return { messages, tail: { kind: "tunnel", from: body.end } };
    }
    const unbounded = request.minorVersion === 0 && answer?.unbounded === true;
    if (!request.keepAlive || unbounded) return { messages, tail: { kind: "closed" } };
    at = body.end;
  }
  return { messages, tail: { kind: "open" } };
}

/** Null: the app's fields are what they must be. */
export function fieldsFault(sent: Request, seen: Request): string | null {
  const passed = passedOn(sent);
  const kept = seen.fields.slice(0, passed.length);
  const differs = passed.some(([name, value], index) => {
    return kept[index]?.[0] !== name || kept[index]?.[1] !== value;
  });
  if (differs) return `fields ${JSON.stringify(kept)}, not ${JSON.stringify(passed)}`;
  const names = seen.fields.slice(passed.length).map(([name]) => name);
  const wanted = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"];
  if (sent.upgrade !== null) wanted.push("Connection", "Upgrade");
  const [te = ""] = valuesOf(sent.fields, "te");
  if (/trailers/i.test(te) && names.at(-1) === "TE") wanted.push("TE");
  return names.join() === wanted.join() ? null : `added ${names.join()}, not ${wanted.join()}`;
}

/** Null: what the app read is what the client sent. */
export function messageFault(
  expected: Expected,
  seen: { request: Request; body: string; trailers: readonly Field[] },
): string | null {
  const { request, body } = expected;
  if (seen.request.method !== request.method) return `method ${seen.request.method}`;
  if (seen.request.target !== request.target) return `target ${seen.request.target}`;
  if (seen.request.minorVersion !== 1) return "its version is not HTTP/1.1";
  if (seen.request.upgrade !== request.upgrade) return `upgrade ${seen.request.upgrade}`;
  if (seen.body !== body.body) return `body ${JSON.stringify(seen.body.slice(0, 200))}`;
  // They are checked, and stay behind.
  if (seen.trailers.length > 0) return `trailers ${JSON.stringify(seen.trailers)}`;
  return fieldsFault(request, seen.request);
}

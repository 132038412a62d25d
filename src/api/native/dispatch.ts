import type { z } from "@hono/zod-openapi";
import { err, ok, type Result } from "../../base/result.ts";
import type { Authenticator, Role } from "../../identity/identity.ts";
import { bearerOf, readBody } from "./guard.ts";
import type { IdempotencyCache, StoredResponse } from "./idempotency.ts";
import { type Problem, problemResponse, schemaProblem } from "./problems.ts";
import type { ApiServer, Call, Route } from "./routing.ts";

export interface Dispatcher {
  /** Undefined: the connection became a socket. */
  dispatch(route: Route, incoming: Incoming): Promise<Response | undefined>;
}

export interface Incoming {
  readonly request: Request;
  readonly params: Readonly<Record<string, string>>;
  readonly requestId: string;
  readonly server: ApiServer | null;
}

type Parsed = { readonly call: Call<never, never, never>; readonly bodyText: string };

/** Takes a request through authentication, parsing and the idempotency cache to its route. */
export function createDispatcher(
  authenticator: Authenticator,
  cache: IdempotencyCache,
): Dispatcher {
  async function parse(route: Route, incoming: Incoming): Promise<Result<Parsed, Problem>> {
    const { request, params, requestId, server } = incoming;
    const actor = await actorOf(authenticator, route, request);
    if (!actor.ok) return actor;
    const { spec } = route;
    const path = spec.params.safeParse(params);
    if (!path.success) return err(schemaProblem("path", path.error.issues));
    const query = spec.query.safeParse(Object.fromEntries(new URL(request.url).searchParams));
    if (!query.success) return err(schemaProblem("query", query.error.issues));
    const body = await parseBody(spec, request);
    if (!body.ok) return body;
    const call = {
      params: path.data,
      query: query.data,
      body: body.value.parsed,
      actor: { id: actor.value },
      request,
      requestId,
      server,
    } as Call<never, never, never>;
    return ok({ call, bodyText: body.value.text });
  }

  async function answerJson(
    give: (call: Call<never, never, never>) => Promise<Result<StoredResponse, Problem>>,
    { call, bodyText }: Parsed,
  ): Promise<Response> {
    const execute = async (): Promise<StoredResponse> => {
      const outcome = await give(call);
      return outcome.ok ? outcome.value : stored(problemResponse(outcome.error, call.requestId));
    };
    const key = call.request.headers.get("idempotency-key");
    if (key === null || call.request.method === "GET") return responseOf(await execute());
    if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
      return problemResponse(
        { code: "invalid", detail: "An Idempotency-Key has 1 to 255 visible ASCII characters" },
        call.requestId,
      );
    }
    const route = `${call.request.method} ${new URL(call.request.url).pathname}`;
    const fingerprint = new Bun.CryptoHasher("sha256").update(bodyText).digest("hex");
    const known = await cache.run(`${call.actor.id}\n${key}\n${route}`, fingerprint, execute);
    if (known === null) {
      return problemResponse(
        {
          code: "unprocessable",
          detail: "This Idempotency-Key was used before with another body",
          remedy: "Use a new key for a new request",
        },
        call.requestId,
      );
    }
    const response = responseOf(known.response);
    if (known.replayed) response.headers.set("Idempotency-Replayed", "true");
    return response;
  }

  return {
    async dispatch(route, incoming) {
      const parsed = await parse(route, incoming);
      if (!parsed.ok) return problemResponse(parsed.error, incoming.requestId);
      if (route.answer.kind === "json") return answerJson(route.answer.give, parsed.value);
      const outcome = await route.answer.give(parsed.value.call);
      return outcome.ok ? outcome.value : problemResponse(outcome.error, incoming.requestId);
    },
  };
}

/** The id of who asks. */
async function actorOf(
  authenticator: Authenticator,
  route: Route,
  request: Request,
): Promise<Result<string, Problem>> {
  if (route.spec.open) return ok("anyone");
  const bearer = bearerOf(request.headers);
  const principal = bearer === null ? null : await authenticator.authenticate(bearer);
  // What a member may do comes with the members of projects; until then only admins pass.
  const { role } = route.spec;
  const enough: readonly Role[] = role === undefined ? ["admin"] : ["admin", role];
  if (principal !== null && enough.some((each) => principal.roles.includes(each))) {
    return ok(principal.id);
  }
  if (principal !== null) {
    return err({
      code: "forbidden",
      detail: `${principal.name} is no admin, and only admins may use this route`,
    });
  }
  return err({
    code: "unauthorised",
    detail:
      bearer === null
        ? "The request has no bearer token"
        : "The bearer token is not known, has expired or was revoked",
    remedy: "Send `Authorization: Bearer TOKEN`; `lode tokens create` makes one",
  });
}

async function parseBody(
  spec: Route["spec"],
  request: Request,
): Promise<Result<{ parsed: unknown; text: string }, Problem>> {
  if (spec.bodyBytesMax === null) return ok({ parsed: undefined, text: "" });
  const mediaType = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (mediaType !== "application/json") {
    return err({
      code: "unsupportedMediaType",
      detail: "This route takes a body with Content-Type application/json",
    });
  }
  const body = await readBody(request, spec.bodyBytesMax);
  if ("code" in body) return err(body);
  let json: unknown;
  try {
    json = JSON.parse(body.text);
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : "unknown reason";
    return err({ code: "invalid", detail: `The body is not JSON: ${reason}` });
  }
  const parsed: z.ZodSafeParseResult<unknown> = spec.body.safeParse(json);
  if (!parsed.success) return err(schemaProblem("body", parsed.error.issues));
  return ok({ parsed: parsed.data, text: body.text });
}

async function stored(response: Response): Promise<StoredResponse> {
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: await response.text(),
  };
}

function responseOf({ status, headers, body }: StoredResponse): Response {
  return new Response(status === 204 ? null : body, { status, headers });
}

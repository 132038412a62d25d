import type { OpenAPIHono, z } from "@hono/zod-openapi";
import { err, ok, type Result } from "../../base/result.ts";
import type { Actor, OperationError, Outcome, Page } from "../../control/operations.ts";
import type { Role } from "../../identity/identity.ts";
import type { StoredResponse } from "./idempotency.ts";
import { type Problem, problemOf } from "./problems.ts";
import { problemSchema } from "./schemas.ts";

/** What a route may ask of the server that received the request. */
export interface ApiServer {
  /** Seconds without traffic until the connection is cut; 0: never. */
  timeout(request: Request, seconds: number): void;
  upgrade(
    request: Request,
    options: { readonly data: unknown; readonly headers: Readonly<Record<string, string>> },
  ): boolean;
}

export interface Call<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  readonly actor: Actor;
  readonly request: Request;
  readonly requestId: string;
  /** Null when the request did not come through a socket. */
  readonly server: ApiServer | null;
}

type CallOf<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType> = Call<
  z.output<Params>,
  z.output<Query>,
  z.output<Body>
>;

type Method = "get" | "post" | "put" | "patch" | "delete";

export interface RouteSpec<
  Params extends z.ZodType,
  Query extends z.ZodType,
  Body extends z.ZodType,
> {
  readonly id: string;
  readonly method: Method;
  /** As OpenAPI writes it: `/v1/projects/{project}/apps`. */
  readonly path: string;
  readonly summary: string;
  readonly params: Params;
  readonly query: Query;
  /** Undefined-accepting for routes that take none. */
  readonly body: Body;
  /** Null: the route takes no JSON body. */
  readonly bodyBytesMax: number | null;
  /** Answers without a token. */
  readonly open?: true;
  /** Tokens of this role may use it too, not only those of admins. */
  readonly role?: Role;
}

/** A route with its types worn off, as the dispatcher sees it. */
export interface Route {
  readonly spec: RouteSpec<z.ZodType, z.ZodType, z.ZodType>;
  readonly success: {
    readonly status: number;
    readonly description: string;
    readonly mediaType: string;
    readonly schema: z.ZodType | null;
    /** What else may follow, such as a body in another media type. */
    readonly also?: Readonly<Record<string, z.ZodType>>;
  };
  /** In the document: a body that is not JSON. */
  readonly rawBody?: { readonly mediaType: string; readonly schema: z.ZodType };
  readonly answer:
    | {
        readonly kind: "json";
        readonly give: (
          call: Call<never, never, never>,
        ) => Promise<Result<StoredResponse, Problem>>;
      }
    | {
        readonly kind: "raw";
        /** Undefined: the connection became a socket. */
        readonly give: (
          call: Call<never, never, never>,
        ) => Promise<Result<Response | undefined, Problem>>;
      };
}

/** A route that takes and gives JSON. */
export function jsonRoute<
  Params extends z.ZodType,
  Query extends z.ZodType,
  Body extends z.ZodType,
  Answer extends z.ZodType,
>(
  spec: RouteSpec<Params, Query, Body>,
  success: {
    readonly status: number;
    readonly schema: Answer;
    /** Headers of the answer, from what is answered. */
    readonly headers?: (
      value: z.input<Answer>,
      params: z.output<Params>,
    ) => Readonly<Record<string, string>>;
  },
  give: (call: CallOf<Params, Query, Body>) => Outcome<z.input<Answer>>,
): Route {
  const { status, schema } = success;
  const answer = async (
    call: CallOf<Params, Query, Body>,
  ): Promise<Result<StoredResponse, Problem>> => {
    const outcome = await give(call);
    if (!outcome.ok) return err(problemOf(outcome.error));
    const headers = success.headers?.(outcome.value, call.params) ?? {};
    return ok({
      status,
      headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify(outcome.value),
    });
  };
  return {
    spec,
    success: { status, description: spec.summary, mediaType: "application/json", schema },
    answer: { kind: "json", give: answer },
  };
}

/** A route that answers 204, with nothing to say. */
export function emptyRoute<
  Params extends z.ZodType,
  Query extends z.ZodType,
  Body extends z.ZodType,
>(
  spec: RouteSpec<Params, Query, Body>,
  give: (call: CallOf<Params, Query, Body>) => Outcome<void>,
): Route {
  const answer = async (
    call: CallOf<Params, Query, Body>,
  ): Promise<Result<StoredResponse, Problem>> => {
    const outcome = await give(call);
    if (!outcome.ok) return err(problemOf(outcome.error));
    return ok({ status: 204, headers: {}, body: "" });
  };
  return {
    spec,
    success: {
      status: 204,
      description: spec.summary,
      mediaType: "application/json",
      schema: null,
    },
    answer: { kind: "json", give: answer },
  };
}

/** A route that answers with a response of its own: a stream, a socket, a document. */
export function rawRoute<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType>(
  spec: RouteSpec<Params, Query, Body>,
  documented: Pick<Route, "success" | "rawBody">,
  give: (call: CallOf<Params, Query, Body>) => Promise<Result<Response | undefined, Problem>>,
): Route {
  return { spec, ...documented, answer: { kind: "raw", give } };
}

export function jsonResponse(status: number, value: unknown): Response {
  const headers = { "Content-Type": "application/json" };
  return new Response(JSON.stringify(value), { status, headers });
}

/** One page of what an operation gives whole, in the order of `keyOf`. */
export function pageOf<Item>(
  items: readonly Item[],
  keyOf: (item: Item) => string,
  query: { readonly after?: string | undefined; readonly limit: number },
): Page<Item> {
  const after = query.after;
  const sorted = items
    .map((item) => ({ item, key: keyOf(item) }))
    .filter(({ key }) => after === undefined || key > after)
    .sort((left, right) => (left.key < right.key ? -1 : 1));
  const taken = sorted.slice(0, query.limit);
  return {
    items: taken.map(({ item }) => item),
    next: sorted.length > taken.length ? (taken.at(-1)?.key ?? null) : null,
  };
}

export function mapped<From, To>(
  result: Result<From, OperationError>,
  map: (value: From) => To,
): Result<To, OperationError> {
  return result.ok ? ok(map(result.value)) : result;
}

/** Writes the route into the OpenAPI document. */
export function describeRoute(registry: OpenAPIHono["openAPIRegistry"], route: Route): void {
  const { spec, success } = route;
  const problem = { "application/problem+json": { schema: problemSchema } };
  const content: Record<string, { schema: z.ZodType }> = {};
  if (success.schema !== null) content[success.mediaType] = { schema: success.schema };
  for (const [mediaType, schema] of Object.entries(success.also ?? {})) {
    content[mediaType] = { schema };
  }
  const body = route.rawBody ?? { mediaType: "application/json", schema: spec.body };
  const hasBody = spec.bodyBytesMax !== null || route.rawBody !== undefined;
  registry.registerPath({
    operationId: spec.id,
    method: spec.method,
    path: spec.path,
    summary: spec.summary,
    security: spec.open ? [] : [{ bearer: [] }],
    request: {
      params: spec.params as z.ZodObject,
      query: spec.query as z.ZodObject,
      ...(hasBody
        ? { body: { required: true, content: { [body.mediaType]: { schema: body.schema } } } }
        : {}),
    },
    responses: {
      [success.status]: {
        description: success.description,
        ...(Object.keys(content).length > 0 ? { content } : {}),
      },
      "4XX": { description: "The request was refused", content: problem },
      "5XX": { description: "Lode could not do it", content: problem },
    },
  });
}

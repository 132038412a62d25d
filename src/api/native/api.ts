import { OpenAPIHono } from "@hono/zod-openapi";
import type { Json } from "../../base/json.ts";
import type { Authenticator } from "../../identity/identity.ts";
import { createDispatcher } from "./dispatch.ts";
import type { ExecSocket } from "./execSocket.ts";
import { hostProblem } from "./guard.ts";
import { createIdempotencyCache } from "./idempotency.ts";
import { type Problem, problemResponse } from "./problems.ts";
import { appRoutes } from "./routes/apps.ts";
import { blobRoutes } from "./routes/blobs.ts";
import { certificateRoutes } from "./routes/certificates.ts";
import { documentRoutes } from "./routes/documents.ts";
import { observingRoutes } from "./routes/observing.ts";
import { releaseRoutes } from "./routes/releases.ts";
import { streamRoutes } from "./routes/streams.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { type ApiServer, describeRoute, type Route } from "./routing.ts";
import type { Services } from "./services.ts";

const idempotency = { entriesMax: 10_000, keptMs: 24 * 3_600_000, bodyCharactersMax: 65_536 };

export interface ApiDependencies extends Services {
  readonly authenticator: Authenticator;
}

export interface Api {
  /** Undefined: the connection became a socket. `server` may be null in tests. */
  fetch(request: Request, server: ApiServer | null): Promise<Response | undefined>;
  readonly websocket: WebSocketHandlers;
  /** Every route, for checks of the document against the code. */
  readonly routes: readonly Route[];
}

interface Socket {
  readonly data: unknown;
  send(data: string | Uint8Array<ArrayBuffer>): number;
  close(code: number, reason: string): void;
}

export interface WebSocketHandlers {
  readonly maxPayloadLength: number;
  open(socket: Socket): void;
  message(socket: Socket, message: string | Uint8Array): void;
  drain(socket: Socket): void;
  close(socket: Socket): void;
}

interface Bindings {
  readonly server: ApiServer | null;
  readonly requestId: string;
}

/** The native API: `/v1` over the operations, and nothing beside them. */
export function createApi(dependencies: ApiDependencies): Api {
  const { clock, random, settings, log } = dependencies;
  const cache = createIdempotencyCache(clock, idempotency);
  const dispatcher = createDispatcher(dependencies.authenticator, cache);
  const hosts = new Set(settings.hostNames.map((name) => name.toLowerCase()));
  const app = new OpenAPIHono<{ Bindings: Bindings }>();
  const routes: readonly Route[] = [
    ...appRoutes(dependencies),
    ...releaseRoutes(dependencies),
    ...streamRoutes(dependencies),
    ...observingRoutes(dependencies),
    ...blobRoutes(dependencies),
    ...certificateRoutes(dependencies),
    ...tokenRoutes(dependencies),
    ...documentRoutes(() => documentOf(app, settings.version)),
  ];
  for (const route of routes) {
    describeRoute(app.openAPIRegistry, route);
    const path = route.spec.path.replaceAll(/\{(\w+)\}/g, ":$1");
    app.on(route.spec.method.toUpperCase(), path, async (context) => {
      const { server, requestId } = context.env;
      const params = context.req.param() as Record<string, string>;
      const incoming = { request: context.req.raw, params, requestId, server };
      return (await dispatcher.dispatch(route, incoming)) ?? upgraded();
    });
  }
  app.notFound((context) =>
    problemResponse(
      absentProblem(routes, context.req.method, context.req.path),
      context.env.requestId,
    ),
  );
  app.onError((cause, context) => {
    const { requestId } = context.env;
    log("api.failed", {
      requestId,
      method: context.req.method,
      path: context.req.path,
      cause: String(cause.stack ?? cause),
    });
    return problemResponse(
      { code: "internal", detail: `Lode failed inside; its log has request ${requestId}` },
      requestId,
    );
  });

  return {
    routes,
    async fetch(request, server) {
      const requestId = random.token(12);
      const refused = hostProblem(request.headers, hosts);
      const response =
        refused === null
          ? await app.fetch(request, { server, requestId })
          : problemResponse(refused, requestId);
      if (isUpgraded(response)) return undefined;
      response.headers.set("X-Request-Id", requestId);
      response.headers.set("X-Content-Type-Options", "nosniff");
      if (!response.headers.has("Cache-Control")) response.headers.set("Cache-Control", "no-store");
      return response;
    },
    websocket: {
      maxPayloadLength: settings.limits.bodyBytesMax,
      open: (socket) => socketOf(socket).opened(socket),
      message: (socket, message) => socketOf(socket).received(message),
      drain: (socket) => socketOf(socket).drained(),
      close: (socket) => socketOf(socket).closed(),
    },
  };
}

/** The OpenAPI 3.1 document, made from the routes that serve. */
function documentOf(app: OpenAPIHono<{ Bindings: Bindings }>, version: string): Json {
  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: { title: "Lode", version, license: { name: "Apache-2.0" } },
    security: [{ bearer: [] }],
  }) as unknown as Json;
}

const upgradeMark = "x-lode-upgraded";

/** Hono wants a response even where the connection has become a socket. */
function upgraded(): Response {
  return new Response(null, { headers: { [upgradeMark]: "1" } });
}

function isUpgraded(response: Response): boolean {
  return response.headers.has(upgradeMark);
}

function socketOf(socket: Socket): ExecSocket {
  return socket.data as ExecSocket;
}

function absentProblem(routes: readonly Route[], method: string, path: string): Problem {
  const allowed = routes
    .filter((route) => matches(route.spec.path, path))
    .map((route) => route.spec.method.toUpperCase());
  if (allowed.length === 0) {
    return {
      code: "notFound",
      detail: `There is nothing at ${JSON.stringify(path.slice(0, 200))}`,
      remedy: "GET /v1/openapi.json describes every route",
    };
  }
  return {
    code: "methodNotAllowed",
    detail: `${JSON.stringify(path.slice(0, 200))} does not take ${method}`,
    headers: { Allow: [...new Set(allowed)].join(", ") },
  };
}

function matches(pattern: string, path: string): boolean {
  const wanted = pattern.split("/");
  const given = path.split("/");
  return (
    wanted.length === given.length &&
    wanted.every((step, index) => {
      const value = given[index] ?? "";
      return step.startsWith("{") ? value !== "" : step === value;
    })
  );
}

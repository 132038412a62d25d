import { z } from "@hono/zod-openapi";
import type { Result } from "../../../base/result.ts";
import type { OperationError } from "../../../control/operations.ts";
import type { IdentityError } from "../../../identity/identity.ts";
import { emptyRoute, jsonRoute, mapped, pageOf, type Route } from "../routing.ts";
import { pageQuery, parameters } from "../schemas.ts";
import type { Services } from "../services.ts";
import { tokenCreatedSchema, tokenPageSchema, tokenRequestSchema } from "../tokenSchemas.ts";
import { noBody, nothing } from "./common.ts";

/** Bearer tokens: a secret is shown once, when it is made. */
export function tokenRoutes({ tokens, settings }: Services): readonly Route[] {
  return [
    jsonRoute(
      {
        id: "listTokens",
        method: "get",
        path: "/v1/tokens",
        summary: "The tokens, by id; secrets are never given",
        params: nothing,
        query: pageQuery,
        body: noBody,
        bodyBytesMax: null,
      },
      { status: 200, schema: tokenPageSchema },
      async (call) =>
        mapped(inOperations(await tokens.list()), (list) =>
          pageOf(list, (token) => token.id, call.query),
        ),
    ),
    jsonRoute(
      {
        id: "createToken",
        method: "post",
        path: "/v1/tokens",
        summary: "Makes a token and shows its secret, once",
        params: nothing,
        query: nothing,
        body: tokenRequestSchema,
        bodyBytesMax: settings.limits.bodyBytesMax,
      },
      { status: 201, schema: tokenCreatedSchema },
      async (call) => {
        const { name, role, expiresAt } = call.body;
        const created = await tokens.create({ name, roles: [role], expiresAt });
        return mapped(inOperations(created), ({ token, view }) => ({ token: view, secret: token }));
      },
    ),
    emptyRoute(
      {
        id: "revokeToken",
        method: "delete",
        path: "/v1/tokens/{token}",
        summary: "Revokes a token at once",
        params: z.strictObject({ token: parameters.token }),
        query: nothing,
        body: noBody,
        bodyBytesMax: null,
      },
      async (call) => inOperations(await tokens.revoke(call.params.token)),
    ),
  ];
}

/** Identity's errors in the words of the operations. */
function inOperations<Value>(result: Result<Value, IdentityError>): Result<Value, OperationError> {
  if (result.ok) return result;
  return { ok: false, error: { ...result.error, remedy: null, at: null } };
}

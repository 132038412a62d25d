import { z } from "@hono/zod-openapi";
import type { Json } from "../../../base/json.ts";
import { ok } from "../../../base/result.ts";
import { lodeTomlSchema } from "../../../model/config/schema.ts";
import { jsonRoute, type Route } from "../routing.ts";
import { noBody, nothing } from "./common.ts";

const anyObject = z.record(z.string(), z.unknown());

/** The descriptions of the API and of lode.toml: open to all, since editors fetch them. */
export function documentRoutes(openApi: () => Json): readonly Route[] {
  const base = {
    method: "get",
    params: nothing,
    query: nothing,
    body: noBody,
    bodyBytesMax: null,
    open: true,
  } as const;
  let document: Json = null;
  return [
    jsonRoute(
      { ...base, id: "getOpenApi", path: "/v1/openapi.json", summary: "This document" },
      { status: 200, schema: anyObject },
      async () => {
        document ??= openApi();
        return ok(document as Record<string, unknown>);
      },
    ),
    jsonRoute(
      {
        ...base,
        id: "getConfigSchema",
        path: "/v1/lode.schema.json",
        summary: "The JSON Schema of lode.toml",
      },
      { status: 200, schema: anyObject },
      async () => ok(lodeTomlSchema as Record<string, unknown>),
    ),
  ];
}

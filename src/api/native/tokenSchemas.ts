import { z } from "@hono/zod-openapi";
import { page, timestamp } from "./schemas.ts";

export const tokenSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    roles: z.array(z.enum(["admin", "member", "metrics"])).readonly(),
    createdAt: timestamp,
    expiresAt: timestamp.nullable(),
  })
  .openapi("Token");
export const tokenPageSchema = page("TokenPage", tokenSchema);
export const tokenRequestSchema = z
  .strictObject({
    name: z.string().min(1).max(128),
    role: z
      .enum(["admin", "metrics"])
      .default("admin")
      .openapi({ description: "`metrics` may read /metrics and nothing else" }),
    expiresAt: timestamp.nullable().default(null).openapi({ description: "Null: never" }),
  })
  .openapi("TokenRequest");
export const tokenCreatedSchema = z
  .object({
    token: tokenSchema,
    secret: z.string().openapi({ description: "The bearer token itself, shown this once" }),
  })
  .openapi("TokenCreated");

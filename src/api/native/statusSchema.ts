import { z } from "@hono/zod-openapi";

export const statusSchema = z
  .object({
    version: z.string(),
    domain: z.string(),
    httpPort: z.number().int(),
    httpsPort: z.number().int().nullable(),
    nodes: z
      .array(
        z.object({
          name: z.string(),
          capacity: z.object({ cores: z.number(), memoryBytes: z.number() }),
          alive: z.boolean(),
          instances: z.number().int(),
        }),
      )
      .readonly(),
    apps: z.number().int(),
    instances: z.number().int(),
    releasesKept: z.number().int(),
    collected: z.object({
      blobs: z.number().int(),
      blobBytes: z.number().int(),
      trees: z.number().int(),
      treeBytes: z.number().int(),
    }),
  })
  .openapi("Status");

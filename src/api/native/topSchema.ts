import { z } from "@hono/zod-openapi";
import { appSchema, instanceSchema, releaseNumber, timestamp } from "./schemas.ts";

const appState = appSchema.shape.state;

export const topFrameSchema = z
  .object({
    at: timestamp,
    apps: z
      .array(
        z.object({
          app: z.string(),
          state: appState,
          cpuCores: z.number().nonnegative(),
          memoryBytes: z.number().nonnegative(),
          requestsPerSecond: z.number().nonnegative(),
          inFlight: z.number().int().openapi({ description: "Being served or held" }),
          held: z.number().int().openapi({ description: "Waiting for an instance" }),
          instances: z
            .array(
              z.object({
                instance: z.string(),
                node: z.string(),
                release: releaseNumber,
                process: z.string(),
                state: z.string(),
                requestsPerSecond: z.number().nonnegative(),
                inFlight: z.number().int(),
                usage: instanceSchema.shape.usage,
              }),
            )
            .readonly(),
        }),
      )
      .readonly()
      .openapi({ description: "The busiest first" }),
    more: z.number().int().nonnegative().openapi({ description: "Apps left out" }),
  })
  .openapi("TopFrame");

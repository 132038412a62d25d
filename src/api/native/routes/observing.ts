import { z } from "@hono/zod-openapi";
import { err, ok } from "../../../base/result.ts";
import type { ProjectName } from "../../../model/names.ts";
import { eventStream } from "../eventStream.ts";
import { problemOf } from "../problems.ts";
import { expose, exposition, processFamilies } from "../prometheus.ts";
import { type Route, rawRoute } from "../routing.ts";
import type { Services } from "../services.ts";
import { topFrameSchema } from "../topSchema.ts";
import { inProject, noBody, nothing } from "./common.ts";

/** What is measured: for people as it changes, and for Prometheus. */
export function observingRoutes(services: Services): readonly Route[] {
  return [topRoute(services), metricsRoute(services)];
}

function topRoute(services: Services): Route {
  return rawRoute(
    {
      id: "watchTop",
      method: "get",
      path: "/v1/projects/{project}/top",
      summary: "What the project's apps and instances do, as server-sent events",
      params: inProject,
      query: nothing,
      body: noBody,
      bodyBytesMax: null,
    },
    {
      success: {
        status: 200,
        description: "An event named `frame` with a TopFrame as data about every second",
        mediaType: "text/event-stream",
        schema: topFrameSchema,
      },
    },
    async (call) => {
      call.server?.timeout(call.request, 0);
      const abort = new AbortController();
      const project = call.params.project as ProjectName;
      const frames = await services.operations.top(project, abort.signal);
      if (!frames.ok) return err(problemOf(frames.error));
      return ok(
        eventStream(services, abort, frames.value, (frame) => ({
          ...{ id: String(frame.at), event: "frame", data: frame },
        })),
      );
    },
  );
}

function metricsRoute({ operations }: Services): Route {
  return rawRoute(
    {
      id: "getMetrics",
      method: "get",
      path: "/metrics",
      summary: "All metrics, in Prometheus' text format; a token of role `metrics` is enough",
      params: nothing,
      query: nothing,
      body: noBody,
      bodyBytesMax: null,
      role: "metrics",
    },
    {
      success: {
        status: 200,
        description: "Prometheus' text format, version 0.0.4",
        mediaType: exposition,
        schema: z.string(),
      },
    },
    async () => {
      const families = await operations.metrics();
      if (!families.ok) return err(problemOf(families.error));
      const text = expose([...families.value, ...processFamilies()]);
      return ok(new Response(text, { headers: { "Content-Type": exposition } }));
    },
  );
}

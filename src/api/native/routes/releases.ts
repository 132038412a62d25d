import { err, ok } from "../../../base/result.ts";
import type { Manifest } from "../../../model/release.ts";
import { eventStream, lastEventId } from "../eventStream.ts";
import { problemOf } from "../problems.ts";
import { jsonRoute, type Route, rawRoute } from "../routing.ts";
import {
  deployAcceptedSchema,
  deploymentEventSchema,
  deployRequestSchema,
  pageQuery,
  releasePageSchema,
  releaseSchema,
  rollbackRequestSchema,
} from "../schemas.ts";
import type { Services } from "../services.ts";
import { appPath, appRef, noBody, nothing, ofApp, ofRelease, pageRequest } from "./common.ts";

/** Releases: made by deploy and rollback, watched until they serve. */
export function releaseRoutes(services: Services): readonly Route[] {
  return [...readRoutes(services), ...makeRoutes(services), watchRoute(services)];
}

function readRoutes({ operations }: Services): readonly Route[] {
  const base = { method: "get", body: noBody, bodyBytesMax: null } as const;
  return [
    jsonRoute(
      {
        ...base,
        id: "listReleases",
        path: `${appPath}/releases`,
        summary: "The app's releases, newest first",
        params: ofApp,
        query: pageQuery,
      },
      { status: 200, schema: releasePageSchema },
      (call) => operations.listReleases(appRef(call.params), pageRequest(call.query)),
    ),
    jsonRoute(
      {
        ...base,
        id: "getRelease",
        path: `${appPath}/releases/{release}`,
        summary: "A release and its fate",
        params: ofRelease,
        query: nothing,
      },
      { status: 200, schema: releaseSchema },
      (call) => operations.getRelease(appRef(call.params), call.params.release),
    ),
  ];
}

function makeRoutes({ operations, settings }: Services): readonly Route[] {
  const accepted = {
    status: 202,
    schema: deployAcceptedSchema,
    headers: (value: { release: number }, params: { project: string; app: string }) => ({
      Location: `/v1/projects/${params.project}/apps/${params.app}/releases/${value.release}`,
    }),
  } as const;
  return [
    jsonRoute(
      {
        id: "deploy",
        method: "post",
        path: `${appPath}/releases`,
        summary: "Makes a release of uploaded files, and the app if need be",
        params: ofApp,
        query: nothing,
        body: deployRequestSchema,
        bodyBytesMax: settings.limits.manifestBytesMax,
      },
      accepted,
      (call) =>
        operations.deploy(
          appRef(call.params),
          { manifest: call.body.manifest as Manifest },
          call.actor,
        ),
    ),
    jsonRoute(
      {
        id: "rollback",
        method: "post",
        path: `${appPath}/rollback`,
        summary: "Makes a release with the files and configuration of an earlier one",
        params: ofApp,
        query: nothing,
        body: rollbackRequestSchema,
        bodyBytesMax: settings.limits.bodyBytesMax,
      },
      accepted,
      (call) => operations.rollback(appRef(call.params), call.body.release, call.actor),
    ),
  ];
}

function watchRoute(services: Services): Route {
  return rawRoute(
    {
      id: "watchDeployment",
      method: "get",
      path: `${appPath}/releases/{release}/events`,
      summary: "A release's events from its beginning to `end`, as server-sent events",
      params: ofRelease,
      query: nothing,
      body: noBody,
      bodyBytesMax: null,
    },
    {
      success: {
        status: 200,
        description:
          "Events named by their `kind`, with a DeploymentEvent as data. `Last-Event-ID` " +
          "continues after that event.",
        mediaType: "text/event-stream",
        schema: deploymentEventSchema,
      },
    },
    async (call) => {
      call.server?.timeout(call.request, 0);
      const abort = new AbortController();
      const events = await services.operations.watchDeployment(
        appRef(call.params),
        call.params.release,
        abort.signal,
      );
      if (!events.ok) return err(problemOf(events.error));
      const seen = /^\d{1,9}$/.exec(lastEventId(call.request) ?? "");
      const skip = seen === null ? 0 : Number(seen[0]);
      let number = 0;
      return ok(
        eventStream(services, abort, events.value, (event) => {
          number += 1;
          if (number <= skip) return null;
          return { id: String(number), event: event.kind, data: event };
        }),
      );
    },
  );
}

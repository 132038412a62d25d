import type { Bounds } from "../../../model/limits.ts";
import type { ProcessType, ProjectName } from "../../../model/names.ts";
import { emptyRoute, jsonRoute, mapped, pageOf, type Route } from "../routing.ts";
import {
  appPageSchema,
  appSchema,
  costsSchema,
  environmentSchema,
  instancePageSchema,
  limitsRequestSchema,
  pageQuery,
  scaleRequestSchema,
  secretNamesSchema,
  variableChangesSchema,
  variablesChangedSchema,
} from "../schemas.ts";
import type { Services } from "../services.ts";
import { statusSchema } from "../statusSchema.ts";
import { appPath, appRef, inProject, noBody, nothing, ofApp, pageRequest } from "./common.ts";

/** Apps: what they are, what they run with, how much of it. */
export function appRoutes(services: Services): readonly Route[] {
  return [...readRoutes(services), ...instanceRoutes(services), ...changeRoutes(services)];
}

/** A question about an app, without a body or a query. */
const question = (id: string, below: string, summary: string) =>
  ({
    id,
    method: "get",
    path: `${appPath}${below}`,
    summary,
    params: ofApp,
    query: nothing,
    body: noBody,
    bodyBytesMax: null,
  }) as const;

function readRoutes({ operations }: Services): readonly Route[] {
  return [
    jsonRoute(
      {
        ...question("getStatus", "", "The cloud and its nodes"),
        path: "/v1/status",
        params: nothing,
      },
      { status: 200, schema: statusSchema },
      () => operations.status(),
    ),
    jsonRoute(
      {
        ...question("listApps", "", "The apps of a project, by name"),
        path: "/v1/projects/{project}/apps",
        params: inProject,
        query: pageQuery,
      },
      { status: 200, schema: appPageSchema },
      (call) => operations.listApps(call.params.project as ProjectName, pageRequest(call.query)),
    ),
    jsonRoute(question("getApp", "", "An app"), { status: 200, schema: appSchema }, (call) =>
      operations.getApp(appRef(call.params)),
    ),
    jsonRoute(
      question("getEnvironment", "/env", "The app's environment variables"),
      { status: 200, schema: environmentSchema },
      async (call) =>
        mapped(await operations.getApp(appRef(call.params)), (view) => ({ env: view.env })),
    ),
    jsonRoute(
      question("listSecrets", "/secrets", "The names of the app's secrets; values are never given"),
      { status: 200, schema: secretNamesSchema },
      async (call) =>
        mapped(await operations.getApp(appRef(call.params)), (view) => ({
          names: view.secretNames,
        })),
    ),
    jsonRoute(
      question(
        "getCosts",
        "/costs",
        "What a request of each route class costs in CPU, and how sure that is",
      ),
      { status: 200, schema: costsSchema },
      (call) => operations.costs(appRef(call.params)),
    ),
  ];
}

function instanceRoutes({ operations }: Services): readonly Route[] {
  return [
    jsonRoute(
      {
        ...question("listInstances", "", "The instances of a project's apps, by id"),
        path: "/v1/projects/{project}/instances",
        params: inProject,
        query: pageQuery,
      },
      { status: 200, schema: instancePageSchema },
      (call) =>
        operations.listInstances(call.params.project as ProjectName, pageRequest(call.query)),
    ),
    jsonRoute(
      {
        ...question("listAppInstances", "/instances", "The instances of an app, by id"),
        query: pageQuery,
      },
      { status: 200, schema: instancePageSchema },
      async (call) =>
        mapped(await operations.listAppInstances(appRef(call.params)), (instances) =>
          pageOf(instances, (instance) => instance.instance, call.query),
        ),
    ),
  ];
}

function changeRoutes({ operations, settings }: Services): readonly Route[] {
  const { bodyBytesMax } = settings.limits;
  const change = (id: string, below: string, summary: string) =>
    ({ ...question(id, below, summary), method: "patch", bodyBytesMax }) as const;
  return [
    emptyRoute(
      {
        ...question("removeApp", "", "Ends the app's instances, then forgets it"),
        method: "delete",
      },
      (call) => operations.removeApp(appRef(call.params), call.actor),
    ),
    jsonRoute(
      {
        ...change(
          "changeEnvironment",
          "/env",
          "Sets and unsets environment variables; makes a release",
        ),
        body: variableChangesSchema,
      },
      { status: 200, schema: variablesChangedSchema },
      (call) => operations.setEnv(appRef(call.params), call.body.changes, call.actor),
    ),
    jsonRoute(
      {
        ...change("changeSecrets", "/secrets", "Sets and unsets secrets; makes a release"),
        body: variableChangesSchema,
      },
      { status: 200, schema: variablesChangedSchema },
      (call) => operations.setSecrets(appRef(call.params), call.body.changes, call.actor),
    ),
    jsonRoute(
      {
        ...change(
          "scaleApp",
          "/scale",
          "Sets how many instances a process type has; 0 puts it to sleep",
        ),
        body: scaleRequestSchema,
      },
      { status: 200, schema: appSchema },
      (call) =>
        operations.scale(
          appRef(call.params),
          call.body.counts as Readonly<Record<ProcessType, number>>,
          call.actor,
        ),
    ),
    jsonRoute(
      {
        ...change(
          "limitApp",
          "/limits",
          "Sets CPU and memory bounds of the live processes; null lifts a bound",
        ),
        body: limitsRequestSchema,
      },
      { status: 200, schema: appSchema },
      (call) => operations.setLimits(appRef(call.params), present(call.body), call.actor),
    ),
  ];
}

function present(limits: { cpu?: Bounds | undefined; memory?: Bounds | undefined }) {
  return {
    ...(limits.cpu === undefined ? {} : { cpu: limits.cpu }),
    ...(limits.memory === undefined ? {} : { memory: limits.memory }),
  };
}

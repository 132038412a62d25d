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
  statusSchema,
  variableChangesSchema,
  variablesChangedSchema,
} from "../schemas.ts";
import type { Services } from "../services.ts";
import { appRef, inProject, noBody, nothing, ofApp, pageRequest } from "./common.ts";

const app = "/v1/projects/{project}/apps/{app}";

/** Apps: what they are, what they run with, how much of it. */
export function appRoutes(services: Services): readonly Route[] {
  return [
    ...readRoutes(services),
    ...instanceRoutes(services),
    ...costRoutes(services),
    ...changeRoutes(services),
  ];
}

function readRoutes({ operations }: Services): readonly Route[] {
  const base = { method: "get", body: noBody, bodyBytesMax: null } as const;
  return [
    jsonRoute(
      {
        ...base,
        id: "getStatus",
        path: "/v1/status",
        summary: "The cloud and its nodes",
        params: nothing,
        query: nothing,
      },
      { status: 200, schema: statusSchema },
      () => operations.status(),
    ),
    jsonRoute(
      {
        ...base,
        id: "listApps",
        path: "/v1/projects/{project}/apps",
        summary: "The apps of a project, by name",
        params: inProject,
        query: pageQuery,
      },
      { status: 200, schema: appPageSchema },
      (call) => operations.listApps(call.params.project as ProjectName, pageRequest(call.query)),
    ),
    jsonRoute(
      { ...base, id: "getApp", path: app, summary: "An app", params: ofApp, query: nothing },
      { status: 200, schema: appSchema },
      (call) => operations.getApp(appRef(call.params)),
    ),
    jsonRoute(
      {
        ...base,
        id: "getEnvironment",
        path: `${app}/env`,
        summary: "The app's environment variables",
        params: ofApp,
        query: nothing,
      },
      { status: 200, schema: environmentSchema },
      async (call) =>
        mapped(await operations.getApp(appRef(call.params)), (view) => ({ env: view.env })),
    ),
    jsonRoute(
      {
        ...base,
        id: "listSecrets",
        path: `${app}/secrets`,
        summary: "The names of the app's secrets; values are never given",
        params: ofApp,
        query: nothing,
      },
      { status: 200, schema: secretNamesSchema },
      async (call) =>
        mapped(await operations.getApp(appRef(call.params)), (view) => ({
          names: view.secretNames,
        })),
    ),
  ];
}

function instanceRoutes({ operations }: Services): readonly Route[] {
  const base = { method: "get", query: pageQuery, body: noBody, bodyBytesMax: null } as const;
  return [
    jsonRoute(
      {
        ...base,
        id: "listInstances",
        path: "/v1/projects/{project}/instances",
        summary: "The instances of a project's apps, by id",
        params: inProject,
      },
      { status: 200, schema: instancePageSchema },
      (call) =>
        operations.listInstances(call.params.project as ProjectName, pageRequest(call.query)),
    ),
    jsonRoute(
      {
        ...base,
        id: "listAppInstances",
        path: `${app}/instances`,
        summary: "The instances of an app, by id",
        params: ofApp,
      },
      { status: 200, schema: instancePageSchema },
      async (call) =>
        mapped(await operations.listAppInstances(appRef(call.params)), (instances) =>
          pageOf(instances, (instance) => instance.instance, call.query),
        ),
    ),
  ];
}

function costRoutes({ operations }: Services): readonly Route[] {
  return [
    jsonRoute(
      {
        id: "getCosts",
        method: "get",
        path: `${app}/costs`,
        summary: "What a request of each route class costs in CPU, and how sure that is",
        params: ofApp,
        query: nothing,
        body: noBody,
        bodyBytesMax: null,
      },
      { status: 200, schema: costsSchema },
      (call) => operations.costs(appRef(call.params)),
    ),
  ];
}

function changeRoutes({ operations, settings }: Services): readonly Route[] {
  const { bodyBytesMax } = settings.limits;
  const base = { params: ofApp, query: nothing, bodyBytesMax } as const;
  return [
    emptyRoute(
      {
        ...base,
        id: "removeApp",
        method: "delete",
        path: app,
        summary: "Ends the app's instances, then forgets it",
        body: noBody,
        bodyBytesMax: null,
      },
      (call) => operations.removeApp(appRef(call.params), call.actor),
    ),
    jsonRoute(
      {
        ...base,
        id: "changeEnvironment",
        method: "patch",
        path: `${app}/env`,
        summary: "Sets and unsets environment variables; makes a release",
        body: variableChangesSchema,
      },
      { status: 200, schema: variablesChangedSchema },
      (call) => operations.setEnv(appRef(call.params), call.body.changes, call.actor),
    ),
    jsonRoute(
      {
        ...base,
        id: "changeSecrets",
        method: "patch",
        path: `${app}/secrets`,
        summary: "Sets and unsets secrets; makes a release",
        body: variableChangesSchema,
      },
      { status: 200, schema: variablesChangedSchema },
      (call) => operations.setSecrets(appRef(call.params), call.body.changes, call.actor),
    ),
    jsonRoute(
      {
        ...base,
        id: "scaleApp",
        method: "patch",
        path: `${app}/scale`,
        summary: "Sets how many instances a process type has; 0 puts it to sleep",
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
        ...base,
        id: "limitApp",
        method: "patch",
        path: `${app}/limits`,
        summary: "Sets CPU and memory bounds of the live processes; null lifts a bound",
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

import { z } from "@hono/zod-openapi";
import type { AppRef } from "../../../control/operations.ts";
import type { AppName, ProjectName } from "../../../model/names.ts";
import { type pageQuery, parameters } from "../schemas.ts";

export const appPath = "/v1/projects/{project}/apps/{app}";

export const nothing = z.strictObject({});
export const noBody = z.undefined();
export const inProject = z.strictObject({ project: parameters.project });
export const ofApp = z.strictObject({ project: parameters.project, app: parameters.app });
export const ofRelease = z.strictObject({ ...ofApp.shape, release: parameters.release });

/** The schema of the parameters has the rule of the names' own parser. */
export function appRef(params: { project: string; app: string }): AppRef {
  return { project: params.project as ProjectName, app: params.app as AppName };
}

export function pageRequest(query: z.output<typeof pageQuery>) {
  return { after: query.after ?? null, limit: query.limit };
}

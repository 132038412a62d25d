import { err, ok, type Result } from "../base/result.ts";

declare const brand: unique symbol;
type Branded<Name extends string> = string & { readonly [brand]: Name };

/** A DNS label: an app's name is the first label of its host name. */
export type AppName = Branded<"AppName">;
export type ProjectName = Branded<"ProjectName">;
export type NodeName = Branded<"NodeName">;
/** `web`, `worker`, …: an entry of the release's processes. */
export type ProcessType = Branded<"ProcessType">;
/** Unique in the pool for ever: `i` and eleven characters of [a-z0-9]. */
export type InstanceId = Branded<"InstanceId">;
/** 64 lowercase hexadecimal digits: the SHA-256 of a blob. */
export type Digest = Branded<"Digest">;

export const defaultProject = "default" as ProjectName;
export const webProcess = "web" as ProcessType;
/** The process type that runs once, before the switch, and must end with 0. */
export const releaseProcess = "release" as ProcessType;

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

function parseLabel<Name extends string>(what: string, text: string): Result<Name, string> {
  if (label.test(text)) return ok(text as Name);
  return err(
    `"${text}" cannot be ${what}: use 1 to 63 of a-z, 0-9 and "-", ` +
      `beginning and ending with a letter or digit`,
  );
}

export function parseAppName(text: string): Result<AppName, string> {
  return parseLabel("an app's name", text);
}

export function parseProjectName(text: string): Result<ProjectName, string> {
  return parseLabel("a project's name", text);
}

export function parseNodeName(text: string): Result<NodeName, string> {
  return parseLabel("a node's name", text);
}

export function parseProcessType(text: string): Result<ProcessType, string> {
  return parseLabel("a process type", text);
}

export function parseDigest(text: string): Result<Digest, string> {
  if (/^[0-9a-f]{64}$/.test(text)) return ok(text as Digest);
  return err(`"${text.slice(0, 80)}" is not a SHA-256 in 64 lowercase hexadecimal digits`);
}

/** The nearest valid app name to a folder's name: `My_App v2` → `my-app-v2`; "" if none. */
export function appNameFromFolder(folder: string): string {
  return folder
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 63)
    .replace(/^-+|-+$/g, "");
}

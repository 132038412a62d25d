import type { z } from "@hono/zod-openapi";
import type { OperationError, OperationErrorCode } from "../../control/operations.ts";
import type { problemSchema } from "./schemas.ts";

export type ProblemDocument = z.infer<typeof problemSchema>;

/** The operations' refusals, and those of HTTP itself. */
export type ProblemCode =
  | OperationErrorCode
  | "unauthorised"
  | "methodNotAllowed"
  | "unsupportedMediaType"
  | "upgradeRequired"
  | "uploadStalled";

/** A refusal on its way to become a problem document. */
export interface Problem {
  readonly code: ProblemCode;
  readonly detail: string;
  readonly remedy?: string | null;
  readonly errors?: ProblemDocument["errors"];
  readonly headers?: Readonly<Record<string, string>>;
}

const kinds: Readonly<Record<ProblemCode, { status: number; title: string }>> = {
  invalid: { status: 400, title: "The request is not valid" },
  unauthorised: { status: 401, title: "Not authenticated" },
  forbidden: { status: 403, title: "Not allowed" },
  notFound: { status: 404, title: "Not found" },
  methodNotAllowed: { status: 405, title: "Method not allowed" },
  uploadStalled: { status: 408, title: "The upload stalled" },
  conflict: { status: 409, title: "Conflict" },
  tooLarge: { status: 413, title: "Too large" },
  unsupportedMediaType: { status: 415, title: "Unsupported media type" },
  unprocessable: { status: 422, title: "Cannot be processed" },
  upgradeRequired: { status: 426, title: "Upgrade required" },
  internal: { status: 500, title: "Lode failed" },
  unavailable: { status: 503, title: "Unavailable" },
  storageFull: { status: 507, title: "Storage is full" },
};

export function problemOf(error: OperationError): Problem {
  return {
    code: error.code,
    detail: error.message,
    remedy: error.remedy,
    errors:
      error.at === null
        ? []
        : [
            error.at.startsWith("/")
              ? { detail: error.message, pointer: error.at }
              : { detail: error.message, location: error.at },
          ],
  };
}

export function problemDocument(problem: Problem, requestId: string): ProblemDocument {
  const { status, title } = kinds[problem.code];
  return {
    type: `urn:lode:problem:${problem.code}`,
    title,
    status,
    detail: problem.detail,
    code: problem.code,
    remedy: problem.remedy ?? null,
    requestId,
    errors: problem.errors ?? [],
  };
}

export function problemResponse(problem: Problem, requestId: string): Response {
  const document = problemDocument(problem, requestId);
  const headers = new Headers(problem.headers);
  headers.set("Content-Type", "application/problem+json");
  if (problem.code === "unauthorised") headers.set("WWW-Authenticate", 'Bearer realm="lode"');
  return new Response(JSON.stringify(document), { status: document.status, headers });
}

/** Turns what a schema refused into problem entries, one for each place. */
export function schemaProblem(
  place: "body" | "query" | "path",
  issues: readonly z.core.$ZodIssue[],
): Problem {
  const errors = issues.slice(0, 20).flatMap((issue) => {
    const path =
      issue.code === "unrecognized_keys" ? issue.keys.map((key) => [...issue.path, key]) : null;
    return (path ?? [issue.path]).map((steps) =>
      place === "body"
        ? { detail: issue.message, pointer: pointerOf(steps) }
        : { detail: issue.message, parameter: steps.map(String).join(".") },
    );
  });
  const first = errors[0];
  const where = first === undefined ? "" : ` at ${nameOf(first)}`;
  return {
    code: "invalid",
    detail: `The ${place} is not valid${where}: ${first?.detail ?? "unknown reason"}`,
    remedy: "GET /v1/openapi.json describes every request",
    errors,
  };
}

function nameOf(entry: { pointer?: string; parameter?: string }): string {
  return JSON.stringify(entry.pointer ?? entry.parameter ?? "");
}

function pointerOf(steps: readonly PropertyKey[]): string {
  return steps
    .map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`)
    .join("");
}

import type { ClientError, ProblemDocument } from "../../api/native/client.ts";

/** What `lode` ends with. `exec` and `run` end with their command's code instead. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  unauthorised: 4,
  notFound: 5,
  refused: 6,
  deployFailed: 7,
  /** Of `exec` and `run`, when the command itself could not be run to its end. */
  notRun: 125,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export const exitCodeHelp = `
Exit codes:
  0  done                          4  not authenticated, or not allowed
  1  failed                        5  there is no such app, release, …
  2  wrong usage                   6  refused: not valid, or in conflict
  3  no cloud could be reached     7  the release failed; the old one serves on
  exec and run end with their command's code, or 125 when it could not be run.`;

/** Why a command did not do what it was asked. */
export interface Failure {
  readonly exitCode: number;
  /** One sentence: what is wrong and where. */
  readonly message: string;
  readonly remedy: string | null;
  /** Further lines, such as the last of a log. */
  readonly details: readonly string[];
}

export function failure(
  exitCode: number,
  message: string,
  remedy: string | null = null,
  details: readonly string[] = [],
): Failure {
  return { exitCode, message, remedy, details };
}

export function usageFailure(message: string, remedy: string | null = null): Failure {
  return failure(exitCodes.usage, message, remedy);
}

/** `whence` says where the API's address came from. */
export function failureOf(error: ClientError, whence: string): Failure {
  switch (error.kind) {
    case "unreachable":
      return failure(
        exitCodes.unreachable,
        `no cloud answers at ${originOf(error.url)} (${whence}): ${error.message}`,
        "start one with `lode up`, or name one with LODE_API",
      );
    case "notLode":
      return failure(
        exitCodes.unreachable,
        `what answers at ${originOf(error.url)} (${whence}) is not Lode: ${error.message}`,
        "name the cloud's API with LODE_API",
      );
    case "problem":
      return failure(
        exitCodeOf(error.problem),
        error.problem.detail,
        error.problem.remedy,
        detailsOf(error.problem),
      );
  }
}

function originOf(url: string): string {
  return /^[a-z]+:\/\/[^/]+/.exec(url)?.[0] ?? url;
}

function exitCodeOf({ status }: ProblemDocument): ExitCode {
  if (status === 401 || status === 403) return exitCodes.unauthorised;
  if (status === 404) return exitCodes.notFound;
  return status >= 400 && status < 500 ? exitCodes.refused : exitCodes.failed;
}

/** Places that the problem's own sentence does not name. */
function detailsOf(problem: ProblemDocument): string[] {
  return problem.errors.flatMap(({ detail, pointer, parameter, location }) => {
    const where = location ?? pointer ?? parameter;
    if (where !== undefined && !problem.detail.includes(where)) {
      return [detail === problem.detail ? `at ${where}` : `at ${where}: ${detail}`];
    }
    return problem.detail.includes(detail) ? [] : [detail];
  });
}

/**
 * What is wrong with an upload, in the shape of control's OperationError: `message` is one
 * sentence that says what and where, `remedy` how to mend it, `at` the path (and line) in the
 * user's own tree.
 */
export interface ManifestProblem {
  readonly code: "invalid" | "tooLarge";
  readonly message: string;
  readonly remedy: string | null;
  readonly at: string | null;
}

/** Why a tree cannot be run; same shape. `at` is `lode.toml:7` or a path. */
export interface ConfigProblem {
  readonly code: "unprocessable";
  readonly message: string;
  readonly remedy: string | null;
  readonly at: string | null;
}

export function configProblem(
  message: string,
  where: { readonly at?: string; readonly remedy?: string } = {},
): ConfigProblem {
  return {
    code: "unprocessable",
    message,
    remedy: where.remedy ?? null,
    at: where.at ?? null,
  };
}

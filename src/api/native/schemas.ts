import { z } from "@hono/zod-openapi";

/**
 * The shapes of the native API, once: requests are parsed by them, the OpenAPI document is
 * made from them, and the client's types are inferred from them. Times are milliseconds since
 * the Unix epoch, sizes bytes, CPU cores.
 */

export const timestamp = z.number().int().nonnegative();
export const releaseNumber = z.number().int().positive();
const label = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
    'use 1 to 63 of a-z, 0-9 and "-", beginning and ending with a letter or digit',
  );
const instanceId = z
  .string()
  .regex(/^[a-z0-9-]{1,64}$/, 'an instance\'s id has 1 to 64 of a-z, 0-9 and "-"');
const digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "a digest is a SHA-256 in 64 lowercase hexadecimal digits");

export const parameters = {
  project: label,
  app: label,
  release: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  digest,
  certificate: label,
  token: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "a token's id has 1 to 64 characters"),
} as const;

export const pageQuery = z.strictObject({
  after: z.string().max(512).optional().openapi({ description: "`next` of the page before" }),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

export function page<Item extends z.ZodType>(name: string, item: Item) {
  return z
    .object({
      items: z.array(item).readonly(),
      next: z
        .string()
        .nullable()
        .openapi({ description: "Pass as `after` for the next page; null at the end" }),
    })
    .openapi(name);
}

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.string().openapi({ description: "From a closed set, for programs" }),
    remedy: z.string().nullable().openapi({ description: "How to mend it" }),
    requestId: z.string(),
    errors: z
      .array(
        z.object({
          detail: z.string(),
          pointer: z.string().optional().openapi({ description: "JSON pointer into the body" }),
          parameter: z.string().optional(),
          location: z.string().optional().openapi({ description: "Path in the uploaded files" }),
        }),
      )
      .readonly(),
  })
  .openapi("Problem");

const boundSchema = z
  .strictObject({
    min: z.number().positive().nullable(),
    max: z.number().positive().nullable(),
    burst: z.number().positive().nullable(),
  })
  .openapi("Bounds");

const exitCauseSchema = z
  .discriminatedUnion("kind", [
    z.object({ kind: z.literal("exit"), code: z.number().int() }),
    z.object({ kind: z.literal("signal"), signal: z.string() }),
    z.object({ kind: z.literal("out-of-memory"), limitBytes: z.number().nullable() }),
    z.object({ kind: z.literal("launch"), reason: z.string() }),
    z.object({ kind: z.literal("unhealthy"), reason: z.string() }),
    z.object({ kind: z.literal("unknown") }),
  ])
  .openapi("ExitCause");

const failureStage = z.enum(["build", "release", "start"]);

const endpointSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("unix"), path: z.string() }),
  z.object({ kind: z.literal("tcp"), host: z.string(), port: z.number().int() }),
]);

const processFields = { pid: z.number().int(), endpoint: endpointSchema.nullable() };

const phaseSchema = z
  .discriminatedUnion("state", [
    z.object({ state: z.literal("preparing"), step: z.enum(["files", "build"]) }),
    z.object({ state: z.literal("starting"), pid: z.number().int().nullable() }),
    z.object({ state: z.literal("running"), startedAt: timestamp, ...processFields }),
    z.object({ state: z.literal("frozen"), since: timestamp, ...processFields }),
    z.object({ state: z.literal("asleep"), since: timestamp }),
    z.object({ state: z.literal("backing-off"), until: timestamp, cause: exitCauseSchema }),
    z.object({ state: z.literal("stopping"), since: timestamp }),
    z.object({ state: z.literal("done"), code: z.number().int() }),
    z.object({
      state: z.literal("failed"),
      stage: failureStage,
      reason: z.string(),
      logTail: z.array(z.string()).readonly(),
    }),
  ])
  .openapi("InstancePhase");

/** Burst credit, in core-seconds or byte-seconds. */
const creditSchema = z
  .object({ left: z.number().nonnegative(), capacity: z.number().positive() })
  .openapi("CreditLeft");

export const instanceSchema = z
  .object({
    instance: z.string(),
    project: z.string(),
    app: z.string(),
    release: releaseNumber,
    process: z.string(),
    node: z.string(),
    phase: phaseSchema,
    wasHealthy: z.boolean(),
    restarts: z.number().int().nonnegative(),
    lastExit: z.object({ cause: exitCauseSchema, at: timestamp }).nullable(),
    usage: z
      .object({
        cpuCores: z.number().nonnegative(),
        cpuTimeUs: z.number().nonnegative(),
        memoryBytes: z.number().nonnegative(),
        oomKills: z.number().int().nonnegative(),
        confined: z.boolean(),
        cpuCredit: creditSchema.nullable(),
        memoryCredit: creditSchema.nullable(),
      })
      .nullable(),
  })
  .openapi("Instance");
export const instancePageSchema = page("InstancePage", instanceSchema);

const stringMap = z.record(z.string(), z.string());

export const appSchema = z
  .object({
    project: z.string(),
    name: z.string(),
    createdAt: timestamp,
    urls: z.array(z.string()).readonly(),
    serving: releaseNumber.nullable(),
    target: releaseNumber.nullable(),
    counts: z.record(z.string(), z.number().int().nonnegative()),
    limits: z.object({ cpu: boundSchema.nullable(), memory: boundSchema.nullable() }),
    env: stringMap,
    secretNames: z.array(z.string()).readonly(),
    state: z.enum(["empty", "deploying", "serving", "asleep", "degraded", "failed", "removing"]),
    instances: z.array(instanceSchema).readonly(),
  })
  .openapi("App");
export const appPageSchema = page("AppPage", appSchema);

const relativePath = z.string().min(1).max(4096);

export const manifestSchema = z
  .strictObject({
    entries: z
      .array(
        z.discriminatedUnion("kind", [
          z.strictObject({
            kind: z.literal("file"),
            path: relativePath,
            digest,
            size: z.number().int().nonnegative(),
            executable: z.boolean(),
          }),
          z.strictObject({
            kind: z.literal("symlink"),
            path: relativePath,
            target: z.string().min(1).max(4096),
          }),
          z.strictObject({ kind: z.literal("directory"), path: relativePath }),
        ]),
      )
      .readonly(),
  })
  .openapi("Manifest");

export const deployRequestSchema = z
  .strictObject({ manifest: manifestSchema })
  .openapi("DeployRequest");

const recognitionSchema = z
  .object({
    kind: z.enum([
      "lode.toml",
      "procfile",
      "package.json",
      "fetch",
      "python",
      "jar",
      "executable",
      "static",
    ]),
    reason: z.string(),
  })
  .openapi("Recognition");

export const deployAcceptedSchema = z
  .object({
    app: z.string(),
    release: releaseNumber,
    url: z.string().nullable(),
    recognition: recognitionSchema,
  })
  .openapi("DeployAccepted");

export const rollbackRequestSchema = z
  .strictObject({
    release: releaseNumber
      .nullable()
      .default(null)
      .openapi({ description: "Null: the release that served before" }),
  })
  .openapi("RollbackRequest");

const commandSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("fetch"), entry: z.string() }),
  z.object({ kind: z.literal("static"), root: z.string() }),
  z.object({ kind: z.literal("shell"), line: z.string() }),
  z.object({ kind: z.literal("argv"), argv: z.array(z.string()).readonly() }),
]);

const limitsSchema = z.object({
  cpu: boundSchema,
  memory: boundSchema,
  pids: z.number().int(),
  openFiles: z.number().int(),
  disk: z.number().int(),
});

const releaseConfigSchema = z
  .object({
    recognition: recognitionSchema,
    processes: z.record(
      z.string(),
      z.object({ command: commandSchema, listen: z.enum(["unix", "tcp", "none"]) }),
    ),
    build: z
      .array(
        z.object({
          produces: z.enum(["dependencies", "app"]),
          inputs: z.array(z.string()).readonly().nullable(),
          commands: z.array(z.string()).readonly(),
          output: z.string(),
          cacheKey: z.string(),
        }),
      )
      .readonly(),
    http: z
      .object({
        process: z.string(),
        hosts: z.array(z.string()).readonly(),
        health: z.object({ path: z.string().nullable(), timeoutMs: z.number() }),
        affinity: z
          .discriminatedUnion("kind", [
            z.object({ kind: z.literal("header"), name: z.string() }),
            z.object({ kind: z.literal("cookie"), name: z.string() }),
            z.object({ kind: z.literal("path"), index: z.number().int() }),
            z.object({ kind: z.literal("query"), name: z.string() }),
          ])
          .optional()
          .openapi({ description: "Where a request's key stands; absent: it has none" }),
      })
      .nullable(),
    limits: limitsSchema,
    scale: z.object({
      min: z.number().int(),
      max: z.number().int(),
      inFlight: z.number().int(),
      freezeMs: z.number().nullable(),
      idleMs: z.number(),
    }),
    egress: z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("public") }),
      z.object({ kind: z.literal("none") }),
      z.object({ kind: z.literal("public-and"), cidrs: z.array(z.string()).readonly() }),
    ]),
    env: stringMap,
  })
  .openapi("ReleaseConfig");

const deploymentBase = {
  project: z.string(),
  app: z.string(),
  number: releaseNumber,
  startedAt: timestamp,
} as const;

const deploymentSchema = z
  .discriminatedUnion("state", [
    z.object({ ...deploymentBase, state: z.literal("starting") }),
    z.object({ ...deploymentBase, state: z.literal("serving"), servingAt: timestamp }),
    z.object({
      ...deploymentBase,
      state: z.literal("replaced"),
      servingAt: timestamp,
      endedAt: timestamp,
    }),
    z.object({ ...deploymentBase, state: z.literal("superseded"), endedAt: timestamp }),
    z.object({
      ...deploymentBase,
      state: z.literal("failed"),
      endedAt: timestamp,
      stage: failureStage,
      reason: z.string(),
      logTail: z.array(z.string()).readonly(),
    }),
  ])
  .openapi("Deployment");

export const releaseSchema = z
  .object({
    release: z.object({
      project: z.string(),
      app: z.string(),
      number: releaseNumber,
      createdAt: timestamp,
      createdBy: z.string(),
      cause: z.string(),
      manifest: z.string(),
      config: releaseConfigSchema,
      env: stringMap,
      secretNames: z.array(z.string()).readonly(),
    }),
    deployment: deploymentSchema,
  })
  .openapi("Release");
export const releasePageSchema = page("ReleasePage", releaseSchema);

const stageName = z.enum(["build", "release", "start", "switch"]);

export const deploymentEventSchema = z
  .discriminatedUnion("kind", [
    z.object({
      kind: z.literal("stage"),
      stage: stageName,
      state: z.enum(["begin", "end"]),
      at: timestamp,
      message: z.string(),
    }),
    z.object({ kind: z.literal("output"), at: timestamp, line: z.string() }),
    z.object({
      kind: z.literal("end"),
      at: timestamp,
      state: z.enum(["serving", "failed", "superseded"]),
      reason: z.string().nullable(),
      logTail: z.array(z.string()).readonly(),
      durationMs: z.object({ build: z.number(), start: z.number(), total: z.number() }),
    }),
  ])
  .openapi("DeploymentEvent");

const variableName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, "a variable's name has letters, digits and _");

export const variableChangesSchema = z
  .strictObject({
    changes: z
      .record(variableName, z.string().max(131_072).nullable())
      .openapi({ description: "A null value unsets" }),
  })
  .openapi("VariableChanges");
export const variablesChangedSchema = z
  .object({ release: releaseNumber.nullable() })
  .openapi("VariablesChanged");
export const environmentSchema = z.object({ env: stringMap }).openapi("Environment");
export const secretNamesSchema = z
  .object({ names: z.array(z.string()).readonly() })
  .openapi("SecretNames");

export const scaleRequestSchema = z
  .strictObject({ counts: z.record(label, z.number().int().min(0).max(10_000)) })
  .openapi("ScaleRequest");
export const costsSchema = z
  .object({
    classes: z
      .array(
        z.object({
          name: z.string(),
          costUs: z.number().nonnegative(),
          confidence: z.number().min(0).max(1),
          requests: z.number().nonnegative(),
          reported: z.boolean(),
        }),
      )
      .readonly(),
    idleUs: z.number().nonnegative(),
    sure: z.boolean(),
    learnedAt: timestamp.nullable(),
  })
  .openapi("Costs");

export const limitsRequestSchema = z
  .strictObject({ cpu: boundSchema.optional(), memory: boundSchema.optional() })
  .openapi("LimitsRequest");

export const missingBlobsRequestSchema = z
  .strictObject({ digests: z.array(digest).max(10_000).readonly() })
  .openapi("MissingBlobsRequest");
export const missingBlobsSchema = z
  .object({ missing: z.array(z.string()).readonly() })
  .openapi("MissingBlobs");
export const blobStoredSchema = z.object({ size: z.number().int() }).openapi("BlobStored");

export const logsQuery = z.strictObject({
  process: label.optional(),
  instance: instanceId.optional(),
  since: z.coerce.number().int().nonnegative().optional(),
  tail: z.coerce.number().int().min(0).max(10_000).default(100),
  follow: z.enum(["true", "false"]).default("false"),
});
export const logLineSchema = z
  .object({
    at: timestamp,
    app: z.string(),
    instance: z.string(),
    process: z.string(),
    stream: z.enum(["out", "lode"]),
    text: z.string(),
  })
  .openapi("LogLine");
export const logLinesSchema = z
  .object({ lines: z.array(logLineSchema).readonly() })
  .openapi("LogLines");

const dimension = z.number().int().min(1).max(10_000);

/** The first text frame of an exec or run socket. */
export const execStartSchema = z
  .strictObject({
    kind: z.literal("start"),
    argv: z.array(z.string().max(131_072)).max(4096).readonly(),
    instance: instanceId.nullable().default(null),
    terminal: z.strictObject({ columns: dimension, rows: dimension }).nullable().default(null),
  })
  .openapi("ExecStart");

/** Text frames after the first; binary frames are standard input. */
export const execControlSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("eof") }),
  z.strictObject({ kind: z.literal("resize"), columns: dimension, rows: dimension }),
  z.strictObject({ kind: z.literal("signal"), signal: z.string().regex(/^SIG[A-Z0-9]{1,12}$/) }),
]);

export const certificateRequestSchema = z
  .strictObject({
    certificateChain: z.string().min(1).max(262_144),
    privateKey: z.string().min(1).max(65_536),
  })
  .openapi("CertificateRequest");
export const certificateSetSchema = z
  .object({ hosts: z.array(z.string()).readonly(), expiresAt: timestamp })
  .openapi("CertificateSet");
export const certificateSchema = z
  .object({ name: z.string(), hosts: z.array(z.string()).readonly(), expiresAt: timestamp })
  .openapi("Certificate");
export const certificatePageSchema = page("CertificatePage", certificateSchema);

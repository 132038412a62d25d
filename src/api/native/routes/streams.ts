import type { z } from "@hono/zod-openapi";
import { err, ok, type Result } from "../../../base/result.ts";
import type { OperationError } from "../../../control/operations.ts";
import type { InstanceId, ProcessType } from "../../../model/names.ts";
import type { LogLine } from "../../../model/wire.ts";
import { eventStream, lastEventId } from "../eventStream.ts";
import { createExecSocket, execProtocol, type OpenSession } from "../execSocket.ts";
import { type Problem, problemOf } from "../problems.ts";
import { type Call, jsonResponse, type Route, rawRoute } from "../routing.ts";
import { execStartSchema, logLineSchema, logLinesSchema, logsQuery } from "../schemas.ts";
import type { Services } from "../services.ts";
import { appPath, appRef, noBody, nothing, ofApp } from "./common.ts";

const linesMax = 10_000;

/** What flows: logs, and the terminals of exec and run. */
export function streamRoutes(services: Services): readonly Route[] {
  const { operations } = services;
  return [
    logsRoute(services),
    socketRoute(
      services,
      {
        id: "exec",
        path: `${appPath}/exec`,
        summary: "Runs a command in a running instance, over a WebSocket",
      },
      (call) => (start) =>
        operations.exec(
          appRef(call.params),
          {
            instance: start.instance as InstanceId | null,
            argv: start.argv,
            terminal: start.terminal,
          },
          call.actor,
        ),
    ),
    socketRoute(
      services,
      {
        id: "run",
        path: `${appPath}/run`,
        summary: "Runs a one-off command in the serving release's environment, over a WebSocket",
      },
      (call) => (start) =>
        operations.run(
          appRef(call.params),
          { argv: start.argv, terminal: start.terminal },
          call.actor,
        ),
    ),
  ];
}

type LogsCall = Call<z.output<typeof ofApp>, z.output<typeof logsQuery>, undefined>;

function logsRoute(services: Services): Route {
  return rawRoute(
    {
      id: "getLogs",
      method: "get",
      path: `${appPath}/logs`,
      summary: "The newest log lines; with `follow=true` also what comes, as server-sent events",
      params: ofApp,
      query: logsQuery,
      body: noBody,
      bodyBytesMax: null,
    },
    {
      success: {
        status: 200,
        description:
          "LogLines; or, following, events named `line` with a LogLine as data, which " +
          "`Last-Event-ID` continues",
        mediaType: "application/json",
        schema: logLinesSchema,
        also: { "text/event-stream": logLineSchema },
      },
    },
    async (call) => (call.query.follow === "true" ? follow(services, call) : read(services, call)),
  );
}

function openLogs(
  { operations }: Services,
  call: LogsCall,
  from: { readonly since: number | null; readonly tail: number; readonly follow: boolean },
  signal: AbortSignal,
): Promise<Result<AsyncIterable<LogLine>, OperationError>> {
  return operations.logs(
    appRef(call.params),
    {
      process: (call.query.process ?? null) as ProcessType | null,
      instance: (call.query.instance ?? null) as InstanceId | null,
      ...from,
    },
    signal,
  );
}

async function read(services: Services, call: LogsCall): Promise<Result<Response, Problem>> {
  const { since = null, tail } = call.query;
  const opened = await openLogs(
    services,
    call,
    { since, tail, follow: false },
    call.request.signal,
  );
  if (!opened.ok) return err(problemOf(opened.error));
  const lines: LogLine[] = [];
  for await (const line of opened.value) lines.push(line);
  return ok(jsonResponse(200, { lines }));
}

/**
 * An event's id is `time.count`: the line's time and how many lines of that time were sent.
 * A client that comes back with it gets every later line once.
 */
async function follow(services: Services, call: LogsCall): Promise<Result<Response, Problem>> {
  call.server?.timeout(call.request, 0);
  const abort = new AbortController();
  const seen = /^(\d{1,16})\.(\d{1,9})$/.exec(lastEventId(call.request) ?? "");
  const position = seen === null ? null : { at: Number(seen[1]), count: Number(seen[2]) };
  const from =
    position === null
      ? { since: call.query.since ?? null, tail: call.query.tail }
      : { since: position.at, tail: linesMax };
  const opened = await openLogs(services, call, { ...from, follow: true }, abort.signal);
  if (!opened.ok) return err(problemOf(opened.error));
  let at = -1;
  let count = 0;
  return ok(
    eventStream(services, abort, opened.value, (line) => {
      count = line.at === at ? count + 1 : 1;
      at = line.at;
      if (position !== null && at === position.at && count <= position.count) return null;
      return { id: `${at}.${count}`, event: "line", data: line };
    }),
  );
}

function socketRoute(
  services: Services,
  described: { readonly id: string; readonly path: string; readonly summary: string },
  opener: (call: Call<z.output<typeof ofApp>, unknown, undefined>) => OpenSession,
): Route {
  return rawRoute(
    {
      ...described,
      method: "get",
      params: ofApp,
      query: nothing,
      body: noBody,
      bodyBytesMax: null,
    },
    {
      success: {
        status: 101,
        description:
          `A socket of protocol \`${execProtocol}\`. The client's first text frame is an ` +
          "ExecStart; then binary frames are standard input and text frames " +
          '`{"kind":"eof"}`, `{"kind":"resize","columns","rows"}` or ' +
          '`{"kind":"signal","signal"}`. The server sends binary frames, whose first byte is ' +
          '1 (standard output) or 2 (standard error), and text frames `{"kind":"started"}`, ' +
          '`{"kind":"exit","code"}` or `{"kind":"problem","problem"}`. Browsers give the token ' +
          "as a second protocol, `lode.bearer.TOKEN`.",
        mediaType: "application/json",
        schema: execStartSchema,
      },
    },
    async (call) => {
      const wants = call.request.headers.get("upgrade")?.toLowerCase() === "websocket";
      const socket = createExecSocket(services, call.requestId, opener(call));
      const upgraded =
        wants &&
        call.server?.upgrade(call.request, {
          data: socket,
          headers: { "Sec-WebSocket-Protocol": execProtocol },
        });
      if (upgraded) return ok(undefined);
      return err({
        code: "upgradeRequired",
        detail: "This route speaks over a WebSocket",
        headers: { Upgrade: "websocket", Connection: "Upgrade" },
      });
    },
  );
}

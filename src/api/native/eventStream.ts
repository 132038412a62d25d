import type { Services } from "./services.ts";

export interface ServerSentEvent {
  readonly id: string;
  readonly event: string;
  readonly data: unknown;
}

/**
 * Streams `items` as server-sent events. Nothing is taken from `items` before the client took
 * what came before; comments keep the connection alive; when the client goes, `abort` fires.
 */
export function eventStream<Item>(
  services: Pick<Services, "clock" | "settings" | "log">,
  abort: AbortController,
  items: AsyncIterable<Item>,
  format: (item: Item) => ServerSentEvent | null,
): Response {
  const encoder = new TextEncoder();
  const iterator = items[Symbol.asyncIterator]();
  let heartbeat: { cancel(): void } | null = null;
  let over = false;

  function stop(): void {
    over = true;
    heartbeat?.cancel();
    abort.abort();
    void iterator.return?.()?.then(undefined, () => undefined);
  }

  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode("retry: 500\n\n"));
      heartbeat = services.clock.every(services.settings.limits.heartbeatMs, () => {
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(encoder.encode(":\n\n"));
      });
    },
    async pull(controller) {
      try {
        for (;;) {
          const next = await iterator.next();
          // The client went while the source was silent.
          if (over) return;
          if (next.done) {
            stop();
            controller.close();
            return;
          }
          const event = format(next.value);
          if (event === null) continue;
          controller.enqueue(encoder.encode(textOf(event)));
          return;
        }
      } catch (cause) {
        if (over) return;
        stop();
        services.log("api.stream-broke", { cause: String(cause) });
        controller.error(cause);
      }
    },
    cancel: stop,
  });
  return new Response(stream, {
    headers: {
      "Content-Type": "text/event-stream",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no",
    },
  });
}

function textOf({ id, event, data }: ServerSentEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

export function lastEventId(request: Request): string | null {
  return request.headers.get("last-event-id");
}

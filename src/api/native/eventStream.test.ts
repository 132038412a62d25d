import { expect, test } from "bun:test";
import { VirtualClock } from "../../base/virtual.ts";
import { eventStream } from "./eventStream.ts";
import { defaultApiLimits } from "./services.ts";

function setUp() {
  const clock = new VirtualClock();
  const logged: string[] = [];
  const services = {
    clock,
    settings: { version: "0", hostNames: [], limits: { ...defaultApiLimits, heartbeatMs: 100 } },
    log: (event: string) => logged.push(event),
  };
  return { clock, services, logged, abort: new AbortController() };
}

const format = (item: number) => ({ id: String(item), event: "n", data: item });

function readerOf(response: Response) {
  if (response.body === null) throw new Error("the response has no body");
  return response.body.getReader();
}

async function readChunk(reader: ReturnType<typeof readerOf>): Promise<string> {
  const { value } = await reader.read();
  return new TextDecoder().decode(value);
}

test("nothing is taken from the source before the client took what came before", async () => {
  const { services, abort } = setUp();
  let taken = 0;
  async function* endless() {
    for (;;) yield ++taken;
  }
  const reader = readerOf(eventStream(services, abort, endless(), format));
  expect(await readChunk(reader)).toBe("retry: 500\n\n");
  expect(await readChunk(reader)).toBe("id: 1\nevent: n\ndata: 1\n\n");
  await Bun.sleep(10);
  expect(taken).toBeLessThanOrEqual(2);
  await reader.cancel();
});

test("signs of life while nothing is told; the source ends with the client", async () => {
  const { clock, services, abort } = setUp();
  let returned = false;
  const silent: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise(() => {}),
      return: async () => {
        returned = true;
        return { done: true, value: undefined };
      },
    }),
  };
  const reader = readerOf(eventStream(services, abort, silent, format));
  await readChunk(reader);
  clock.advance(250);
  expect(await readChunk(reader)).toBe(":\n\n");
  await reader.cancel();
  expect(abort.signal.aborted).toBe(true);
  expect(returned).toBe(true);
  expect(clock.pending).toBe(0);
});

test("the stream ends with its source, and breaks with it", async () => {
  const { clock, services, abort } = setUp();
  async function* two() {
    yield 1;
    yield 2;
  }
  const text = await eventStream(services, abort, two(), format).text();
  expect(text.match(/^id: .*$/gm)).toEqual(["id: 1", "id: 2"]);
  async function* broken() {
    yield 1;
    throw new Error("lost");
  }
  const stream = eventStream(services, new AbortController(), broken(), format);
  await expect(stream.text()).rejects.toThrow("lost");
  expect(clock.pending).toBe(0);
});

test("a source that ends because the client went is no news", async () => {
  const { services, logged, abort } = setUp();
  async function* untilAborted() {
    yield 1;
    await new Promise<void>((resolve) => abort.signal.addEventListener("abort", () => resolve()));
  }
  const reader = readerOf(eventStream(services, abort, untilAborted(), format));
  await readChunk(reader);
  await readChunk(reader);
  await reader.cancel();
  await Bun.sleep(10);
  expect(logged).toEqual([]);
});

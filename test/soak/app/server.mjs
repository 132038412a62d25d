// Streams as long as somebody reads, reads as long as it is told to, and counts both. It runs on
// Node, whose own back-pressure is not what is tested here. Runs inside an instance.
import { createServer } from "node:http";

const block = Buffer.alloc(16_384, "0123456789abcdef");
/** Bytes made or read so far, by the `id` of the request. */
const counts = new Map();

/** Writes up to `bytes`, never more than the reader takes. */
function stream(response, bytes, id) {
  let made = 0;
  const more = () => {
    for (let goesOn = true; goesOn && made < bytes && !response.destroyed; ) {
      const length = Math.min(block.length, bytes - made);
      made += length;
      counts.set(id, made);
      goesOn = response.write(block.subarray(0, length));
    }
    if (made >= bytes) response.end();
  };
  response.on("drain", more);
  response.on("close", () => setTimeout(() => counts.delete(id), 60_000));
  more();
}

/** Counts the body, after a while of not reading it. */
function read(request, response, afterMs, id) {
  let total = 0;
  setTimeout(() => {
    request.on("data", (piece) => {
      total += piece.length;
    });
    request.on("end", () => response.end(String(total)));
  }, afterMs);
  request.on("error", () => response.destroy());
  counts.set(id, 0);
}

createServer((request, response) => {
  const url = new URL(request.url, "http://app");
  const number = (name) => Number(url.searchParams.get(name) ?? 0);
  const id = url.searchParams.get("id") ?? "";
  switch (url.pathname) {
    case "/stream":
      return stream(response, number("bytes"), id);
    case "/made":
      return response.end(String(counts.get(id) ?? 0));
    case "/upload":
      return read(request, response, number("after"), id);
  }
  request.resume();
  response.end(`hello ${id}`);
})
  .on("clientError", (_, socket) => socket.destroy())
  .listen(process.env.PORT);

// An echo on Bun.serve; prints its ports, the second one tells what it saw.
import { report, witness } from "./witness.mjs";

let answers = 0;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  async fetch(request) {
    const body = Buffer.from(await request.arrayBuffer());
    const id = request.headers.get("x-request-id");
    const headers = { "X-Seen": witness(request.method, request.url, id, body) };
    answers += 1;
    if (answers % 2 === 1) return new Response("seen", { headers });
    const stream = new ReadableStream({
      start(controller) {
        controller.enqueue("se");
        controller.enqueue("en");
        controller.close();
      },
    });
    return new Response(stream, { headers });
  },
});
const control = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response(report()) });
console.log(JSON.stringify({ port: server.port, control: control.port }));

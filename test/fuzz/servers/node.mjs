// An echo on node:http: `node node.mjs` prints its ports; the second one tells what it saw.
import { createServer } from "node:http";
import { report, witness } from "./witness.mjs";

let answers = 0;

const server = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("error", () => response.destroy());
  request.on("end", () => {
    const id = request.headersDistinct["x-request-id"];
    const only = id?.length === 1 ? id[0] : String(id);
    const body = Buffer.concat(pieces);
    response.setHeader("X-Seen", witness(request.method, request.url, only, body));
    answers += 1;
    // Both framings: with a length, and in chunks.
    if (answers % 2 === 0) response.write("see");
    response.end("n");
  });
});
server.on("checkContinue", (request, response) => {
  response.writeContinue();
  server.emit("request", request, response);
});
const control = createServer((_, response) => response.end(report()));
server.listen(0, "127.0.0.1", () => {
  control.listen(0, "127.0.0.1", () => {
    console.log(JSON.stringify({ port: server.address().port, control: control.address().port }));
  });
});

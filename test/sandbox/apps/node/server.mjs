// A hostile app on Node: every probe is a program that it starts.
import { execFile } from "node:child_process";
import { createServer } from "node:http";

createServer((request, response) => {
  const [id, ...words] = request.url.slice(1).split(/[?&]/);
  if (id === "") return response.end("ready\n");
  execFile("./probe", ["run", id, ...words], { timeout: 30_000 }, (error, stdout) => {
    response.end(stdout === "" ? `broken ${error}\n` : stdout);
  });
}).listen(process.env.PORT);

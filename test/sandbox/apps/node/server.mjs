// A hostile app on Node: every probe is a program that it starts, whose output is the app's.
import { spawn } from "node:child_process";
import { createServer } from "node:http";

createServer((request, response) => {
  const [id, ...words] = request.url.slice(1).split(/[?&]/);
  if (id === "") return response.end("ready\n");
  const stdio = ["ignore", "inherit", "inherit", "pipe"];
  const env = { ...process.env, REPORT_TO: "3" };
  const child = spawn("./probe", ["run", id, ...words], { stdio, env });
  child.on("error", (error) => response.end(`broken ${error}\n`));
  child.stdio[3].pipe(response);
}).listen(process.env.PORT);

// A plain Node server with npm packages and a start script: Lode installs from the lock file,
// runs the start script and gives it PORT. POST Markdown, get a page.
//
//   lode deploy examples/node-http
//   curl --data '# Hi' http://node-http.localhost:8080/

import { createServer } from "node:http";
import { marked } from "marked";
import { nanoid } from "nanoid";

const pages = new Map();
const lengthMax = 64 * 1024;

async function handle(request, response) {
  if (request.method === "POST") {
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) {
      text += chunk;
      if (text.length > lengthMax) return answer(response, 413, "That is too long.\n");
    }
    const id = nanoid(8);
    pages.set(id, marked.parse(text));
    return answer(response, 201, `/${id}\n`);
  }
  if (request.url === "/") return answer(response, 200, "POST some Markdown here.\n");
  const page = pages.get(request.url.slice(1));
  if (page === undefined) return answer(response, 404, "There is no such page.\n");
  return answer(response, 200, page, "text/html; charset=utf-8");
}

function answer(response, status, body, type = "text/plain; charset=utf-8") {
  response.writeHead(status, { "content-type": type });
  response.end(body);
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) answer(response, 500, "That went wrong.\n");
    else response.destroy();
  });
});

server.listen(Number(process.env.PORT), () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => server.close());

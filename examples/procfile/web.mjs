// `web:` takes requests: POST a text to have it shouted, GET the path it answers with.
//
//   lode deploy examples/procfile
//   curl --data hello http://procfile.localhost:8080/

import { randomUUID } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { done, waiting } from "./folders.mjs";

const server = createServer(async (request, response) => {
  if (request.method === "POST") {
    const id = randomUUID();
    // Renamed into place, so that the worker never sees half a file.
    const draft = join(done, `${id}.draft`);
    await writeFile(draft, await text(request));
    await rename(draft, join(waiting, id));
    response.writeHead(202).end(`/${id}\n`);
    return;
  }
  const id = /^\/([0-9a-f-]{36})$/.exec(request.url)?.[1];
  const result = id === undefined ? null : await readFile(join(done, id)).catch(() => null);
  if (result === null) response.writeHead(404).end("Not there (yet).\n");
  else response.end(result);
});

server.listen(Number(process.env.PORT), () => console.log(`listening on ${process.env.PORT}`));
process.on("SIGTERM", () => server.close());

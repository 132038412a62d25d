// `worker:` takes no requests; it shouts what waits.
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { done, waiting } from "./folders.mjs";

console.log("waiting for work");
for (;;) {
  for (const id of await readdir(waiting)) {
    const text = await readFile(join(waiting, id), "utf8");
    const draft = join(done, `${id}.draft`);
    await writeFile(draft, text.toUpperCase());
    await rename(draft, join(done, id));
    await rm(join(waiting, id));
    console.log(`shouted ${id}`);
  }
  await sleep(200);
}

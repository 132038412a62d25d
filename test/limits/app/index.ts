// Uses what it is asked to, and measures its own progress. Runs inside an instance.

import { existsSync, openSync, readSync } from "node:fs";
import { growthMs } from "./growth.ts";

const spinning: Bun.Subprocess[] = [];

function rest(): void {
  for (const child of spinning.splice(0)) child.kill("SIGKILL");
}

/** `processes` programs that do nothing but use CPU, in their own code or inside the kernel. */
function spin(processes: number, script: string): void {
  rest();
  for (let count = 0; count < processes; count++) {
    spinning.push(Bun.spawn(["/bin/sh", "-c", script], { stdio: ["ignore", "ignore", "ignore"] }));
  }
}

/** Reads the file that was deployed with it, so that it lies in the app's page cache. */
function readBallast(): number {
  const file = `${import.meta.dir}/ballast`;
  if (!existsSync(file)) return 0;
  const descriptor = openSync(file, "r");
  const buffer = new Uint8Array(1 << 20);
  let total = 0;
  for (let read = 1; read > 0; total += read) read = readSync(descriptor, buffer);
  return total;
}

const held: Uint8Array[] = [];

export default {
  async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const number = (name: string) => Number(url.searchParams.get(name) ?? 0);
    switch (url.pathname) {
      case "/spin":
        spin(number("processes"), "while :; do :; done");
        return new Response("spinning");
      case "/copy":
        spin(number("processes"), "exec dd if=/dev/zero of=/dev/null bs=1M");
        return new Response("copying");
      case "/rest":
        rest();
        return new Response("resting");
      case "/growth":
        return Response.json(await growthMs(number("threads"), number("rounds")));
      case "/ballast":
        return new Response(String(readBallast()));
      case "/hold":
        for (let mebibytes = number("mebibytes"); mebibytes > 0; mebibytes--) {
          held.push(new Uint8Array(1 << 20).fill(1));
        }
        return new Response(String(held.length));
    }
    return new Response("load");
  },
};

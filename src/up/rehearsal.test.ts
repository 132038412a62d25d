import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock, systemRandom } from "../fabric/system.ts";
import { SocketLoop } from "../gateway/sockets/loop.ts";
import { openSockets } from "../gateway/sockets/native.ts";
import { rehearse } from "./rehearsal.ts";

test("every request is answered, also those that wake the app, and nothing is left", async () => {
  const folder = mkdtempSync(join(tmpdir(), "lode-rehearsal-"));
  const problems: unknown[] = [];
  const loop = new SocketLoop({
    ...{ clock: systemClock, waitMsMax: 1 },
    onProblem: (error) => problems.push(error),
  });
  const sockets = openSockets(loop);
  const rehearsed = await rehearse({ clock: loop.clock, random: systemRandom, sockets }, 6, folder);
  loop.close();
  expect(problems).toEqual([]);
  expect(rehearsed).toEqual({ requests: 12, wakes: 3 });
  expect(readdirSync(folder)).toEqual([]);
  rmdirSync(folder);
});

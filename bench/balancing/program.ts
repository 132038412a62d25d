import { mkdirSync } from "node:fs";
import { join } from "node:path";

/** Of the CPU of a request to `/cheap`, one to `/dear` uses so many times as much. */
export const costRatio = 100;
const cheapMs = 0.5;
/** CPU that any request costs besides, as was seen. */
const servingMs = 0.06;

/**
 * Writes the app into the folder: two routes that do nothing but use CPU, always the same amount.
 *
 * @param instances that stay awake, also while no requests come by way of Lode
 */
export async function writeProgram(folder: string, instances: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const perMs = roundsPerMs();
  const cheapRounds = Math.round(perMs * cheapMs);
  const dearRounds = Math.round(perMs * ((cheapMs + servingMs) * costRatio - servingMs));
  await Bun.write(join(folder, "lode.toml"), `[scale]\nmin = ${instances}\n`);
  await Bun.write(
    join(folder, "index.ts"),
    `function spend(rounds: number): number {
  let value = 1;
  for (let round = 0; round < rounds; round += 1) value = Math.imul(value ^ round, 0x9e3779b1);
  return value;
}
for (let warm = 0; warm < 200; warm += 1) spend(10_000);
export default {
  fetch(request: Request): Response {
    const rounds = request.url.endsWith("/dear") ? ${dearRounds} : ${cheapRounds};
    return new Response(String(spend(rounds)));
  },
};
`,
  );
}

/** How often the app's loop runs in a millisecond of CPU, here and now. */
function roundsPerMs(): number {
  const rates: number[] = [];
  for (let trial = 0; trial < 20; trial += 1) {
    const before = process.cpuUsage();
    let value = 1;
    const rounds = 4_000_000;
    for (let round = 0; round < rounds; round += 1) value = Math.imul(value ^ round, 0x9e3779b1);
    const { user, system } = process.cpuUsage(before);
    rates.push(rounds / ((user + system) / 1000) + (value === 0 ? 1 : 0));
  }
  return rates.sort((a, b) => a - b)[rates.length >> 1] as number;
}

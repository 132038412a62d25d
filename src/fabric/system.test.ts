import { expect, test } from "bun:test";
import { systemClock, systemRandom } from "./system.ts";

test("timers fire once or again and again, and not after they were cancelled", async () => {
  const trace: string[] = [];
  systemClock.after(0, () => trace.push("cancelled")).cancel();
  systemClock.after(2 ** 40, () => trace.push("in 34 years"));
  await new Promise<void>((resolve) => {
    const timer = systemClock.every(1, () => {
      trace.push("again");
      if (trace.length < 3) return;
      timer.cancel();
      systemClock.after(5, resolve);
    });
  });
  expect(trace).toEqual(["again", "again", "again"]);
});

test("timers do not keep the process alive", () => {
  const script = `
    import { systemClock } from ${JSON.stringify(`${import.meta.dir}/system.ts`)};
    systemClock.after(3_600_000, () => {});
    systemClock.every(3_600_000, () => {});
  `;
  expect(Bun.spawnSync([process.execPath, "-e", script]).exitCode).toBe(0);
});

test("random tokens have their length and alphabet, floats their range", () => {
  expect(systemRandom.token(0)).toBe("");
  const text = systemRandom.token(20_000);
  expect(text).toMatch(/^[a-z0-9]{20000}$/);
  expect(new Set(text).size).toBe(36);
  for (let round = 0; round < 1000; round++) {
    const number = systemRandom.next();
    expect(number >= 0 && number < 1).toBe(true);
  }
});

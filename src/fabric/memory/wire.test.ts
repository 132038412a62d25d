import { describe, expect, test } from "bun:test";
import { VirtualClock } from "../../base/virtual.ts";
import { wireContract } from "../wire.contract.ts";
import { createMemoryWire } from "./wire.ts";

wireContract("memory", async () => {
  const clock = new VirtualClock();
  const wire = createMemoryWire({ clock });
  return {
    party: async () => wire,
    settle: () => clock.run(0),
    elapse: (durationMs) => clock.run(durationMs),
    dispose: () => wire.close(),
  };
});

describe("memory wire", () => {
  test("[W5] a subscriber with a full queue loses its oldest messages, counted", async () => {
    const clock = new VirtualClock();
    const dropped: string[] = [];
    const onDrop = (pattern: string) => dropped.push(pattern);
    const wire = createMemoryWire({ clock, queueMessagesMax: 10, onDrop });
    const all: unknown[] = [];
    const even: unknown[] = [];
    wire.subscribe("n.>", ({ payload }) => all.push(payload));
    wire.subscribe("n.even", ({ payload }) => even.push(payload));
    for (let n = 0; n < 20; n++) wire.publish(n % 2 === 0 ? "n.even" : "n.odd", n);
    await clock.run(0);
    expect(all).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    expect(even).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18]);
    expect(dropped).toEqual(Array.from({ length: 10 }, () => "n.>"));
  });
});

import { expect, test } from "bun:test";
import { createMemoryWire } from "../fabric/memory/wire.ts";
import type { InstanceId } from "../model/names.ts";
import { subjects } from "../model/wire.ts";
import { createGateways } from "./gateways.ts";

test("a gateway that runs but is not on the wire yet may have requests; a dead one not", async () => {
  const wire = createMemoryWire();
  let running: readonly string[] = ["g0"];
  const gateways = createGateways(
    wire,
    () => running,
    () => {},
  );
  const quiesce = () => gateways.quiesce("i1" as InstanceId);
  expect(await quiesce()).toMatchObject({ inFlight: 0, complete: false });
  wire.respond(subjects.gatewayQuiesce("g0"), async () => ({ inFlight: 2, lastRequestAt: 7 }));
  expect(await quiesce()).toMatchObject({ inFlight: 2, lastRequestAt: 7, complete: true });
  // It is known by what it told, and its process has ended since.
  const load = { gateway: "g1", at: 8, instances: [], held: [] };
  wire.publish(subjects.gatewayLoad("g1"), load);
  await Bun.sleep(0);
  expect(await quiesce()).toMatchObject({ inFlight: 2, complete: true });
  running = ["g0", "g1"];
  expect(await quiesce()).toMatchObject({ inFlight: 2, complete: false });
  gateways.close();
});

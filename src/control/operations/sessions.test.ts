import { afterEach, beforeEach, expect, test } from "bun:test";
import { helloFiles, World } from "../../../sim/world.ts";
import type { Json } from "../../base/json.ts";
import type { NodeName, ProcessType } from "../../model/names.ts";
import {
  type ExecInput,
  type ExecOutput,
  type ExecReply,
  type ExecRequest,
  subjects,
} from "../../model/wire.ts";

const actor = { id: "tester" };
const n1 = "n1" as NodeName;
let world: World;
let asked: ExecRequest[];
let reply: ExecReply;

beforeEach(async () => {
  world = new World();
  await world.start();
  asked = [];
  reply = { ok: true };
  world.wire.respond(subjects.nodeExec(n1), async (payload) => {
    asked.push(payload as unknown as ExecRequest);
    return reply as unknown as Json;
  });
  await world.deploy("hello", helloFiles);
  await world.until("hello serves", async () => {
    const app = await world.control.operations.getApp(world.ref("hello"));
    return app.ok && app.value.serving === 1;
  });
});
afterEach(() => world.close());

const query = { instance: null, argv: ["ls"], terminal: null };

async function opened() {
  const session = await world.control.operations.exec(world.ref("hello"), query, actor);
  if (!session.ok) throw new Error(session.error.message);
  return session.value;
}

function say(output: ExecOutput): void {
  world.wire.publish(subjects.sessionOutput(asked[0]?.session ?? ""), { ...output });
}

test("a session carries input and output, and ends with the exit", async () => {
  const session = await opened();
  expect(asked[0]).toMatchObject({ target: { kind: "inside" }, argv: ["ls"], app: "hello" });
  const inputs: ExecInput[] = [];
  world.wire.subscribe(subjects.sessionInput(asked[0]?.session ?? ""), ({ payload }) => {
    inputs.push(payload as unknown as ExecInput);
  });
  session.input({ kind: "eof" });
  say({ kind: "data", stream: "stdout", data: "aGk=" });
  say({ kind: "exit", code: 3 });
  const outputs: ExecOutput[] = [];
  for await (const output of session.output) outputs.push(output);
  expect(outputs).toEqual([
    { kind: "data", stream: "stdout", data: "aGk=" },
    { kind: "exit", code: 3 },
  ]);
  await world.clock.run(60_000);
  expect(inputs).toEqual([{ kind: "eof" }]);
});

test("the agent hears of the client while it is there, and that it went", async () => {
  const session = await opened();
  const inputs: ExecInput[] = [];
  world.wire.subscribe(subjects.sessionInput(asked[0]?.session ?? ""), ({ payload }) => {
    inputs.push(payload as unknown as ExecInput);
  });
  await world.clock.run(25_000);
  expect(inputs).toEqual([{ kind: "alive" }, { kind: "alive" }]);
  session.close();
  await world.clock.run(25_000);
  expect(inputs.slice(2)).toEqual([{ kind: "signal", signal: "SIGHUP" }]);
});

test("a reader that is too slow loses the oldest output, and is told so", async () => {
  const session = await opened();
  for (let index = 0; index < 5_000; index += 1) {
    say({ kind: "data", stream: "stdout", data: Buffer.from(`${index}`).toString("base64") });
  }
  say({ kind: "exit", code: 0 });
  await world.clock.run(10);
  const outputs: ExecOutput[] = [];
  for await (const output of session.output) outputs.push(output);
  const [first] = outputs;
  const told = first?.kind === "data" ? Buffer.from(first.data, "base64").toString() : "";
  expect(told).toContain("905 pieces of output were lost");
  expect(outputs.at(-1)).toEqual({ kind: "exit", code: 0 });
});

test("a sleeping app is woken for exec; run takes a sandbox of its own", async () => {
  const { operations } = world.control;
  await operations.scale(world.ref("hello"), { ["web" as ProcessType]: 0 }, actor);
  await world.clock.run(100);
  await opened();
  await world.clock.run(100);
  const app = await operations.getApp(world.ref("hello"));
  expect(app.ok && app.value.instances[0]?.phase.state).toBe("running");
  const ran = await operations.run(world.ref("hello"), { argv: [], terminal: null }, actor);
  expect(ran.ok).toBe(true);
  expect(asked[1]?.target).toEqual({ kind: "oneOff", release: 1 });
});

test("what cannot be opened says why", async () => {
  const { operations } = world.control;
  const other = { ...query, instance: "inone" as never };
  const unknown = await operations.exec(world.ref("hello"), other, actor);
  expect(unknown).toMatchObject({ error: { code: "notFound" } });
  reply = { ok: false, reason: "there is no shell in this release" };
  const refused = await operations.exec(world.ref("hello"), query, actor);
  expect(refused).toMatchObject({
    error: { message: "starting a session of hello: there is no shell in this release" },
  });
});

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { loadCorpus } from "./corpus.ts";
import { expectationOf } from "./expect.ts";
import { runInMemory } from "./memory.ts";
import { appHost, startNaiveFront } from "./memory-gateway.ts";
import { Dice } from "./random.ts";
import { emptySum, runStream, withHost } from "./requests.ts";
import { startGatewayProcess, startServer, stopChild } from "./servers.ts";
import { SocketFuzz } from "./sockets.ts";
import { World } from "./world.ts";

setDefaultTimeout(120_000);

/** The mutations that `npm test` can afford; `npm run proof:fuzz` has five million. */
const count = 20_000;

describe("a share of the fuzzing", () => {
  test("no mutated request is read otherwise than by the naive twin", async () => {
    const { sum } = await runInMemory({ kind: "requests", seed: 1, count }, () => {});
    expect(sum.findings).toEqual([]);
    expect(sum.cases).toBe(count);
    // Neither refusing everything nor passing everything on would show much.
    expect(sum.forwarded).toBeGreaterThan(count / 2);
    expect(sum.refused).toBeGreaterThan(count / 3);
  });

  test("no mutated answer reaches a client as something else", async () => {
    const { sum } = await runInMemory({ kind: "answers", seed: 1, count: count / 4 }, () => {});
    expect(sum.findings).toEqual([]);
    expect(sum.forwarded).toBeGreaterThan(count / 20);
    expect(sum.refused).toBeGreaterThan(count / 20);
  });
});

describe("a share of the fuzzing over sockets", () => {
  test.each(["bun", "node"] as const)("to a back end on %s", async (kind) => {
    const server = await startServer(kind);
    const gateway = await startGatewayProcess({ [kind]: server.port });
    const corpus = loadCorpus("requests");
    const fuzz = new SocketFuzz(gateway.told["port"] ?? 0, `${kind}.test`, corpus, 1);
    await fuzz.run(count / 40, () => {});
    const { problems } = await server.seen();
    const code = await stopChild(gateway.process);
    await server.stop();
    expect({ findings: fuzz.sum.findings, problems, code }).toEqual({
      findings: [],
      problems: [],
      code: 0,
    });
    expect(fuzz.sum.answered).toBeGreaterThan(count / 100);
  });
});

describe("the corpus", () => {
  const corpus = loadCorpus("requests");

  /** What becomes of a client's bytes: the statuses or targets, in order. */
  const story = (text: string) => {
    const { messages, tail } = expectationOf(
      withHost(text, appHost),
      (host) => host === appHost,
      () => undefined,
    );
    const targets = messages.map(({ request, forwarded }) => (forwarded ? request.target : "404"));
    const end = tail.kind === "badHead" ? tail.status : tail.kind === "badBody" ? 400 : tail.kind;
    return [...targets.map((target) => target.slice(0, 40)), String(end)].join(" ");
  };

  test("has one verdict for each file, which no change may turn by accident", () => {
    const stories = Object.fromEntries(corpus.map(({ name, text }) => [name, story(text)]));
    expect(stories).toMatchSnapshot();
  });

  test("never lets a smuggled request through", () => {
    for (const { text } of corpus) expect(story(text)).not.toContain("/smuggled");
  });
});

describe("the judge finds out a naive forwarder", () => {
  const corpus = new Map(loadCorpus("requests").map(({ name, text }) => [name, text]));

  const faultsOf = async (name: string) => {
    const world = new World(startNaiveFront());
    const sum = emptySum();
    runStream(world, withHost(corpus.get(name) ?? "", appHost), Dice.of(1, 2), 2, sum);
    await world.stop();
    return sum.findings.flatMap(({ faults }) => faults).join("\n");
  };

  test.each([
    "smuggle-cl-te",
    "smuggle-te-cl",
    "te-length-underscore",
    "te-length-line-feed",
    "length-twice-other",
    "chunk-line-feed",
    "head-bare-line-feeds",
  ])("%s", async (name) => {
    expect(await faultsOf(name)).toMatch(
      /the app saw|what is no request|cannot read|a reader|after a/,
    );
  });

  test("and has nothing to say against it where it does no harm", async () => {
    for (const name of ["plain-get", "plain-post-length", "plain-delete-body"]) {
      expect([name, await faultsOf(name)]).toEqual([name, ""]);
    }
  });
});

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { defaultGatewayLimits } from "../../src/gateway/limits.ts";
import { repository } from "../harness/cloud.ts";
import { sabotages } from "./http2/sabotage.ts";
import { bytesOfScript, loadHttp2Corpus } from "./http2/script.ts";
import { Http2SocketFuzz } from "./http2/sockets.ts";
import { Http2Twin } from "./http2/twin.ts";
import { runInMemory } from "./memory.ts";
import { Dice } from "./random.ts";
import { startGatewayProcess, startServer, stopChild } from "./servers.ts";
import type { Progress } from "./worker.ts";

setDefaultTimeout(120_000);

/** The mutated connections that `npm test` can afford. */
const count = 4000;

describe("a share of the fuzzing of HTTP/2", () => {
  test("no mutated connection is read otherwise than by the naive twin", async () => {
    const { sum } = await runInMemory({ kind: "http2", seed: 1, count }, () => {});
    expect(sum.findings).toEqual([]);
    expect(sum.cases).toBe(count);
    // Neither refusing everything nor passing everything on would show much.
    expect(sum.forwarded).toBeGreaterThan(count);
    expect(sum.requests).toBeGreaterThan(count * 3);
    expect(sum.refused).toBeGreaterThan(count / 4);
  });

  test("no header block is read otherwise than by nghttp2 and the naive twin", async () => {
    const { sum } = await runInMemory({ kind: "hpack", seed: 1, count }, () => {});
    expect(sum.findings).toEqual([]);
    expect(sum.forwarded).toBeGreaterThan(count);
    expect(sum.refused).toBeGreaterThan(count / 4);
  });

  test.each(["bun", "node"] as const)("over sockets, to a back end on %s", async (kind) => {
    const server = await startServer(kind);
    const gateway = await startGatewayProcess({ app: server.port });
    const fuzz = new Http2SocketFuzz(gateway.told["tlsPort"] ?? 0, loadHttp2Corpus(), 1);
    await fuzz.run(count / 20, () => {});
    const { problems } = await server.seen();
    const code = await stopChild(gateway.process);
    await server.stop();
    expect({ findings: fuzz.sum.findings, problems, code }).toEqual({
      findings: [],
      problems: [],
      code: 0,
    });
    expect(fuzz.sum.answered).toBeGreaterThan(count / 20);
    expect(fuzz.sum.followed).toBeGreaterThan(count / 80);
  });
});

test("the corpus of HTTP/2 has one verdict for each file", () => {
  /** What becomes of each stream, and of the connection. */
  const stories = loadHttp2Corpus().map(({ name, script }) => {
    const twin = new Http2Twin(defaultGatewayLimits.http2);
    twin.observe(bytesOfScript(script, new Dice(1)));
    const streams = [...twin.streams.values()].map(({ id, verdict, refused }) => {
      const kind = verdict.kind === "page" ? verdict.status : verdict.kind;
      return `${id}:${kind}${refused === null ? "" : `,reset ${refused}`}`;
    });
    const end = twin.failed === null ? (twin.atBoundary ? "open" : "half") : `error ${twin.failed}`;
    return [name, [...streams.slice(0, 8), end].join(" ")] as const;
  });
  expect(Object.fromEntries(stories)).toMatchSnapshot();
});

describe("the judge finds out a gateway that is broken", () => {
  test.each(sabotages)("%s", async (way) => {
    const worker = join(repository, "test/fuzz/worker.ts");
    const child = Bun.spawn(
      [
        ...[join(repository, "tools/bun"), worker, "--kind", "http2", "--seed", "1"],
        ...["--from", "0", "--count", `${count}`, "--sabotage", way],
      ],
      { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
    );
    const lines = (await child.stdout.text()).trim().split("\n");
    const last = JSON.parse(lines.at(-1) ?? "") as Progress;
    expect(last.findings.length).toBeGreaterThan(0);
  });
});

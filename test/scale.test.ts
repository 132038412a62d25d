import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { until } from "./harness/host.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";
import { countersOf } from "./limits/kernel.ts";

// Apps rest when idle and grow when busy, on a real cloud.

setDefaultTimeout(patienceMs(60_000));

/** Answers after a while, with how often its timer ran; or talks on a WebSocket. */
const app = `
let ticks = 0;
setInterval(() => void ticks++, 5);
export default {
  async fetch(request, server) {
    if (server.upgrade(request)) return undefined;
    const url = new URL(request.url);
    await Bun.sleep(Number(url.searchParams.get("ms") ?? 0));
    return new Response(String(ticks));
  },
  websocket: { message: (socket, text) => void socket.send(text) },
};
`;

const cloud = await sharedCloud();

async function deploy(name: string, scale: string): Promise<void> {
  const toml = `[scale]\n${scale}`;
  await cloud.deploy(await cloud.folder({ "index.ts": app, "lode.toml": toml }), name);
}

async function reaches(name: string, state: string): Promise<number | null> {
  let pid: number | null = null;
  await until(`${name} is ${state}`, async () => {
    const [row] = await cloud.ps(name);
    pid = row?.pid ?? null;
    return row?.state === state;
  });
  return pid;
}

describe("the idle ladder", () => {
  beforeAll(() => deploy("icy", 'freeze = "500ms"\nidle = "1h"\n'));

  test("an idle app freezes and the next request thaws the same process", async () => {
    await cloud.get("icy");
    const pid = await reaches("icy", "frozen");
    const counters = countersOf(pid ?? 0);
    const askedAt = performance.now();
    const before = Number((await cloud.get("icy")).body);
    // By the kernel's word: what is told may still be of the time before the request.
    await until("it is frozen again", () => counters.isFrozen());
    const awakeMs = performance.now() - askedAt;
    await Bun.sleep(1000);
    const answer = await cloud.get("icy");
    expect(answer.status).toBe(200);
    // A second of timers did not run; those of the time it was awake did, and a few as it woke.
    expect((Number(answer.body) - before) * 5).toBeLessThan(awakeMs + 300);
    expect(await reaches("icy", "frozen")).toBe(pid);
  });

  test("requests that come as it freezes are never lost", async () => {
    const answers = await Promise.all(
      Array.from({ length: 40 }, async (_, index) => {
        await Bun.sleep(index * 127);
        const ms = index % 4 === 0 ? 600 : 0;
        return (await cloud.get("icy", `/?ms=${ms}`)).status;
      }),
    );
    expect(answers).toEqual(answers.map(() => 200));
  });

  test("a WebSocket keeps it awake", async () => {
    const socket = await cloud.webSocket("icy", "/");
    await Bun.sleep(2000);
    expect((await cloud.ps("icy"))[0]?.state).toBe("running");
    socket.say("awake?");
    await until("it answers", () => socket.heard.length === 1);
    socket.close();
    await reaches("icy", "frozen");
  });

  test("kill -9 of lode: it is adopted frozen, exec thaws it, requests too", async () => {
    const pid = await reaches("icy", "frozen");
    await cloud.signal("SIGKILL");
    await cloud.bringUp();
    expect(await reaches("icy", "frozen")).toBe(pid);
    expect(await cloud.ok(["exec", "icy", "--", "sh", "-c", "sleep 1; echo inside"])).toContain(
      "inside",
    );
    await reaches("icy", "frozen");
    expect((await cloud.get("icy")).status).toBe(200);
    expect(await reaches("icy", "frozen")).toBe(pid);
  });

  test("a gateway thaws it by itself while lode stands still, and lode finds it awake", async () => {
    const pid = await reaches("icy", "frozen");
    process.kill(cloud.rootPid(), "SIGSTOP");
    let slow: ReturnType<typeof cloud.get> | null = null;
    try {
      expect((await cloud.get("icy")).status).toBe(200);
      // So long it stays awake, for who looks through a CLI.
      slow = cloud.get("icy", "/?ms=3000");
    } finally {
      process.kill(cloud.rootPid(), "SIGCONT");
    }
    await reaches("icy", "running");
    expect((await slow)?.status).toBe(200);
    expect(await reaches("icy", "frozen")).toBe(pid);
  });

  test("a new release replaces a frozen one, and the last rung ends the process", async () => {
    await reaches("icy", "frozen");
    await deploy("icy", 'freeze = "300ms"\nidle = "1s"\n');
    expect((await cloud.get("icy")).status).toBe(200);
    await reaches("icy", "asleep");
    expect((await cloud.get("icy")).status).toBe(200);
  });
});

describe("growth", () => {
  test("1 → 500 requests at once on a sleeping app: no error, and it grows to its max", async () => {
    await deploy("crowd", "max = 3\ninFlight = 20\n");
    await cloud.ok(["scale", "crowd=0"]);
    await reaches("crowd", "asleep");
    const answers = await Promise.all(
      Array.from({ length: 500 }, () => cloud.get("crowd", "/?ms=300")),
    );
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    await until("three run", async () => {
      const rows = await cloud.ps("crowd");
      return rows.length === 3 && rows.every(({ state }) => state === "running");
    });
    // All of them are of use.
    const more = await Promise.all(Array.from({ length: 60 }, () => cloud.get("crowd", "/?ms=50")));
    expect(more.every(({ status }) => status === 200)).toBe(true);
  });

  test("an app without max stays one instance", async () => {
    await deploy("single", "min = 0\n");
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => cloud.get("single", "/?ms=200")),
    );
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect((await cloud.ps("single")).length).toBe(1);
  });
});

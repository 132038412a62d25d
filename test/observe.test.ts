import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./harness/cloud.ts";
import { freePorts, isAlive, until } from "./harness/host.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

/** Counts in memory what it was asked for each room. */
const rooms = `
const counts = new Map();
export default {
  fetch(request) {
    const room = request.headers.get("x-room") ?? "";
    counts.set(room, (counts.get(room) ?? 0) + 1);
    return Response.json({ instance: process.env.LODE_INSTANCE, count: counts.get(room) });
  },
};
`;

/** Uses what it is told to use, and waits until it is told to go on. */
const worker = `
const { promise: gone, resolve: go } = Promise.withResolvers();
const used = () => process.cpuUsage().user + process.cpuUsage().system;
export default {
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case "/burn": for (const at = used(); used() - at < 500_000; ); break;
      case "/slow": await Bun.sleep(60); break;
      case "/wait": await gone; break;
      case "/go": go(); break;
      case "/fail": return new Response("no", { status: 500 });
      case "/eat": for (const held = []; ; ) held.push(new Uint8Array(16 << 20).fill(1));
    }
    return new Response("done");
  },
};
`;

const cloud = await sharedCloud();

describe("requests with one key", () => {
  const names = Array.from({ length: 30 }, (_, index) => `room-${index}`);
  const toml = '[http]\naffinity = "header:x-room"\n';

  const ask = async (room: string) => {
    const answer = await cloud.get("rooms", "/", { headers: { "X-Room": room } });
    expect(answer.status).toBe(200);
    return JSON.parse(answer.body) as { instance: string; count: number };
  };

  const askAll = async () => {
    const answers = await Promise.all(names.map(async (room) => [room, await ask(room)] as const));
    return new Map(answers);
  };

  const runningPids = async () => {
    const rows = await cloud.ps("rooms");
    return rows
      .filter(({ state }) => state === "running")
      .map(({ instance, pid }) => ({ instance, pid }));
  };

  beforeAll(async () => {
    await cloud.deploy(await cloud.folder({ "index.ts": rooms, "lode.toml": toml }), "rooms");
    await cloud.ok(["scale", "rooms=3"]);
    await until("three run", async () => (await runningPids()).length === 3);
  }, patienceMs(60_000));

  test("meet in one of three instances, whichever connection and gateway they come by", async () => {
    const first = await askAll();
    for (let round = 2; round <= 4; round += 1) {
      for (const [room, { count }] of await askAll())
        expect(`${room} ${count}`).toBe(`${room} ${round}`);
    }
    expect(first.size).toBe(names.length);
  });

  test("kill -9 of an instance: no request fails, and all others' memory is found", async () => {
    const before = await askAll();
    const victim = (await runningPids()).find(
      ({ instance }) => instance === before.get("room-0")?.instance,
    );
    process.kill(victim?.pid ?? 0, "SIGKILL");
    // What it had in its hands is lost with it; what comes after that is not.
    await until("it is gone", () => !isAlive(victim?.pid ?? 0));
    const after = await askAll();
    const lost = names.filter((room) => after.get(room)?.count === 1);
    expect(lost).toEqual(names.filter((room) => before.get(room)?.instance === victim?.instance));
    for (const room of names) {
      if (!lost.includes(room))
        expect(after.get(room)?.count).toBe((before.get(room)?.count ?? 0) + 1);
    }
    await until("three run", async () => (await runningPids()).length === 3);
    // Whoever has the keys now keeps them.
    for (const [room, { count }] of await askAll()) {
      expect(count).toBe((after.get(room)?.count ?? 0) + 1);
    }
  });

  test("an instance fewer: only its keys move; a new release: each moves once", async () => {
    const before = await askAll();
    await cloud.ok(["scale", "rooms=2"]);
    const left = await until("two are left", async () => {
      const rows = await cloud.ps("rooms");
      return rows.length === 2 && rows.map(({ instance }) => instance);
    });
    const after = await askAll();
    const moved = names.filter((room) => after.get(room)?.count === 1);
    expect(moved.length).toBeGreaterThan(0);
    expect(moved).toEqual(names.filter((room) => !left.includes(before.get(room)?.instance ?? "")));
    for (const room of names) {
      if (!moved.includes(room))
        expect(after.get(room)?.count).toBe((before.get(room)?.count ?? 0) + 1);
    }
    await cloud.deploy(
      await cloud.folder({ "index.ts": `${rooms}\n`, "lode.toml": toml }),
      "rooms",
    );
    for (const round of [1, 2, 3]) {
      for (const [, { count }] of await askAll()) expect(count).toBe(round);
    }
  });

  test("a sleeping instance is woken by its keys alone", async () => {
    await cloud.ok(["scale", "rooms=0"]);
    await until("all sleep", async () => (await runningPids()).length === 0);
    for (const count of [1, 2, 3]) expect((await ask("room-7")).count).toBe(count);
    expect(await runningPids()).toHaveLength(1);
  });
});

describe("metrics", () => {
  let prometheus: Bun.Subprocess;
  let port = 0;
  let secret = "";

  const scrape = async () => {
    const response = await fetch(`http://127.0.0.1:${cloud.apiPort}/metrics`, {
      headers: { Authorization: `Bearer ${secret}` },
    });
    expect(response.status).toBe(200);
    return response.text();
  };

  /** The one value of a query, as Prometheus has it; null: none. */
  const query = async (expression: string): Promise<number | null> => {
    const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const { data } = (await (await fetch(url)).json()) as {
      data?: { result: { value: [number, string] }[] };
    };
    const text = data?.result[0]?.value[1];
    return text === undefined ? null : Number(text);
  };

  const becomes = async (expression: string, wanted: (value: number) => boolean) => {
    let last: number | null = null;
    await until(
      expression,
      async () => {
        last = await query(expression).catch(() => null);
        return last !== null && wanted(last);
      },
      20_000,
    ).catch(() => expect(`${expression} is ${last}`).toBe("as wanted"));
  };

  let sent = 0;
  const send = async (count: number, path = "/") => {
    sent += count;
    await Promise.all(Array.from({ length: count }, () => cloud.get("worker", path)));
  };

  beforeAll(async () => {
    const toml = '[resources]\ncpu = "0.2"\nmemory = "128M"\n[scale]\nmin = 1\nmax = 1\n';
    await cloud.deploy(await cloud.folder({ "index.ts": worker, "lode.toml": toml }), "worker");
    secret = (await cloud.ok(["tokens", "create", "prometheus", "--metrics"])).trim();
    const directory = join(cloud.scratch, "prometheus");
    mkdirSync(directory);
    writeFileSync(join(directory, "token"), secret);
    writeFileSync(
      join(directory, "prometheus.yml"),
      `global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: lode
    authorization: { credentials_file: ${directory}/token }
    static_configs: [{ targets: ["127.0.0.1:${cloud.apiPort}"] }]
`,
    );
    [port = 0] = await freePorts(1);
    prometheus = Bun.spawn(
      [
        ...["prometheus", `--config.file=${directory}/prometheus.yml`],
        ...[`--storage.tsdb.path=${directory}/data`, `--web.listen-address=127.0.0.1:${port}`],
      ],
      { stdout: "ignore", stderr: "ignore" },
    );
    await becomes("up", (value) => value === 1);
  }, patienceMs(60_000));

  afterAll(async () => {
    prometheus.kill();
    await prometheus.exited;
  });

  test("pass Prometheus' own check; a token that may read them may do nothing else", async () => {
    await send(3);
    const checked = await run(["promtool", "check", "metrics"], { stdin: await scrape() });
    expect(checked).toMatchObject({ code: 0, stdout: "", stderr: "" });
    const status = await fetch(`http://127.0.0.1:${cloud.apiPort}/v1/status`, {
      headers: { Authorization: `Bearer ${secret}` },
    });
    expect(status.status).toBe(403);
  });

  test("tell every request that was sent, by class, and how long they took", async () => {
    const of = 'lode_app_requests_total{app="worker",code';
    await send(40);
    await send(7, "/fail");
    await send(10, "/slow");
    await becomes(`sum(${of}="2xx"})`, (value) => value === 53);
    await becomes(`sum(${of}="5xx",protocol="HTTP/1.1"})`, (value) => value === 7);
    const duration = "lode_app_request_duration_seconds";
    await becomes(`${duration}_count{app="worker"}`, (value) => value === 60);
    const slow = `${duration}_bucket{app="worker",le="+Inf"} - ignoring(le) ${duration}_bucket`;
    await becomes(`${slow}{app="worker",le="0.05"}`, (value) => value >= 10 && value < 60);
    await becomes("sum(lode_gateway_connections)", (value) => value >= 0);
    await cloud.get("nobody");
    await becomes("lode_unrouted_requests_total", (value) => value === 1);
  });

  test("tell what is in flight, and what is used", async () => {
    const waiting = send(4, "/wait");
    await becomes('lode_app_requests_in_flight{app="worker"}', (value) => value === 4);
    await send(1, "/go");
    await waiting;
    await becomes('lode_app_requests_in_flight{app="worker"}', (value) => value === 0);
    await send(1, "/burn");
    const labels = '{app="worker",process="web"}';
    await becomes(`lode_app_cpu_seconds_total${labels}`, (value) => value > 0.4);
    await becomes(`lode_app_cpu_throttled_seconds_total${labels}`, (value) => value > 0);
    await becomes(`lode_app_memory_bytes${labels}`, (value) => value > 1e6);
    await becomes(
      'lode_app_instances{app="worker",state="running",process="web"}',
      (value) => value === 1,
    );
    await becomes("process_resident_memory_bytes", (value) => value > 1e7);
  });

  test("tell out-of-memory kills, restarts and cold starts", async () => {
    await send(1, "/eat");
    await becomes('lode_app_oom_kills_total{app="worker"}', (value) => value === 1);
    await becomes('lode_app_restarts_total{app="worker"}', (value) => value === 1);
    await cloud.ok(["scale", "worker=0"]);
    await becomes('lode_app_instances{app="worker",state="asleep"}', (value) => value === 1);
    await send(5);
    await becomes('lode_app_wakes_total{app="worker"}', (value) => value === 1);
    await becomes('lode_app_cold_start_seconds_count{app="worker"}', (value) => value === 1);
    await becomes('lode_app_cold_start_seconds_sum{app="worker"}', (value) => value < 5);
  });

  test("kill -9 of lode: what gateways served meanwhile is told, nothing twice", async () => {
    const all = 'sum(lode_app_requests_total{app="worker"})';
    const cpu = 'sum(lode_app_cpu_seconds_total{app="worker"})';
    await send(10);
    await becomes(all, (value) => value === sent);
    await cloud.signal("SIGKILL");
    await send(25);
    await cloud.bringUp();
    await becomes(all, (value) => value === 25);
    await send(5);
    await becomes(all, (value) => value === 30);
    await becomes(cpu, (value) => value < 0.5);
  });
});

describe("lode top", () => {
  test("shows requests, use and credit of what runs", async () => {
    const toml = '[resources]\ncpu = ":0.5:1"\n[scale]\nmin = 1\nmax = 1\n';
    await cloud.deploy(await cloud.folder({ "index.ts": worker, "lode.toml": toml }), "busy");
    let isOver = false;
    const asking = (async () => {
      while (!isOver) expect((await cloud.get("busy", "/slow")).status).toBe(200);
    })();
    // A frame is of one second, and gateways tell once a second: one may have come too late.
    const app = await until("requests are shown", async () => {
      const frame = JSON.parse(await cloud.ok(["top", "--once", "--json"]));
      const found = frame.apps.find((each: { app: string }) => each.app === "busy");
      return found.requestsPerSecond > 0 && found;
    });
    isOver = true;
    await asking;
    expect(app).toMatchObject({ state: "serving" });
    const [instance] = app.instances;
    expect(instance).toMatchObject({ process: "web", state: "running" });
    const { left, capacity } = instance.usage.cpuCredit;
    expect(capacity).toBe(30);
    expect(left).toBeLessThanOrEqual(30);
    expect(instance.usage.memoryCredit).toBeNull();
    const table = await cloud.ok(["top", "--once"]);
    expect(table).toMatch(/^APP +INSTANCE +STATE +CPU +MEMORY/);
    expect(table).toMatch(/^busy +1 +serving/m);
  });
});

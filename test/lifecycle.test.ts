import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { Cloud, run } from "./harness/cloud.ts";
import { cgroupsOf, freePorts, isAlive, leftovers, processIds, until } from "./harness/host.ts";
import { steadyLoad } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

const hello = `
console.log("hello starts");
export default {
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("hello");
  },
  websocket: { message: (socket, text) => void socket.send(text) },
};
`;
const nodeServer = {
  Procfile: "web: node server.mjs\nworker: sleep 1000\n",
  "server.mjs":
    'import { createServer } from "node:http";\n' +
    'createServer((_, response) => response.end("node")).listen(process.env.PORT);\n',
};

const cloud = await sharedCloud();

beforeAll(async () => {
  await cloud.deploy(await cloud.folder({ "index.ts": hello }), "hello");
  await cloud.deploy(await cloud.folder(nodeServer), "noder");
}, patienceMs(60_000));

function loads() {
  return ["hello", "noder"].map((app) =>
    steadyLoad({ port: cloud.httpPort, host: cloud.host(app), clients: 3, pauseMs: 5 }),
  );
}

async function pids(): Promise<string[]> {
  return (await cloud.ps()).map((row) => `${row.app} ${row.instance} ${row.pid}`).sort();
}

/** Now, or as soon as the new lode has heard of all. */
async function expectPids(wanted: readonly string[]): Promise<void> {
  const isSo = async () => Bun.deepEquals(await pids(), wanted);
  await until("the same ones run", isSo).catch(() => {});
  expect(await pids()).toEqual([...wanted]);
}

describe("lode dies and comes back", () => {
  test("kill -9: no request fails, the same processes are adopted", async () => {
    const before = await pids();
    const gateways = cloud.gatewayPids();
    expect(gateways.length).toBeGreaterThan(0);
    const running = loads();
    const socket = await cloud.webSocket("hello", "/");
    await until("requests flow", () => running.every((load) => load.requestsSoFar() > 50));
    await cloud.signal("SIGKILL");
    socket.say("while it is dead");
    await Bun.sleep(1500);
    await cloud.bringUp();
    socket.say("when it is back");
    await until("the WebSocket lives through it", () => socket.heard.length === 2);
    socket.close();
    const reports = await Promise.all(running.map((load) => load.stop()));
    expect(reports.flatMap((report) => report.errors)).toEqual([]);
    await expectPids(before);
    expect(cloud.gatewayPids()).toEqual(gateways);
  });

  test("kill -9 in the middle of a deploy: it is carried on, nothing is lost", async () => {
    const folder = await cloud.folder({
      "index.ts": 'export default { fetch: () => new Response("carried on") };\n',
    });
    const deploying = cloud.cli(["deploy", folder, "--app", "hello"]);
    await until("the release is recorded", async () => {
      const releases = await cloud.api("/v1/projects/default/apps/hello/releases");
      return ((await releases.json()) as { items: unknown[] }).items.length >= 2;
    });
    await cloud.signal("SIGKILL");
    await deploying;
    await cloud.bringUp();
    await until("the new release serves", async () => {
      return (await cloud.get("hello")).body === "carried on";
    });
  });

  test("an instance that died meanwhile is started again", async () => {
    const pid = await cloud.pidOf("hello");
    await cloud.signal("SIGKILL");
    process.kill(pid, "SIGKILL");
    await cloud.bringUp();
    await until("hello answers", async () => (await cloud.get("hello")).status === 200);
    expect(await cloud.pidOf("hello")).not.toBe(pid);
  });

  test("while it is dead, what apps log is bounded all the same, until it is back", async () => {
    const loud = `
const line = "x".repeat(1023);
export default {
  async fetch() {
    for (let step = 0; step < 64; step++) {
      console.log((line + "\\n").repeat(1024).slice(0, -1));
      await Bun.sleep(10);
    }
    console.log("the end");
    return new Response("said");
  },
};
`;
    await cloud.deploy(await cloud.folder({ "index.ts": loud }), "loud");
    const [row] = await cloud.ps("loud");
    const log = `${cloud.dataDirectory}/node/logs/default/loud/${row?.instance}.web/out`;
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      await cloud.signal(signal);
      expect((await cloud.get("loud")).body).toBe("said");
      await until("its head is gone", () => statSync(log).blocks * 512 < 21 * 1024 ** 2);
      await cloud.bringUp();
      const lines = (await cloud.ok(["logs", "loud", "--tail", "8000"])).split("\n");
      expect(lines.filter((each) => each.includes("the end"))).not.toEqual([]);
      expect(lines.filter((each) => each.includes("\0"))).toEqual([]);
    }
    const keepers = processIds().filter((pid) => cgroupsOf(pid).includes("/log-keeper-"));
    const own = keepers.filter((pid) => cgroupsOf(pid).includes(`lode-${cloud.id()}/`));
    expect(own).toHaveLength(1);
  });

  test("SIGTERM leaves apps and gateways serving; the next `lode up` adopts them", async () => {
    const before = await pids();
    const running = loads();
    await cloud.signal("SIGTERM");
    expect((await cloud.get("hello")).status).toBe(200);
    await cloud.bringUp();
    await expectPids(before);
    const reports = await Promise.all(running.map((load) => load.stop()));
    expect(reports.flatMap((report) => report.errors)).toEqual([]);
  });

  test("kill -9 of a gateway: it is replaced at once, the others serve", async () => {
    const [victim = 0, ...others] = cloud.gatewayPids();
    const running = loads();
    await until("requests flow", () => running.every((load) => load.requestsSoFar() > 50));
    process.kill(victim, "SIGKILL");
    await until("as many gateways as before", () => {
      const now = cloud.gatewayPids();
      return !now.includes(victim) && now.length === others.length + 1;
    });
    await Bun.sleep(500);
    const reports = await Promise.all(running.map((load) => load.stop()));
    const errors = reports.flatMap((report) => report.errors);
    // What was in flight in the killed process is lost: at most one request of each client.
    expect(errors.length).toBeLessThanOrEqual(6);
    expect(cloud.gatewayPids()).toEqual(expect.arrayContaining(others));
    expect((await cloud.get("hello")).status).toBe(200);
  });

  test("a gateway runs without root", async () => {
    for (const pid of cloud.gatewayPids()) {
      const status = await Bun.file(`/proc/${pid}/status`).text();
      expect(status).not.toMatch(/^Uid:\s+0\s/m);
      expect(status).toMatch(/^CapEff:\s+0+$/m);
      expect(status).toMatch(/^Seccomp:\s+2$/m);
    }
  });

  test("what was acknowledged outlives lode", async () => {
    await cloud.ok(["env", "set", "KEPT=yes", "--app", "hello"]);
    await cloud.ok(["scale", "hello=2"]);
    await cloud.signal("SIGKILL");
    await cloud.bringUp();
    expect(await cloud.ok(["env", "--app", "hello", "--json"])).toContain("KEPT");
    await until("two instances run", async () => {
      const running = (await cloud.ps("hello")).filter((row) => row.state === "running");
      return running.length === 2;
    });
    await cloud.ok(["scale", "hello=1"]);
  });
});

test("kill -9 again and again, while things change: nothing acknowledged is lost", async () => {
  const load = steadyLoad({
    port: cloud.httpPort,
    host: cloud.host("noder"),
    clients: 2,
    pauseMs: 10,
  });
  const acknowledged: string[] = [];
  for (let round = 0; round < 5; round++) {
    let changing = true;
    const changes = (async () => {
      for (let change = 0; changing; change++) {
        const key = `ROUND_${round}_${change}`;
        const response = await cloud
          .api("/v1/projects/default/apps/hello/env", {
            method: "PATCH",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ changes: { [key]: "set" } }),
          })
          .catch(() => null);
        if (response?.status === 200) acknowledged.push(key);
      }
    })();
    const before = acknowledged.length;
    await until("changes are acknowledged", () => acknowledged.length > before + 1);
    await Bun.sleep(Math.random() * 900);
    await cloud.signal("SIGKILL");
    changing = false;
    await changes;
    await cloud.bringUp();
  }
  const env = JSON.parse(await cloud.ok(["env", "--app", "hello", "--json"]));
  expect(acknowledged.length).toBeGreaterThan(5);
  expect(acknowledged.filter((key) => env[key] !== "set")).toEqual([]);
  expect((await load.stop()).errors).toEqual([]);
  await until("hello has settled", async () => {
    const rows = await cloud.ps("hello");
    return rows.length === 1 && rows[0]?.state === "running";
  });
  expect((await cloud.get("hello")).status).toBe(200);
});

test("Ctrl-C stops the cloud and its apps, says so, and leaves nothing", async () => {
  const other = await Cloud.start();
  await other.deploy(await other.folder({ "index.ts": hello }), "hello");
  const pid = await other.pidOf("hello");
  const id = other.id();
  await other.signal("SIGINT");
  expect(isAlive(pid)).toBe(false);
  expect(other.log()).toMatch(/stop/i);
  expect(leftovers(id, other.dataDirectory)).toEqual([]);
  await other.bringUp();
  await until("the app is there again", async () => (await other.get("hello")).status === 200);
  expect(await other.stop()).toEqual([]);
});

describe("what goes wrong before it begins", () => {
  async function upWith(args: readonly string[], prefix: readonly string[] = []) {
    // One that starts against expectation stops its cloud, too.
    return await run([...prefix, ...args], { timeoutMs: 10_000, timeoutSignal: "SIGINT" });
  }

  /** One line that a person understands, no stack trace, an exit code. */
  function expectRefusal(result: { code: number; stderr: string }, mentions: RegExp): void {
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(mentions);
    expect(result.stderr.trim().split("\n").length).toBeLessThanOrEqual(2);
    expect(result.stderr).not.toMatch(/^\s+at /m);
  }

  test("the data directory is in use", async () => {
    const [httpPort, apiPort] = await freePorts(2);
    const command = cloud.upCommand();
    command[command.indexOf("--http-port") + 1] = String(httpPort);
    command[command.indexOf("--api-port") + 1] = String(apiPort);
    expectRefusal(await upWith(command), /data/);
    expect((await cloud.get("hello")).status).toBe(200);
  });

  test("a port is taken", async () => {
    const command = cloud.upCommand();
    const at = command.indexOf("--data-dir") + 1;
    command[at] = `${cloud.scratch}/second`;
    expectRefusal(await upWith(command), new RegExp(`${cloud.httpPort}|${cloud.apiPort}`));
    const [httpPort] = await freePorts(1);
    command[at] = `${cloud.scratch}/third`;
    command[command.indexOf("--http-port") + 1] = String(httpPort);
    expectRefusal(await upWith(command), new RegExp(String(cloud.apiPort)));
    const left: string[] = [];
    for (const directory of ["second", "third"].map((name) => `${cloud.scratch}/${name}`)) {
      const { cloud: id } = await Bun.file(`${directory}/cloud.json`).json();
      left.push(...leftovers(id, directory));
      await run([cloud.program, "down"], { env: { LODE_DATA_DIR: directory } });
    }
    expect(left).toEqual([]);
  });

  test("not root", async () => {
    const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const command = cloud.upCommand();
    command[command.indexOf("--data-dir") + 1] = `${cloud.scratch}/fourth`;
    expectRefusal(await upWith(command, nobody), /root|sudo/);
  });

  test("a bad option", async () => {
    expectRefusal(await upWith([...cloud.upCommand(), "--https-port", "99999"]), /99999/);
  });

  test("no cloud to talk to", async () => {
    const result = await run([cloud.program, "ps"], {
      env: { LODE_DATA_DIR: `${cloud.scratch}/none` },
    });
    expectRefusal(result, /lode up/);
  });
});

test("doctor checks the machine and says how it is", async () => {
  const result = await cloud.cli(["doctor"]);
  expect(result.stdout).toMatch(/bubblewrap/i);
  expect(result.stdout).toMatch(/cgroup/i);
  expect(result.code).toBe(0);
  const checks = JSON.parse(await cloud.ok(["doctor", "--json"]));
  expect(checks).toBeTruthy();
});

test("--print-unit prints a systemd unit", async () => {
  const unit = await cloud.ok(["up", "--print-unit"]);
  expect(unit).toContain("[Service]");
  expect(unit).toMatch(/^ExecStart=.*up/m);
});

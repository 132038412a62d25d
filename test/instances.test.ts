import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./harness/cloud.ts";
import { commandLineOf, processIds, until } from "./harness/host.ts";
import { openRequest, quantile, request, steadyLoad } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(60_000));

/** One app that shows what an instance sees and does what it is asked. */
const probe = `
import { connect } from "node:net";
import { lookup } from "node:dns/promises";

// Not the time: two may start within one millisecond.
const start = crypto.randomUUID();
let hanging = 0;
console.log("probe starts");

function dial(host, port) {
  return new Promise((settle) => {
    const socket = connect({ host, port, timeout: 2000 });
    const done = (text) => { socket.destroy(); settle(text); };
    socket.on("connect", () => done("connected"));
    socket.on("timeout", () => done("timeout"));
    socket.on("error", (error) => done(error.code));
  });
}

export default {
  async fetch(request) {
    const url = new URL(request.url);
    const ask = (name) => url.searchParams.get(name) ?? "";
    switch (url.pathname) {
      case "/start": return new Response(start);
      case "/env": return new Response(process.env[ask("name")] ?? "unset");
      case "/dial": return new Response(await dial(ask("host"), Number(ask("port"))));
      case "/resolve":
        return new Response(await lookup(ask("name")).then((found) => found.address, String));
      case "/log": console.log(ask("line")); return new Response("logged");
      case "/hang": hanging += 1; return await new Promise(() => {});
      case "/hanging": return new Response(String(hanging));
      case "/exit": setTimeout(() => process.exit(Number(ask("code"))), 10);
        return new Response("bye");
      case "/eat": {
        const held = [];
        for (;;) held.push(new Uint8Array(16 << 20).fill(1));
      }
    }
    return new Response("probe");
  },
};
`;

const webServer =
  'import { createServer } from "node:http";\n' +
  'createServer((_, response) => response.end("web")).listen(process.env.PORT);\n';

const cloud = await sharedCloud();

beforeAll(async () => {
  await cloud.deploy(await cloud.folder({ "index.ts": probe }), "probe");
}, patienceMs(60_000));

async function deployProbe(app: string, toml = ""): Promise<void> {
  await cloud.deploy(await cloud.folder({ "index.ts": probe, "lode.toml": toml }), app);
}

describe("what scripts rely on", () => {
  test("`ps --json` has exactly the contract's fields", async () => {
    const [row] = await until("probe is sampled", async () => {
      const rows = await cloud.ps("probe");
      return (rows[0]?.memoryBytes ?? 0) > 0 && rows;
    });
    expect(Object.keys(row ?? {}).sort()).toEqual(
      ["app", "release", "instance", "node", "state", "pid", "restarts"]
        .concat(["startedAt", "cpu", "memoryBytes"])
        .sort(),
    );
    expect(row).toMatchObject({ app: "probe", state: "running", restarts: 0 });
    expect(row?.pid).toBeGreaterThan(1);
    expect(commandLineOf(row?.pid ?? 0)).not.toBeNull();
    expect(row?.memoryBytes).toBeGreaterThan(1_000_000);
  });

  test("an app that is not there: exit code and message", async () => {
    const result = await cloud.cli(["logs", "nobody"]);
    expect(result.code).toBe(5);
    expect(result.stderr).toContain("nobody");
    expect(result.stderr).not.toContain("    at ");
  });
});

describe("limits and counts", () => {
  test("scale up and down; requests reach every instance", async () => {
    await deployProbe("many");
    await cloud.ok(["scale", "many=3"]);
    await until("three run", async () => {
      const running = (await cloud.ps("many")).filter((row) => row.state === "running");
      return running.length === 3;
    });
    const starts = new Set<string>();
    await until("all three answer", async () => {
      starts.add((await cloud.get("many", "/start")).body);
      return starts.size === 3;
    });
    const load = steadyLoad({
      port: cloud.httpPort,
      host: cloud.host("many"),
      clients: 4,
      pauseMs: 5,
    });
    await cloud.ok(["scale", "many=1"]);
    await until("one is left", async () => (await cloud.ps("many")).length === 1);
    expect((await load.stop()).errors).toEqual([]);
  });

  test("limits change the live process: same pid, new ceiling", async () => {
    await deployProbe("limited");
    const pid = await cloud.pidOf("limited");
    await cloud.ok(["limits", "limited", "--cpu", "0.25:1:2", "--memory", "16M:200M:256M"]);
    await until("the kernel has the new ceiling", () => memoryCeilings(pid).includes(256 << 20));
    expect(await cloud.pidOf("limited")).toBe(pid);
    expect((await cloud.get("limited")).status).toBe(200);
  });

  test("an OOM kill is seen, told with its limit, and the app comes back", async () => {
    await deployProbe("hungry", '[resources]\nmemory = "::128M"\n');
    await cloud.get("hungry", "/eat").catch(() => undefined);
    await until("ps counts a restart", async () => {
      const [row] = await cloud.ps("hungry");
      return row !== undefined && row.restarts >= 1 && row.state === "running";
    });
    expect(await cloud.ok(["logs", "hungry"])).toMatch(/out of memory/);
    expect((await cloud.get("hungry")).status).toBe(200);
  });

  test("a crash loop backs off and shows its cause", async () => {
    // Not before it serves: a deploy whose worker never comes up fails.
    const waiting = "until [ -e /data/go ]; do sleep 0.1; done";
    const folder = await cloud.folder({
      Procfile: `web: node server.mjs\nworker: ${waiting}; echo worker gives up; exit 7\n`,
      "server.mjs":
        'import { createServer } from "node:http";\nimport { writeFileSync } from "node:fs";\n' +
        'const go = ({ url }) => url === "/go" && writeFileSync("/data/go", "");\n' +
        "createServer((request, response) => {\n" +
        '  go(request);\n  response.end("web");\n}).listen(process.env.PORT);\n',
    });
    await cloud.deploy(folder, "looping");
    expect((await cloud.get("looping", "/go")).status).toBe(200);
    await until(
      "the worker was restarted",
      async () => (await cloud.ps("looping")).some((row) => row.restarts >= 2),
      30_000,
    );
    // Soon it runs again, for a moment.
    await until("the worker backs off, and why is shown", async () => {
      return (await cloud.ok(["ps"])).includes("backing-off: exit code 7");
    });
    const logs = await cloud.ok(["logs", "looping"]);
    expect(logs).toContain("worker gives up");
    expect(logs).toContain("exit code 7");
    expect((await cloud.get("looping")).body).toBe("web");
  });

  test("an exit is answered by a new process, and the next request finds it", async () => {
    await deployProbe("exiting");
    const before = await cloud.pidOf("exiting");
    await cloud.get("exiting", "/exit?code=5");
    await until("a new process runs", async () => {
      const [row] = await cloud.ps("exiting");
      return row?.state === "running" && row.pid !== before && row.restarts === 1;
    });
    expect((await cloud.get("exiting")).status).toBe(200);
  });
});

/** Every memory limit set on the cgroup of a process, whichever version the kernel has. */
function memoryCeilings(pid: number): number[] {
  const paths = readFileSync(`/proc/${pid}/cgroup`, "utf8").split("\n");
  const files = paths.flatMap((line) => {
    const path = line.split(":").slice(2).join(":");
    return [
      `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`,
      `/sys/fs/cgroup${path}/memory.max`,
    ];
  });
  return files.flatMap((file) => {
    try {
      return [Number(readFileSync(file, "utf8"))];
    } catch {
      return [];
    }
  });
}

describe("sleep", () => {
  async function asleep(app: string): Promise<void> {
    await cloud.ok(["scale", `${app}=0`]);
    await until(`${app} sleeps`, async () => {
      return (await cloud.ps(app)).every((row) => row.state === "asleep");
    });
  }

  test("scale 0 ends the process; 50 concurrent requests share one start", async () => {
    await deployProbe("sleeper");
    const pid = await cloud.pidOf("sleeper");
    await asleep("sleeper");
    expect(commandLineOf(pid)).toBeNull();
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => cloud.get("sleeper", "/start")),
    );
    expect(answers.map((answer) => answer.status)).toEqual(answers.map(() => 200));
    expect(new Set(answers.map((answer) => answer.body)).size).toBe(1);
    const starts = (await cloud.ok(["logs", "sleeper"])).split("probe starts").length - 1;
    expect(starts).toBe(2);
  });

  test("scale 0 reaches an app that is just starting again", async () => {
    // Its second start lasts until it is ended.
    const starts =
      'import { appendFileSync, statSync } from "node:fs";\n' +
      'appendFileSync("/data/starts", ".");\n' +
      'if (statSync("/data/starts").size === 2) await new Promise(() => setInterval(() => {}, 99));\n';
    const slow = { "web.js": starts + webServer, Procfile: "web: bun web.js" };
    await cloud.deploy(await cloud.folder(slow), "slow");
    process.kill(await cloud.pidOf("slow"), "SIGKILL");
    await until("it starts", async () => (await cloud.ps("slow"))[0]?.state === "starting");
    await asleep("slow");
    expect((await cloud.get("slow")).body).toBe("web");
  });

  test("an idle app falls asleep by itself and wakes", async () => {
    await deployProbe("dozy", '[scale]\nidle = "1s"\n');
    await cloud.get("dozy");
    await until("it sleeps", async () => (await cloud.ps("dozy"))[0]?.state === "asleep", 20_000);
    expect((await cloud.get("dozy")).status).toBe(200);
  });

  test("the next start is made ahead, and is the one that a request gets", async () => {
    await deployProbe("spare");
    for (let round = 0; round < 2; round++) {
      await asleep("spare");
      const [waiting = 0] = await cloud.untilReady("spare");
      expect((await cloud.get("spare")).status).toBe(200);
      expect(await cloud.pidOf("spare")).toBe(waiting);
    }
  });

  test("a static site and a Node server sleep and wake too", async () => {
    await cloud.deploy(await cloud.folder({ "index.html": "<p>page</p>" }), "site");
    await asleep("site");
    expect((await cloud.get("site")).body).toContain("page");
    const server = await cloud.folder({
      "server.mjs":
        'import { createServer } from "node:http";\n' +
        'createServer((_, response) => response.end("node")).listen(process.env.PORT);\n',
      Procfile: "web: node server.mjs\n",
    });
    await cloud.deploy(server, "noder");
    await asleep("noder");
    expect((await cloud.get("noder")).body).toBe("node");
  });
});

test("300 hanging requests to one app leave another's latency alone", async () => {
  await deployProbe("stuck");
  await deployProbe("free");
  const measure = async () => {
    const load = steadyLoad({
      port: cloud.httpPort,
      host: cloud.host("free"),
      clients: 2,
      pauseMs: 5,
    });
    await until("200 requests were made", () => load.requestsSoFar() >= 200);
    const report = await load.stop();
    expect(report.errors).toEqual([]);
    return quantile(report.durationsMs, 0.99);
  };
  await measure();
  // What else the machine does comes and goes; what hanging requests do would be there each time.
  let [aloneMs, besideMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const isUnharmed = () => besideMs < aloneMs * 4 + 25;
  for (let round = 1; round <= 5 && (round === 1 || !isUnharmed()); round++) {
    aloneMs = Math.min(aloneMs, await measure());
    const hanging = Array.from({ length: 300 }, () =>
      openRequest({ port: cloud.httpPort, host: cloud.host("stuck"), path: "/hang" }),
    );
    await until("all hang", async () => {
      return Number((await cloud.get("stuck", "/hanging")).body) === 300 * round;
    });
    besideMs = Math.min(besideMs, await measure());
    for (const socket of hanging) socket.destroy();
  }
  expect(besideMs).toBeLessThan(aloneMs * 4 + 25);
});

describe("network", () => {
  const ask = async (path: string) => (await cloud.get("probe", path)).body;
  /** A public address that every machine can reach that could install this project. */
  let registry = "";

  beforeAll(async () => {
    // A machine without npm, as the rig's, answers for every name.
    const hasNpm = Bun.which("npm") !== null;
    const { stdout } = hasNpm
      ? await run(["npm", "config", "get", "registry"])
      : { stdout: "https://example.com/" };
    registry = new URL(stdout.trim()).hostname;
  });

  test("private, link-local and Lode's own addresses are refused, from every side", async () => {
    const targets = [
      ["127.0.0.1", cloud.apiPort],
      ["10.1.2.3", 80],
      ["192.168.1.1", 80],
      ["172.16.0.1", 80],
      ["169.254.169.254", 80],
    ] as const;
    for (const [host, port] of targets) {
      expect(await ask(`/dial?host=${host}&port=${port}`)).not.toBe("connected");
    }
  });

  // Beyond this machine a packet may be lost.
  test("names resolve", async () => {
    await until("one does", async () => {
      return /^[0-9a-f.:]+$/.test(await ask(`/resolve?name=${registry}`));
    });
  });

  test("public addresses are reached", async () => {
    await until("one is", async () => {
      return (await ask(`/dial?host=${registry}&port=443`)) === "connected";
    });
  });

  test('egress = "none" closes them', async () => {
    await deployProbe("closed", 'egress = "none"\n');
    const answer = await cloud.get("closed", `/dial?host=${registry}&port=443`);
    expect(answer.body).not.toBe("connected");
  });
});

/** Files of the cloud that hold a text; the apps' own disk is a sparse image, too large to read. */
function filesWith(text: string): string {
  const small = ["-type", "f", "-size", "-262144k"];
  const search = ["-exec", "grep", "-laF", text, "{}", "+"];
  return Bun.spawnSync(["find", cloud.dataDirectory, ...small, ...search]).stdout.toString();
}

describe("environment and secrets", () => {
  const secret = "hunter2-is-not-enough";

  test("env set makes a release with it; unset takes it away", async () => {
    await deployProbe("variables");
    await cloud.ok(["env", "set", "COLOUR=blue", "--app", "variables"]);
    expect((await cloud.get("variables", "/env?name=COLOUR")).body).toBe("blue");
    await cloud.ok(["env", "unset", "COLOUR", "--app", "variables"]);
    expect((await cloud.get("variables", "/env?name=COLOUR")).body).toBe("unset");
  });

  test("a secret reaches the app and nothing else", async () => {
    await deployProbe("keeper");
    const said = await cloud.cli(["secrets", "set", "PASSWORD", "--app", "keeper"], {
      stdin: secret,
    });
    expect(said.code).toBe(0);
    expect((await cloud.get("keeper", "/env?name=PASSWORD")).body).toBe(secret);
    const shown = [
      said.stdout + said.stderr,
      ...(await Promise.all([
        cloud.ok(["secrets", "--app", "keeper", "--json"]),
        cloud.ok(["releases", "keeper", "--json"]),
        cloud.ok(["status", "--json"]),
        cloud.ok(["logs", "keeper"]),
      ])),
      await (await cloud.api("/v1/projects/default/apps/keeper")).text(),
      cloud.log(),
      ...processIds().map((pid) => commandLineOf(pid) ?? ""),
    ];
    for (const text of shown) expect(text).not.toContain(secret);
    expect(filesWith("PASSWORD")).not.toEqual("");
    expect(filesWith(secret)).toBe("");
  });
});

describe("logs, exec and run", () => {
  test("logs -f shows what comes, when it comes", async () => {
    const following = cloud.spawnCli(["logs", "probe", "-f"]);
    let heard = "";
    const reading = (async () => {
      const decoder = new TextDecoder();
      for await (const bytes of following.stdout) heard += decoder.decode(bytes);
    })();
    await until("it shows the past", () => heard.includes("probe starts"));
    await cloud.get("probe", "/log?line=fresh-line");
    await until("it shows the present", () => heard.includes("fresh-line"));
    following.kill("SIGINT");
    await following.exited;
    await reading;
  });

  test("logs --since leaves out what is older", async () => {
    await cloud.get("probe", "/log?line=older");
    await until("it is there", async () => (await cloud.ok(["logs", "probe"])).includes("older"));
    await until("only the newer line is shown", async () => {
      // Again each time: who looks for it may take longer than it stays new.
      await cloud.get("probe", "/log?line=newer");
      const text = await cloud.ok(["logs", "probe", "--since", "1s"]);
      return text.includes("newer") && !text.includes("older");
    });
  });

  test("a flood of log lines costs only the app that floods", async () => {
    const folder = await cloud.folder({
      Procfile: "web: node server.mjs\nflood: yes 'a line that nobody reads'\n",
      "server.mjs": webServer,
    });
    await cloud.deploy(folder, "flooding");
    await Bun.sleep(3000);
    expect((await cloud.get("probe")).status).toBe(200);
    // Much more for a moment when lode had no core; for ever, if nobody cut it.
    await until("the logs are bounded", () => {
      const bytes = Bun.spawnSync(["du", "-sB1", join(cloud.dataDirectory, "node", "logs")]);
      return Number(bytes.stdout.toString().split("\t")[0]) < 512 << 20;
    });
    await cloud.ok(["rm", "flooding", "--yes"]);
  });

  test("exec runs inside the instance, as the app's uid, and gives its exit code", async () => {
    const result = await cloud.cli(["exec", "probe", "--", "sh", "-c", "id -u; ls /app; exit 9"]);
    expect(result.stdout).toContain("index.ts");
    expect(result.stdout).not.toMatch(/^0$/m);
    expect(result.code).toBe(9);
    const piped = await cloud.cli(["exec", "probe", "--", "cat"], { stdin: "through the pipe" });
    expect(piped.stdout).toBe("through the pipe");
  });

  test("run is a one-off in the release's environment", async () => {
    await cloud.ok(["env", "set", "SHAPE=round", "--app", "probe"]);
    const result = await cloud.cli(["run", "probe", "--", "sh", "-c", "echo $SHAPE; cat /app/x"]);
    expect(result.stdout).toContain("round");
    expect(result.code).not.toBe(0);
  });
});

test("rm ends an app and forgets it", async () => {
  await deployProbe("gone");
  const pid = await cloud.pidOf("gone");
  await cloud.ok(["rm", "gone", "--yes"]);
  await until("its process is gone", () => commandLineOf(pid) === null);
  await until("its host is nobody's", async () => {
    const answer = await request({ port: cloud.httpPort, host: cloud.host("gone") });
    return answer.status === 404;
  });
  await until("ps has forgotten it", async () => (await cloud.ps("gone")).length === 0);
});

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { repository, run } from "./harness/cloud.ts";
import { steadyLoad } from "./harness/http.ts";
import { patienceMs } from "./harness/pace.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(patienceMs(120_000));

const fixture = join(repository, "test/fixtures/verdaccio");
let npmrc: string;

const cloud = await sharedCloud();

beforeAll(async () => {
  npmrc = join(cloud.scratch, "npmrc");
  await cloud.deploy(fixture, "verdaccio");
}, patienceMs(240_000));

async function npm(args: readonly string[], cwd: string): Promise<string> {
  const result = await run(
    ["npm", ...args, "--registry", `http://${cloud.host("verdaccio")}`, "--userconfig", npmrc],
    { cwd, env: { NODE_OPTIONS: `--import=${join(repository, "test/fixtures/localhost.mjs")}` } },
  );
  if (result.code !== 0) throw new Error(`npm ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

async function publish(version: string): Promise<void> {
  const folder = await cloud.folder({
    "package.json": JSON.stringify({ name: "lode-parcel", version, main: "index.js" }),
    "index.js": `module.exports = "parcel ${version}";\n`,
  });
  await npm(["publish"], folder);
}

async function install(version: string): Promise<string> {
  const folder = await cloud.folder({ "package.json": '{"private": true}' });
  await npm(["install", `lode-parcel@${version}`, "--cache", join(folder, "cache")], folder);
  const used = await run(["node", "-p", "require('lode-parcel')"], { cwd: folder });
  return used.stdout.trim();
}

test("a user is made, publishes and installs through the gateway", async () => {
  const made = await cloud.get("verdaccio", "/-/user/org.couchdb.user:ann", {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "ann", password: "correct horse" }),
  });
  expect(made.status).toBe(201);
  const { token } = JSON.parse(made.body) as { token: string };
  await Bun.write(npmrc, `//${cloud.host("verdaccio")}/:_authToken=${token}\n`);
  await publish("1.0.0");
  expect(await install("1.0.0")).toBe("parcel 1.0.0");
});

test("what was published and who may publish outlive a redeploy that drops nothing", async () => {
  const changed = join(cloud.scratch, "changed");
  mkdirSync(changed);
  await cp(fixture, changed, { recursive: true });
  const config = await Bun.file(join(changed, "config.yaml")).text();
  await Bun.write(join(changed, "config.yaml"), `${config}# changed\n`);
  expect(existsSync(join(changed, "node_modules"))).toBe(false);

  const load = steadyLoad({
    port: cloud.httpPort,
    host: cloud.host("verdaccio"),
    path: "/lode-parcel",
    clients: 4,
    pauseMs: 10,
  });
  const deployed = await cloud.deploy(changed, "verdaccio");
  const report = await load.stop();
  expect(report.errors).toEqual([]);
  expect(report.requests).toBeGreaterThan(20);
  expect(deployed.state).toBe("serving");

  expect(await install("1.0.0")).toBe("parcel 1.0.0");
  await publish("1.1.0");
  expect(await install("1.1.0")).toBe("parcel 1.1.0");
});

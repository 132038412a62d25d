import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { until } from "./harness/host.ts";
import { sharedCloud } from "./harness/suite.ts";

setDefaultTimeout(90_000);

/** Uses one CPU-ms, or forty; of `/told` it says itself what that is. */
const shop = `
const used = () => process.cpuUsage().user + process.cpuUsage().system;
const spend = (us) => { for (const at = used(); used() - at < us; ); };
export default {
  fetch(request) {
    const { pathname } = new URL(request.url);
    spend(pathname === "/report" ? 40_000 : 1000);
    const headers = { "endpoint-load-metrics": "TEXT named_metrics.cpu_seconds=0.002" };
    return new Response("done", pathname === "/told" ? { headers } : {});
  },
};
`;

interface Costs {
  readonly balancedBy: string;
  readonly classes: readonly {
    readonly class: string;
    readonly cpuMs: number;
    readonly confidence: number;
    readonly requests: number;
    readonly reported: boolean;
  }[];
}

const costs = async (): Promise<Costs> => JSON.parse(await cloud.ok(["costs", "shop", "--json"]));

const classOf = async (name: string) =>
  (await costs()).classes.find((one) => one.class === `GET ${name}`);

const cloud = await sharedCloud();

beforeAll(async () => {
  const toml = "[scale]\nmin = 2\n";
  await cloud.deploy(await cloud.folder({ "index.ts": shop, "lode.toml": toml }), "shop");
}, 60_000);

/** Some requests and a rest, as users come: then CPU and requests can be told together. */
async function visit(): Promise<void> {
  for (let request = 0; request < 20; request += 1) {
    expect((await cloud.get("shop", `/items/${request}`)).status).toBe(200);
    if (Math.random() < 0.2) await cloud.get("shop", "/report");
  }
  expect((await cloud.get("shop", "/told")).status).toBe(200);
  await Bun.sleep(200);
}

test("what requests cost is learned, shown and exported", async () => {
  const known = await until(
    "costs are sure",
    async () => {
      await visit();
      const seen = await costs();
      return seen.balancedBy === "cost" ? seen : null;
    },
    60_000,
  );
  expect(known.classes.map((one) => one.class).sort()).toEqual([
    "GET /items/{}",
    "GET /report",
    "GET /told",
  ]);
  const [items, report] = [await classOf("/items/{}"), await classOf("/report")];
  expect(report?.confidence).toBeGreaterThan(0.5);
  expect((report?.cpuMs ?? 0) / (items?.cpuMs ?? 0)).toBeGreaterThan(10);
  expect(await classOf("/told")).toMatchObject({ cpuMs: 2, confidence: 1, reported: true });
  expect(await cloud.ok(["costs", "shop"])).toMatch(/GET \/told +2\.00 +100 % .*told by the app/);
  const token = (await cloud.ok(["tokens", "create", "scraper", "--metrics"])).trim();
  const metrics = await fetch(`http://127.0.0.1:${cloud.apiPort}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  });
  expect(await metrics.text()).toMatch(
    /^lode_app_request_cost_cpu_seconds\{.*app="shop".*route="GET \/told".*\} 0\.002$/m,
  );
});

test("another release is another program: what was learned is of no use", async () => {
  const changed = shop.replace("40_000", "2000");
  const toml = "[scale]\nmin = 2\n";
  await cloud.deploy(await cloud.folder({ "index.ts": changed, "lode.toml": toml }), "shop");
  expect((await costs()).balancedBy).toBe("requests in flight");
  await until(
    "it is learned anew",
    async () => {
      await visit();
      const report = await classOf("/report");
      return report !== undefined && report.confidence > 0.5 && report.cpuMs < 10;
    },
    60_000,
  );
});

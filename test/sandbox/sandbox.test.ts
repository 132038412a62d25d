import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { isAlive } from "../harness/host.ts";
import { patienceMs, slowness } from "../harness/pace.ts";
import { openControls } from "./control.ts";
import { faultOf, readReport } from "./judge.ts";
import { probes } from "./probes.ts";
import { apiMsMax, measure, type Pressure, refusedInside, roundsMin } from "./prove.ts";
import { openStage, runtimes, type Stage } from "./stage.ts";
import { openWatch, type Watch } from "./watch.ts";

// Forty hostile probes, each run as an ordinary app in three runtimes, beside a neighbour; and
// each once without a sandbox, where it must succeed.

const measureTimeoutMs = patienceMs(120_000);
/** When the API seems slow: what else the machine does comes and goes. */
const roundsMax = 5 * roundsMin;
const isApiFast = ({ apiMs }: Pressure) => apiMs.during < apiMsMax;

setDefaultTimeout(patienceMs(60_000));

let stage: Stage;
let controls: Awaited<ReturnType<typeof openControls>>;

beforeAll(async () => {
  stage = await openStage(runtimes);
  controls = await openControls(stage.program);
}, patienceMs(60_000));

afterAll(async () => {
  await controls.close();
  expect(await stage.close()).toEqual([]);
}, patienceMs(60_000));

test("there are forty probes, each known once", () => {
  expect(probes.length).toBe(40);
  expect(new Set(probes.map(({ id }) => id)).size).toBe(40);
});

const named = probes.map((probe) => [probe.title, probe] as const);

describe("without a sandbox it succeeds", () => {
  test.each(named)("%s", async (_, probe) => {
    const report = readReport(`${await controls.run(probe, stage.around)}\nend control`);
    expect(report).toMatchObject({ breaches: [expect.anything(), ...report.breaches.slice(1)] });
  });
});

describe.each([...runtimes])("in an app on %s it is refused", (runtime) => {
  const here = named.filter(([, { group }]) => group !== "supply" || runtime === "native");
  test.each(here)("%s", async (_, probe) => {
    expect((await refusedInside(stage, probe, runtime)).fault).toBeNull();
  });
});

// How much slower a neighbour gets needs a machine of its own to be judged: proof.ts does.
describe("neighbours and lode live on under it", () => {
  let watch: Watch;
  beforeAll(() => {
    watch = openWatch(stage);
  });
  afterAll(() => watch.stop());

  const bombs = named.filter(([, { bomb }]) => bomb === true);
  test.each(bombs)(
    "%s",
    async (_, probe) => {
      const pressure = await measure(stage, watch, probe, "native", roundsMax, isApiFast);
      expect(watch.takeErrors()).toEqual([]);
      expect(isAlive(stage.neighbourPid)).toBe(true);
      const { apiMs, isQuiet } = pressure;
      if (isQuiet && slowness === 1) expect(apiMs.during).toBeLessThan(apiMsMax);
    },
    measureTimeoutMs,
  );
});

test("a judge can fail", () => {
  const fault = (text: string, after = "") => faultOf(readReport(text), "", after);
  expect(fault("refused mount: EPERM\nend mount")).toBeNull();
  expect(fault("breach mount\nend mount")).toContain("mount");
  expect(fault("refused mount: EPERM")).toContain("not a whole report");
  expect(fault("end mount")).toContain("tried nothing");
  expect(fault("refused mount: EPERM\nend mount", "changed")).toContain("canary");
  expect(fault("took broken: no threads at all\nend thread-bomb")).toContain("broken");
  expect(fault("unknown mount\nend mount")).toContain("unknown");
});

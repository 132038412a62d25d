// A gateway in a process of its own, for `fuzz`: one app for each back end named in its argument.
import {
  appRoute,
  routeInstance,
  runningAt,
  startRig,
  tcp,
} from "../../../src/gateway/testing/harness.ts";

const ports = JSON.parse(process.argv[2] ?? "{}") as Record<string, number>;
const apps = Object.fromEntries(
  Object.entries(ports).map(([name, port]) => {
    const instance = routeInstance(name, runningAt(tcp(port)));
    return [`default/${name}`, appRoute(name, [instance])];
  }),
);
// A fuzzer never sends so slowly: what runs into these has hung.
const rig = await startRig(apps, { limits: { headMs: 60_000, requestsPerConnectionMax: 1e9 } });
console.log(JSON.stringify({ port: rig.port }));
process.on("SIGTERM", async () => {
  for (const problem of rig.problems) console.error(problem);
  await rig.close();
  process.exit(rig.problems.length === 0 ? 0 : 1);
});

// A gateway in a process of its own, for `fuzz`: one app for each back end named in its argument.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificate } from "../../../src/gateway/testing/certificate.ts";
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
const directory = mkdtempSync(join(tmpdir(), "lode-fuzz-"));
// Of the last one nobody has an app.
const hosts = [...Object.keys(ports).map((name) => `${name}.test`), "lost.test"];
const rig = await startRig(apps, {
  limits: { headMs: 60_000, requestsPerConnectionMax: 1e9 },
  certificates: [makeCertificate(directory, "all", hosts)],
});
rmSync(directory, { recursive: true });
console.log(JSON.stringify({ port: rig.port, tlsPort: rig.tlsPort }));
process.on("SIGTERM", async () => {
  for (const problem of rig.problems) console.error(problem);
  await rig.close();
  process.exit(rig.problems.length === 0 ? 0 : 1);
});

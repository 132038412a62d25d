// `npm run proof:limits`: the limits' promises, seen on this machine and, for the other version of
// cgroups, in the rig's; writes docs/LIMITS-PROOF.md. `--here`: on this machine alone, and the
// last line is JSON.

import { join } from "node:path";
import { Cloud, lastJson, repository } from "../harness/cloud.ts";
import { withRig } from "../rig/rig.ts";
import { type Claim, cores, creditClaims, growthClaim, maxClaim, sharesClaims } from "./claims.ts";
import { cgroupVersion } from "./kernel.ts";
import { memoryMinClaim } from "./memory.ts";

interface Report {
  readonly title: string;
  readonly claims: readonly Claim[];
}

async function proveHere(): Promise<Report> {
  const version = cgroupVersion();
  const release = Bun.spawnSync(["uname", "-r"]).stdout.toString().trim();
  const title = `cgroup v${version}, Linux ${release}, ${cores} cores`;
  const claims: Claim[] = [];
  const show = (...made: readonly Claim[]) => {
    claims.push(...made);
    for (const { holds, name, wanted, measured } of made) {
      console.log(`${holds ? "holds " : "FAILS "} ${name}: ${measured} (wanted: ${wanted})`);
    }
  };
  const cloud = await Cloud.start();
  try {
    show(await maxClaim(cloud, 10));
    show(...(await sharesClaims(cloud, 15)));
    show(await growthClaim(cloud, 15));
    show(...(await creditClaims(cloud)));
    if (version === 2) show(await memoryMinClaim(cloud));
  } finally {
    const left = await cloud.stop();
    if (left.length > 0) console.error(`left behind: ${left.join("; ")}`);
  }
  return { title, claims };
}

async function proveInRig(): Promise<Report> {
  return await withRig({}, async (rig) => {
    const { code, stdout, stderr } = await rig.run(["tools/bun", "test/limits/main.ts", "--here"], {
      timeoutMs: 20 * 60_000,
      onOutput: (bytes, stream) => void process[stream].write(bytes),
    });
    if (code > 1) throw new Error(`the proof in the rig ended with ${code}\n${stderr}`);
    return lastJson(stdout) as Report;
  });
}

function table({ title, claims }: Report): string {
  const rows = claims.map(
    ({ name, wanted, measured, holds }) =>
      `| ${name} | ${wanted} | ${measured} | ${holds ? "holds" : "**fails**"} |`,
  );
  return [
    `## ${title}`,
    "",
    "| promise | wanted | measured | |",
    "|---|---|---|---|",
    ...rows,
  ].join("\n");
}

const introduction = `# Limits, proven by effect

\`npm run proof:limits\` wrote this. Apps are deployed and limited by the command line; what they
got is what the kernel counted for their cgroups, or what they measured themselves. The rig is an
emulated machine (test/rig), slow but with the unified cgroups.`;

const reports = [await proveHere()];
if (process.argv.includes("--here")) {
  console.log(JSON.stringify(reports[0]));
} else {
  if (cgroupVersion() === 1) reports.push(await proveInRig());
  const document = `${[introduction, ...reports.map(table)].join("\n\n")}\n`;
  await Bun.write(join(repository, "docs/LIMITS-PROOF.md"), document);
  console.log("written: docs/LIMITS-PROOF.md");
}
process.exit(reports.every(({ claims }) => claims.every(({ holds }) => holds)) ? 0 : 1);

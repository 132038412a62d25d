// `npm run build`: one executable, dist/lode, which is also the runtime of JavaScript apps
// (BUN_BE_BUN=1). The flags keep it from reading bunfig.toml and .env where it is started.

import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const output = join(root, "dist/lode");
mkdirSync(join(root, "dist"), { recursive: true });
const flags = ["--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv"];
const build = Bun.spawnSync(
  [
    join(root, "tools/bun"),
    "build",
    "--compile",
    ...flags,
    join(root, "src/main.ts"),
    "--outfile",
    output,
  ],
  { cwd: root, stdout: "inherit", stderr: "inherit" },
);
if (build.exitCode !== 0) process.exit(build.exitCode);
process.stdout.write(`dist/lode: ${Math.round(statSync(output).size / 1e6)} MB\n`);

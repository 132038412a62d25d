import { err, ok, type Result } from "../../base/result.ts";
import { type ProcessType, parseProcessType } from "../names.ts";
import { type ConfigProblem, configProblem } from "./problem.ts";

export const procfileName = "Procfile";

/** `name: shell line` per line; blank lines and `#` comments between. */
export function parseProcfile(
  text: string,
): Result<ReadonlyMap<ProcessType, string>, ConfigProblem> {
  const processes = new Map<ProcessType, string>();
  const refuse = (index: number, message: string) =>
    err(
      configProblem(`${procfileName}, line ${index + 1}: ${message}`, {
        at: `${procfileName}:${index + 1}`,
        remedy: "write each process as a line like web: node server.js",
      }),
    );
  for (const [index, raw] of text
    .replace(/^\ufeff/, "")
    .split(/\r\n|\n|\r/)
    .entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    if (colon === -1) return refuse(index, `"${line.slice(0, 60)}" has no "name:" before it`);
    const process = parseProcessType(line.slice(0, colon).trim());
    if (!process.ok) return refuse(index, process.error);
    const command = line.slice(colon + 1).trim();
    if (command === "") return refuse(index, `${process.value} has no command`);
    if (processes.has(process.value)) return refuse(index, `${process.value} is there twice`);
    processes.set(process.value, command);
  }
  if (processes.size > 0) return ok(processes);
  return err(
    configProblem(`${procfileName} names no process`, {
      at: procfileName,
      remedy: "add a line like web: node server.js, or delete the file",
    }),
  );
}

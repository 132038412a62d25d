/** `bridge` comes with `ip`. */
export type BatchTool = "ip" | "bridge" | "nft";

/** Runs `ip -batch -` or `nft -f -`; throws with the first complaint of the tool. */
export async function runBatch(tool: BatchTool, text: string): Promise<void> {
  if (text === "") return;
  const failure = await complaintOf(spawnBatch(tool, text));
  if (failure !== null) throw new Error(`${tool}: ${failure}`);
}

/** The same, for removing what may be gone already. */
export async function tryBatch(tool: BatchTool, text: string): Promise<void> {
  if (text !== "") await complaintOf(spawnBatch(tool, text));
}

/** Started at once, in the calling thread's network namespace. */
export function spawnBatch(tool: BatchTool, text: string): BatchProcess {
  // `-force` goes on after a failing line, so that one leftover does not keep the others.
  const command = tool === "nft" ? ["nft", "-f", "-"] : [tool, "-force", "-batch", "-"];
  return Bun.spawn(command, {
    stdin: new TextEncoder().encode(text),
    stdout: "ignore",
    stderr: "pipe",
    env: toolEnvironment,
  });
}

export type BatchProcess = Bun.Subprocess<Uint8Array<ArrayBuffer>, "ignore", "pipe">;

export async function complaintOf(child: BatchProcess): Promise<string | null> {
  const [complaint, code] = await Promise.all([child.stderr.text(), child.exited]);
  if (code === 0) return null;
  return complaint.trim().split("\n")[0] ?? `exit code ${code}`;
}

/** Whether both of the cloud's tables are there. */
export async function hasTables(name: string): Promise<boolean> {
  const child = Bun.spawn(["nft", "list", "tables"], { stderr: "ignore", env: toolEnvironment });
  const lines = (await child.stdout.text()).split("\n");
  return ["inet", "bridge"].every((family) => lines.includes(`table ${family} ${name}`));
}

/** What `ip -json …` says. */
export async function queryIp(args: readonly string[]): Promise<readonly IpObject[]> {
  const child = Bun.spawn(["ip", "-json", ...args], { stderr: "pipe", env: toolEnvironment });
  const [text, complaint, code] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`ip ${args.join(" ")}: ${complaint.trim()}`);
  return text.trim() === "" ? [] : (JSON.parse(text) as IpObject[]);
}

/** The fields used of `ip -json address` and `ip -json route`. */
export interface IpObject {
  readonly ifname?: string;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
  readonly dst?: string;
  readonly dev?: string;
}

const toolEnvironment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

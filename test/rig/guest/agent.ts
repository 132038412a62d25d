// Runs in the machine: takes commands from the host over a virtio port and sends back what they
// print. See ../channel.ts for what travels.

import { createReadStream, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { type FromGuest, readLines, type ToGuest } from "../channel.ts";

/** The device of the port that the host calls `lode.rig`. */
function portDevice(): string {
  const ports = "/sys/class/virtio-ports";
  const name = readdirSync(ports).find(
    (port) => readFileSync(`${ports}/${port}/name`, "utf8").trim() === "lode.rig",
  );
  if (name === undefined) throw new Error("this machine has no port lode.rig");
  return `/dev/${name}`;
}

const descriptor = openSync(portDevice(), "r+");
const running = new Map<number, Bun.Subprocess>();

function send(message: FromGuest): void {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let sent = 0; sent < bytes.length; ) sent += writeSync(descriptor, bytes, sent);
}

async function pass(id: number, stream: "stdout" | "stderr", from: ReadableStream<Uint8Array>) {
  for await (const bytes of from) {
    send({ kind: "output", id, stream, base64: Buffer.from(bytes).toString("base64") });
  }
}

async function run(message: Extract<ToGuest, { kind: "run" }>): Promise<void> {
  const { id, command, cwd, env, stdin } = message;
  try {
    const child = Bun.spawn([...command], {
      cwd,
      env: { ...process.env, ...env },
      stdin: stdin === null ? "ignore" : Buffer.from(stdin, "base64"),
      stdout: "pipe",
      stderr: "pipe",
      // A session of its own, so that a signal reaches all that it started.
      detached: true,
    });
    running.set(id, child);
    // What the command left running may hold its pipes: its own end is what counts.
    const output = Promise.all([
      pass(id, "stdout", child.stdout),
      pass(id, "stderr", child.stderr),
    ]);
    const code = await child.exited;
    await Promise.race([output, Bun.sleep(500)]);
    send({ kind: "exit", id, code });
  } catch (error) {
    send({ kind: "refused", id, reason: String(error) });
  } finally {
    running.delete(id);
  }
}

function end(id: number): void {
  const child = running.get(id);
  if (child === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    child.kill("SIGKILL");
  }
}

send({ kind: "ready" });
for await (const line of readLines(createReadStream("", { fd: descriptor }))) {
  const message = JSON.parse(line) as ToGuest;
  if (message.kind === "run") void run(message);
  else end(message.id);
}
process.exit(0);

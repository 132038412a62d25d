// One virtual machine: QEMU with software emulation, so that it runs wherever Lode's tests do, also
// where nested virtualisation is missing or broken. It ends with this process, whatever ends that.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type FromGuest, readLines, type ToGuest } from "./channel.ts";
import { repositoryImage, step, systemImage } from "./image.ts";

export interface MachineOptions {
  readonly cpus: number;
  readonly memoryMib: number;
  /** Whether it reaches what its host does; else it is alone. */
  readonly internet: boolean;
  readonly readyWithinMs: number;
}

export interface Machine {
  send(message: ToGuest): void;
  /** Ends with the machine. */
  readonly messages: AsyncIterable<FromGuest>;
  /** The last lines of its console, for an error's text. */
  consoleTail(): string;
  end(): Promise<void>;
}

export async function startMachine(options: MachineOptions): Promise<Machine> {
  const system = await systemImage();
  const scratch = mkdtempSync(join(tmpdir(), "lode-rig-"));
  const removeScratch = () => rmSync(scratch, { recursive: true, force: true });
  process.once("exit", removeScratch);
  const server = createServer();
  try {
    const disk = join(scratch, "repository.ext4");
    await step("copying the repository", () => repositoryImage(disk));
    const socketPath = join(scratch, "port");
    await new Promise<void>((done) => server.listen(socketPath, done));
    const disks = [system.disk, disk];
    const console = join(scratch, "console");
    const argv = emulator(options, { ...system, disks, socketPath, console });
    // The kernel ends it when this process dies.
    const child = Bun.spawn(["setpriv", "--pdeathsig", "KILL", ...argv], {
      stdin: "ignore",
      stdout: Bun.file(join(scratch, "emulator")),
      stderr: Bun.file(join(scratch, "emulator")),
      env: { ...process.env, TMPDIR: scratch },
    });
    const consoleTail = () =>
      ["emulator", "console"].flatMap((name) => tail(join(scratch, name))).join("\n");
    const end = async () => {
      child.kill("SIGKILL");
      await child.exited;
      server.close();
      removeScratch();
      process.off("exit", removeScratch);
    };
    const timer = setTimeout(() => child.kill("SIGKILL"), options.readyWithinMs);
    try {
      const socket = await connection(server, child.exited);
      const messages = readMessages(socket);
      const first = await step("booting", () => messages.next());
      if (first.done === true) throw new Error("the machine did not come up");
      clearTimeout(timer);
      const send = (message: ToGuest) => void socket.write(`${JSON.stringify(message)}\n`);
      return { send, messages, consoleTail, end };
    } catch (cause) {
      clearTimeout(timer);
      const reason = `${cause instanceof Error ? cause.message : cause}\n${consoleTail()}`;
      await end();
      throw new Error(`rig: ${reason}`);
    }
  } catch (cause) {
    server.close();
    removeScratch();
    throw cause;
  }
}

interface Parts {
  readonly kernel: string;
  readonly firstRoot: string;
  readonly disks: readonly string[];
  readonly socketPath: string;
  readonly console: string;
}

function emulator(options: MachineOptions, parts: Parts): readonly string[] {
  // Alone, it has a public address in a network of documentation's (RFC 5737), in which one
  // server answers on the port of HTTPS.
  const alone = "net=198.51.100.0/24,restrict=on,guestfwd=tcp:198.51.100.100:443-cmd:cat";
  const network = options.internet ? "net=10.0.2.0/24" : alone;
  const words = options.internet ? "internet" : "";
  return [
    ...["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"],
    ...["-smp", String(options.cpus), "-m", String(options.memoryMib)],
    ...["-kernel", parts.kernel, "-initrd", parts.firstRoot],
    ...["-append", `console=ttyS0 quiet mitigations=off panic=-1 ${words}`],
    ...["-serial", `file:${parts.console}`],
    ...["-device", "virtio-serial-pci", "-chardev", `socket,id=port,path=${parts.socketPath}`],
    ...["-device", "virtserialport,chardev=port,name=lode.rig", "-device", "virtio-rng-pci"],
    // What it writes goes with it.
    ...parts.disks.flatMap((file, index) => [
      ...["-drive", `if=none,id=disk${index},format=raw,snapshot=on,file=${file}`],
      ...["-device", `virtio-blk-pci,drive=disk${index}`],
    ]),
    ...["-netdev", `user,id=net,ipv6=off,${network}`],
    ...["-device", "virtio-net-pci,netdev=net,romfile="],
  ];
}

function connection(server: Server, exited: Promise<number>): Promise<Socket> {
  return new Promise((resolve, reject) => {
    server.once("connection", resolve);
    void exited.then((code) => reject(new Error(`the emulator ended with ${code}`)));
  });
}

async function* readMessages(socket: Socket): AsyncGenerator<FromGuest> {
  // A machine that is killed breaks the connection: that is its end, like any other.
  socket.on("error", () => undefined);
  try {
    for await (const line of readLines(socket)) yield JSON.parse(line) as FromGuest;
  } catch (error) {
    if (!socket.destroyed) throw error;
  }
}

function tail(file: string): readonly string[] {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-25);
  } catch {
    return [];
  }
}

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import { systemClock, systemRandom } from "../../fabric/system.ts";
import { inNetworkNamespace } from "../linux/namespaces.ts";
import type { Network, NetworkSlot } from "./network.ts";
import { openNetwork } from "./open.ts";

setDefaultTimeout(30_000);

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function open(cloud: string, poolSize: number, clock = systemClock): Promise<Network> {
  const runDirectory = `/run/lode-${cloud}`;
  const opened = await openNetwork({ cloud, runDirectory, poolSize, clock });
  if (!opened.ok) throw new Error(opened.error);
  return opened.value.network;
}

/** A network of its own; afterwards nothing of it may be left. */
async function network(poolSize = 2): Promise<{ cloud: string; network: Network }> {
  const cloud = systemRandom.token(6);
  const made = await open(cloud, poolSize);
  cleanups.push(async () => {
    await made.destroy();
    rmSync(`/run/lode-${cloud}`, { recursive: true, force: true });
    expect(leftovers(cloud)).toEqual([]);
  });
  return { cloud, network: made };
}

function leftovers(cloud: string): string[] {
  const tables = Bun.spawnSync(["nft", "list", "tables"]).stdout.toString().split("\n");
  return [...readdirSync("/sys/class/net"), ...tables].filter((name) => name.includes(cloud));
}

/** Runs Python inside a slot and gives what it printed. */
async function run(slot: NetworkSlot, source: string): Promise<string> {
  const child = inNetworkNamespace(slot.namespacePath, () =>
    Bun.spawn(["/usr/bin/python3", "-c", source], { stdout: "pipe", stderr: "pipe" }),
  );
  const [output, complaint] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return (output || complaint).trim();
}

/** "connected" or the error's name. */
function connect(slot: NetworkSlot, host: string, port: number, seconds = 0.5): Promise<string> {
  return run(
    slot,
    `
import socket, errno
try:
  socket.create_connection(("${host}", ${port}), ${seconds})
  print("connected")
except OSError as error:
  print(errno.errorcode.get(error.errno, "ETIMEDOUT"))`,
  );
}

/** With the time to send again what a link that has just been made has lost. */
async function expectConnected(slot: NetworkSlot, host: string, port: number): Promise<void> {
  expect(await connect(slot, host, port, 10)).toBe("connected");
}

function listener(hostname: string): { port: number } {
  const server = Bun.listen({ hostname, port: 0, socket: { data: () => {} } });
  cleanups.push(() => server.stop(true));
  return server;
}

/** Another "host" beside the node: a namespace with a public and a private address. */
async function neighbour(
  cloud: string,
): Promise<{ publicAddress: string; privateAddress: string }> {
  const name = `t${cloud}`;
  const octet = 1 + Math.floor(systemRandom.next() * 250);
  const [publicNode, publicAddress] = [`203.0.112.${octet}`, `203.0.111.${octet}`];
  const [privateNode, privateAddress] = [`172.30.${octet}.1`, `172.30.${octet}.2`];
  const commands = [
    `ip netns add ${name}`,
    `ip link add ${name} type veth peer name eth0 netns ${name}`,
    `ip address add ${publicNode} peer ${publicAddress} dev ${name}`,
    `ip address add ${privateNode} peer ${privateAddress} dev ${name}`,
    `ip link set ${name} up`,
    `ip -n ${name} address add ${publicAddress} peer ${publicNode} dev eth0`,
    `ip -n ${name} address add ${privateAddress} peer ${privateNode} dev eth0`,
    `ip -n ${name} link set eth0 up`,
    `ip -n ${name} link set lo up`,
  ];
  cleanups.push(() => {
    // Its link goes now: the kernel takes its time with the namespace.
    Bun.spawnSync(["ip", "link", "del", name]);
    Bun.spawnSync(["ip", "netns", "del", name]);
  });
  const made = Bun.spawnSync(["sh", "-ec", commands.join("\n")]);
  assert(made.exitCode === 0, made.stderr.toString());
  const server = inNetworkNamespace(`/run/netns/${name}`, () =>
    Bun.spawn(["/usr/bin/python3", "-m", "http.server", "80"], {
      stdout: "ignore",
      stderr: "ignore",
    }),
  );
  cleanups.push(async () => {
    server.kill();
    await server.exited;
  });
  const node = { name, namespacePath: `/run/netns/${name}`, address: publicAddress };
  while ((await connect(node, publicAddress, 80)) !== "connected") await Bun.sleep(20);
  return { publicAddress, privateAddress };
}

test("an instance reaches the public; not the node, private ranges or neighbours", async () => {
  const { cloud, network: made } = await network();
  const slot = await made.acquire({ kind: "public" });
  const other = await made.acquire({ kind: "public" });
  const { publicAddress, privateAddress } = await neighbour(cloud);
  const { port } = listener("0.0.0.0");
  await expectConnected(slot, publicAddress, 80);
  expect(await connect(slot, privateAddress, 80)).toBe("EHOSTUNREACH");
  expect(await connect(slot, made.gatewayAddress, port)).toBe("EHOSTUNREACH");
  expect(await connect(slot, publicAddress.replace(".111.", ".112."), port)).toBe("EHOSTUNREACH");
  expect(await connect(slot, "169.254.169.254", 80)).toBe("EHOSTUNREACH");
  expect(await connect(slot, "127.0.0.1", port)).toBe("ECONNREFUSED");
  expect(await connect(slot, other.address, 80)).not.toBe("connected");
});

test("egress `none` reaches nothing, `public-and` what it names and the public", async () => {
  const { cloud, network: made } = await network();
  const { publicAddress, privateAddress } = await neighbour(cloud);
  const { port } = listener("0.0.0.0");
  const none = await made.acquire({ kind: "none" });
  expect(await connect(none, publicAddress, 80)).toBe("ETIMEDOUT");
  expect(await connect(none, made.gatewayAddress, 53)).not.toBe("connected");
  const more = await made.acquire({
    kind: "public-and",
    cidrs: [`${privateAddress}/32`, "10.0.0.0/8"],
  });
  await expectConnected(more, privateAddress, 80);
  await expectConnected(more, publicAddress, 80);
  expect(await connect(more, made.gatewayAddress, port)).toBe("EHOSTUNREACH");
  const neighbours = await connect(more, none.address, 80);
  expect(neighbours).not.toBe("connected");
  await made.release(none);
  await made.release(more);
});

test("the node reaches an instance on any port, also below 1024", async () => {
  const { network: made } = await network();
  const slot = await made.acquire({ kind: "none" });
  const server = inNetworkNamespace(slot.namespacePath, () =>
    Bun.spawn(
      ["setpriv", "--reuid=65533", "--clear-groups", "python3", "-m", "http.server", "80"],
      {
        cwd: "/usr",
        stdout: "ignore",
        stderr: "ignore",
        env: { PATH: "/usr/bin" },
      },
    ),
  );
  cleanups.push(() => server.kill());
  const url = `http://${slot.address}:80/`;
  for (;;) {
    const response = await fetch(url).catch(() => null);
    if (response?.status === 200) break;
    expect(server.exitCode).toBeNull();
    await Bun.sleep(20);
  }
});

test("an instance cannot fill the machine's table of connections", async () => {
  const { cloud, network: made } = await network();
  const { publicAddress } = await neighbour(cloud);
  const greedy = await made.acquire({ kind: "public" });
  const other = await made.acquire({ kind: "public" });
  const flood = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 37000): s.sendto(b"x", ("${publicAddress}", port))`;
  expect(await run(greedy, flood)).toBe("");
  expect(await connect(greedy, publicAddress, 80)).toBe("ETIMEDOUT");
  await expectConnected(other, publicAddress, 80);
});

test("names resolve through the bridge by UDP and TCP", async () => {
  const { network: made } = await network();
  const slot = await made.acquire({ kind: "public" });
  const answer = await run(
    slot,
    `
import socket
query = bytes.fromhex("1234010000010000000000000000010001")
with_udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
with_udp.settimeout(3)
for attempt in range(5):
  try:
    with_udp.sendto(query, ("${made.gatewayAddress}", 53))
    print(with_udp.recvfrom(512)[0][:2].hex())
    break
  except TimeoutError: pass # as a resolver does: of UDP anything may be lost`,
  );
  expect(answer).toBe("1234");
  await expectConnected(slot, made.gatewayAddress, 53);
});

test("a slot has IPv4, loopback in both families, and no IPv6 besides", async () => {
  const { network: made } = await network();
  const slot = await made.acquire({ kind: "public" });
  const shown = inNetworkNamespace(slot.namespacePath, () =>
    Bun.spawnSync(["ip", "-br", "address"]),
  );
  const lines = shown.stdout
    .toString()
    .trim()
    .split("\n")
    .map((line) => line.split(/\s+/));
  expect(lines.map((words) => words.slice(2).filter((word) => word !== ""))).toEqual([
    ["127.0.0.1/8", "::1/128"],
    [`${slot.address}/22`],
  ]);
});

test("slots come from a pool, and after use rest for all but their tenant", async () => {
  const { network: made } = await network(4);
  const slots = await Promise.all(
    Array.from({ length: 12 }, () => made.acquire({ kind: "public" })),
  );
  expect(new Set(slots.map(({ address }) => address)).size).toBe(12);
  const [first] = slots;
  assert(first !== undefined, "twelve slots");
  await made.release(first);
  const next = await made.acquire({ kind: "public" });
  expect(next.address).not.toBe(first.address);
  const own = await made.acquire({ kind: "public" }, "one");
  await made.release(own);
  expect((await made.acquire({ kind: "public" }, "two")).address).not.toBe(own.address);
  expect((await made.acquire({ kind: "public" }, "one")).address).toBe(own.address);
});

test("a new lode adopts slots with their rules and removes the others", async () => {
  const { cloud, network: old } = await network();
  const slot = await old.acquire({ kind: "none" });
  const instance = inNetworkNamespace(slot.namespacePath, () => Bun.spawn(["sleep", "60"]));
  cleanups.push(() => instance.kill());
  await old.acquire({ kind: "public" });
  await old.close();
  const fresh = await open(cloud, 1);
  expect(fresh.gatewayAddress).toBe(old.gatewayAddress);
  const adopted = await fresh.adopt(slot.name);
  expect(adopted).toMatchObject({ name: slot.name, address: slot.address });
  expect(await fresh.adopt(`lode${cloud}-999`)).toBeNull();
  expect(await fresh.removeOrphans()).toBeGreaterThan(0);
  expect(leftovers(cloud)).toContain(slot.name);
  assert(adopted !== null, "the slot was adopted");
  expect(await connect(adopted, "203.0.111.1", 80)).toBe("ETIMEDOUT");
  instance.kill();
  await instance.exited;
  await fresh.release(adopted);
  await fresh.close();
});

test("rules that another program flushed are restored, exceptions too", async () => {
  const cloud = systemRandom.token(6);
  const checks: (() => void)[] = [];
  const every = (_: number, check: () => void) => {
    checks.push(check);
    return { cancel: () => undefined };
  };
  const made = await open(cloud, 1, { ...systemClock, every });
  cleanups.push(async () => {
    // Also when it is just about to restore them.
    for (const check of checks) check();
    await made.destroy();
    rmSync(`/run/lode-${cloud}`, { recursive: true, force: true });
    expect(leftovers(cloud)).toEqual([]);
  });
  const slot = await made.acquire({ kind: "none" });
  const list = () => Bun.spawnSync(["nft", "list", "ruleset"]).stdout.toString();
  expect(list()).toContain(`${slot.address} : jump`);
  const tables = `delete table inet lode_${cloud}\ndelete table bridge lode_${cloud}\n`;
  expect(Bun.spawnSync(["nft", "-f", "-"], { stdin: Buffer.from(tables) }).exitCode).toBe(0);
  expect(list()).not.toContain(cloud);
  for (const check of checks) check();
  while (!list().includes(`${slot.address} : jump`)) await Bun.sleep(10);
  expect(list()).toContain(`"${slot.name}" . ${slot.address}`);
});

test("the slots of a killed lode go with their last process", async () => {
  const { cloud, network: made } = await network();
  await made.close();
  const script = `import { openNetwork } from ${JSON.stringify(join(import.meta.dir, "open.ts"))};
    import { systemClock as clock } from ${JSON.stringify(
      join(import.meta.dir, "../../fabric/system.ts"),
    )};
    const options = { cloud: "${cloud}", runDirectory: "/run/lode-${cloud}", poolSize: 3, clock };
    const opened = await openNetwork(options);
    console.log(JSON.stringify(await opened.value.network.acquire({ kind: "public" })));
    process.kill(process.pid, "SIGKILL");`;
  const lode = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
  const slot: NetworkSlot = JSON.parse(await lode.stdout.text());
  await lode.exited;
  while (leftovers(cloud).includes(slot.name)) await Bun.sleep(5);
  const successor = await open(cloud, 0);
  expect(await successor.adopt(slot.name)).toBeNull();
  // Else it would restore the tables that the other removes.
  await successor.close();
});

test("clouds opened at one moment have different subnets and do not meet", async () => {
  const [one, two] = await Promise.all([network(), network()]);
  assert(one !== undefined && two !== undefined, "two networks");
  expect(one.network.gatewayAddress).not.toBe(two.network.gatewayAddress);
  const from = await one.network.acquire({ kind: "public-and", cidrs: ["10.0.0.0/8"] });
  const to = await two.network.acquire({ kind: "public" });
  expect(await connect(from, to.address, 80)).toBe("ETIMEDOUT");
});

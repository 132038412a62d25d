import { closeSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { assert } from "../../base/assert.ts";
import type { Clock, Timer } from "../../base/time.ts";
import type { Egress } from "../../model/release.ts";
import { restoreHostSettings } from "../linux/host-settings.ts";
import { inNetworkNamespace, makeNetworkNamespace } from "../linux/namespaces.ts";
import { pause } from "../linux/time.ts";
import {
  addressesPerBridge,
  bridgeCount,
  bridgePrefix,
  firstSlotOffset,
  formatAddress,
  lastSlotOffset,
  linkAddress,
  parseAddress,
  type Range,
} from "./addresses.ts";
import { makeBridge } from "./bridges.ts";
import { complaintOf, hasTables, runBatch, spawnBatch, tryBatch } from "./commands.ts";
import { readExceptions, writeExceptions } from "./exceptions.ts";
import { findHeldNamespaces } from "./held.ts";
import type { Network, NetworkSlot } from "./network.ts";
import { isLoopback, readResolvers, resolversVersion } from "./resolvers.ts";
import {
  egressRules,
  networkNames,
  removeEgressRules,
  resolverRules,
  sourceElement,
  tableRules,
} from "./rules.ts";

const rulesCheckPeriodMs = 15_000;
/** The kernel forgets a UDP exchange after 30–120 s; an address rests that long. */
const restMs = 120_000;
const slotsPerBatch = 16;
/** Making slots takes CPU from starts under way, so the pool is filled when these pause. */
const refillDelayMs = 250;
/** With a quarter of the pool left it does not wait for that. */
const refillSoonDelayMs = 20;

export interface NetworkState {
  readonly cloud: string;
  readonly runDirectory: string;
  readonly poolSize: number;
  readonly clock: Clock;
  readonly subnet: Range;
  readonly nameServers: readonly string[];
}

interface Resting {
  readonly slot: NetworkSlot;
  readonly tenant: string | null;
  readonly until: number;
}

/**
 * A slot's life; its namespace, veth pair and address exist in every state:
 *
 *     made → ready —acquire→ given ─release→ resting —2 min→ ready
 *                              │    ←acquire by the same tenant─┘
 *                              └── with an egress exception —release→ removed
 *     found at start → orphan —adopt→ given
 *                        └── removeOrphans→ removed
 *
 * A namespace is held by a descriptor of lode and by the instance in it, not by a mount as `ip
 * netns` does it: each mount of the host makes every launch slower, since bubblewrap reads
 * the list of them for each of its own. After a crash unused slots are gone by themselves,
 * and the others are found through their instances.
 *
 * A rested slot is as good as a new one: its namespace is empty, the app had no right to
 * change anything in it, and the kernel has forgotten the connections of its address. Who
 * comes back before that gets its own, so an app that sleeps and wakes has one slot made.
 */
export class LinuxNetwork implements Network {
  readonly gatewayAddress: string;
  readonly #state: NetworkState;
  readonly #names: ReturnType<typeof networkNames>;
  readonly #ready: NetworkSlot[] = [];
  readonly #resting: Resting[] = [];
  /** Name of the slot → tenant. */
  readonly #given = new Map<string, string | null>();
  /** Of given slots and orphans; others have `public`. */
  readonly #exceptions: Map<string, Egress>;
  readonly #orphans = new Set<string>();
  /** Of all slots that exist; null: nobody is known to live in the namespace. */
  readonly #namespaces = new Map<number, number | null>();
  readonly #bridges = new Map<number, Promise<void>>();
  readonly #lastOffsets = new Map<number, number>();
  readonly #waiters: PromiseWithResolvers<NetworkSlot>[] = [];
  #resolversVersion = "";
  #refilling: Promise<void> | null = null;
  #refillTimer: Timer | null = null;
  #guard: Timer | null = null;
  #restoring: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(state: NetworkState) {
    this.#state = state;
    this.#names = networkNames(state.cloud);
    this.gatewayAddress = formatAddress(state.subnet.base + 1);
    this.#exceptions = readExceptions(state.runDirectory);
  }

  /** Finds what an earlier lode left and begins to fill the pool. */
  async start(): Promise<void> {
    const interfaces = readdirSync("/sys/class/net");
    for (let number = 0; number < bridgeCount; number++) {
      if (interfaces.includes(this.#names.bridge(number))) {
        this.#bridges.set(number, Promise.resolve());
      }
    }
    const indexOf = (address: string) => (parseAddress(address) ?? 0) - this.#state.subnet.base;
    const held = findHeldNamespaces((address) => isSlotIndex(indexOf(address)));
    for (const [address, descriptor] of held) this.#namespaces.set(indexOf(address), descriptor);
    for (const name of this.#existing()) {
      const index = this.#indexOf(name);
      if (!this.#namespaces.has(index)) this.#namespaces.set(index, null);
    }
    for (const index of this.#namespaces.keys()) this.#orphans.add(this.#names.slot(index));
    await this.#writeRules();
    const restore = () => {
      this.#restoring = this.#restoring.then(() => this.#restoreRules()).catch(() => undefined);
    };
    this.#guard = this.#state.clock.every(rulesCheckPeriodMs, restore);
    this.#refill();
  }

  async acquire(egress: Egress, tenant: string | null = null): Promise<NetworkSlot> {
    assert(!this.#closed, "acquire on a closed network");
    await this.#refreshResolvers();
    this.#wakeRested();
    const slot = this.#takeBack(tenant) ?? this.#ready.shift() ?? (await this.#wait());
    const rules = egressRules(this.#state.cloud, slot, egress);
    this.#given.set(slot.name, tenant);
    this.#refillLater();
    if (rules === "") return slot;
    this.#exceptions.set(slot.name, egress);
    writeExceptions(this.#state.runDirectory, this.#exceptions);
    await runBatch("nft", rules);
    return slot;
  }

  async release(slot: NetworkSlot): Promise<void> {
    const tenant = this.#given.get(slot.name);
    if (tenant === undefined) return;
    this.#given.delete(slot.name);
    if (this.#exceptions.has(slot.name)) {
      await this.#remove([slot]);
      return;
    }
    this.#resting.push({ slot, tenant, until: this.#state.clock.now() + restMs });
    const spare = Math.max(0, this.#resting.length - Math.max(this.#state.poolSize, slotsPerBatch));
    await this.#remove(this.#resting.splice(0, spare).map((resting) => resting.slot));
  }

  async adopt(name: string, tenant: string | null = null): Promise<NetworkSlot | null> {
    if (!this.#orphans.delete(name)) return null;
    const slot = this.#slot(this.#indexOf(name));
    if (this.#namespaces.get(this.#indexOf(name)) === null) {
      await this.#remove([slot]);
      return null;
    }
    this.#given.set(name, tenant);
    return slot;
  }

  async removeOrphans(): Promise<number> {
    const slots = [...this.#orphans].map((name) => this.#slot(this.#indexOf(name)));
    this.#orphans.clear();
    await this.#remove(slots);
    return slots.length;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#guard?.cancel();
    this.#refillTimer?.cancel();
    await this.#refilling;
    // It would write its tables after `destroy` has removed them.
    await this.#restoring;
  }

  async destroy(): Promise<void> {
    await this.close();
    const { cloud, runDirectory } = this.#state;
    const found = this.#existing().map((name) => this.#indexOf(name));
    await this.#removeLinks([...new Set([...this.#namespaces.keys(), ...found])]);
    const bridges = Array.from({ length: bridgeCount }, (_, number) => this.#names.bridge(number));
    await tryBatch("ip", bridges.map((bridge) => `link del ${bridge}\n`).join(""));
    const { table } = this.#names;
    await tryBatch("nft", `delete table inet ${table}\ndelete table bridge ${table}\n`);
    restoreHostSettings(runDirectory);
    const left = this.#existing();
    assert(left.length === 0, `network of cloud ${cloud}: ${left.join(", ")} could not be removed`);
  }

  /** Many starts at once share batches: tools are started per batch, not per slot. */
  #wait(): Promise<NetworkSlot> {
    const waiter = Promise.withResolvers<NetworkSlot>();
    this.#waiters.push(waiter);
    this.#refill();
    return waiter.promise;
  }

  #refillLater(): void {
    const { clock, poolSize } = this.#state;
    const missing = poolSize - this.#ready.length;
    if (missing <= 0 || this.#refilling !== null) return;
    const isLow = this.#ready.length <= poolSize / 4;
    this.#refillTimer?.cancel();
    const delayMs = isLow ? refillSoonDelayMs : refillDelayMs;
    this.#refillTimer = clock.after(delayMs, () => this.#refill());
  }

  /** In the background. What fails is told to those who wait; with nobody waiting, later. */
  #refill(): void {
    if (this.#refilling !== null || this.#closed) return;
    this.#refilling = this.#fillPool()
      .catch((error: unknown) => {
        for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
      })
      .then(() => {
        this.#refilling = null;
        if (this.#waiters.length > 0) this.#refill();
      });
  }

  async #fillPool(): Promise<void> {
    for (;;) {
      this.#wakeRested();
      while (this.#waiters.length > 0 && this.#ready.length > 0) {
        const slot = this.#ready.shift();
        if (slot !== undefined) this.#waiters.shift()?.resolve(slot);
      }
      const waiting = this.#waiters.length;
      const missing = waiting > 0 ? waiting : this.#state.poolSize - this.#ready.length;
      if (missing <= 0 || (this.#closed && waiting === 0)) return;
      this.#ready.push(...(await this.#make(Math.min(missing, slotsPerBatch))));
    }
  }

  #takeBack(tenant: string | null): NetworkSlot | undefined {
    if (tenant === null) return undefined;
    const at = this.#resting.findIndex((resting) => resting.tenant === tenant);
    return at === -1 ? undefined : this.#resting.splice(at, 1)[0]?.slot;
  }

  #wakeRested(): void {
    const now = this.#state.clock.now();
    const count = this.#resting.findIndex(({ until }) => until > now);
    const rested = this.#resting.splice(0, count === -1 ? this.#resting.length : count);
    this.#ready.push(...rested.map(({ slot }) => slot));
  }

  async #make(count: number): Promise<NetworkSlot[]> {
    const slots: NetworkSlot[] = [];
    try {
      while (slots.length < count) {
        slots.push(this.#slot(this.#takeIndex()));
        // Each takes the kernel about a millisecond: what else happens comes in between.
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      await Promise.all(slots.map((slot) => this.#ensureBridge(this.#bridgeOf(slot))));
      const links = slots.map((slot) => linkLines(slot, this.#names.bridge(this.#bridgeOf(slot))));
      await runBatch("ip", links.join(""));
      await Promise.all([
        runBatch("bridge", slots.map(forwardingLine).join("")),
        runBatch("nft", this.#sources(slots, "add")),
        ...slots.map((slot) => this.#configure(slot)),
      ]);
      return slots;
    } catch (error) {
      await this.#remove(slots);
      throw error;
    }
  }

  async #configure(slot: NetworkSlot): Promise<void> {
    const gateway = this.#state.subnet.base + this.#bridgeOf(slot) * addressesPerBridge + 1;
    const onBridge = [gateway, ...this.#state.nameServers.map((text) => parseAddress(text) ?? 0)];
    const lines = [
      "link set lo up",
      `address add ${slot.address}/${bridgePrefix} dev eth0`,
      "link set eth0 up",
      ...[...new Set(onBridge)].map((address) => neighbourLine(address, gateway, "eth0")),
      `route add default via ${formatAddress(gateway)}`,
      "",
    ];
    const child = inNetworkNamespace(slot.namespacePath, () => {
      for (const [path, value] of slotSettings) writeSetting(path, value);
      return spawnBatch("ip", lines.join("\n"));
    });
    const complaint = await complaintOf(child);
    if (complaint !== null) throw new Error(`network slot ${slot.name}: ${complaint}`);
  }

  async #remove(slots: readonly NetworkSlot[]): Promise<void> {
    if (slots.length === 0) return;
    const { cloud } = this.#state;
    const excepted = slots.filter(({ name }) => this.#exceptions.delete(name));
    if (excepted.length > 0) writeExceptions(this.#state.runDirectory, this.#exceptions);
    const rules = excepted.map((slot) => tryBatch("nft", removeEgressRules(cloud, slot)));
    const sources = slots.map((slot) => tryBatch("nft", this.#sources([slot], "delete")));
    await Promise.all([...rules, ...sources]);
    await this.#removeLinks(slots.map(({ name }) => this.#indexOf(name)));
  }

  /**
   * With its last holder the kernel takes a namespace and its veth pair away, many at once, in
   * the background; removing a pair by itself takes 30 ms. What stays (a process still lives
   * in the namespace) is removed by name.
   */
  async #removeLinks(indices: readonly number[]): Promise<void> {
    for (const index of indices) {
      const descriptor = this.#namespaces.get(index);
      if (typeof descriptor === "number") closeSync(descriptor);
      this.#namespaces.set(index, null);
    }
    const names = indices.map((index) => this.#names.slot(index));
    const left = () => names.filter((name) => existsSync(`/sys/class/net/${name}`));
    for (let attempt = 0; attempt < 100 && left().length > 0; attempt++) {
      await pause(this.#state.clock, 5);
    }
    await tryBatch(
      "ip",
      left()
        .map((name) => `link del ${name}\n`)
        .join(""),
    );
    for (const index of indices) this.#namespaces.delete(index);
  }

  /** On the first bridge with room, the next address in turn, so that none is reused soon. */
  #takeIndex(): number {
    const perBridge = lastSlotOffset - firstSlotOffset + 1;
    for (let bridge = 0; bridge < bridgeCount; bridge++) {
      const last = this.#lastOffsets.get(bridge) ?? 0;
      for (let step = 1; step <= perBridge; step++) {
        const turn = (last + step) % perBridge;
        const index = bridge * addressesPerBridge + firstSlotOffset + turn;
        if (this.#namespaces.has(index)) continue;
        this.#lastOffsets.set(bridge, turn);
        this.#namespaces.set(index, makeNetworkNamespace());
        return index;
      }
    }
    throw new Error(`all ${perBridge * bridgeCount} addresses of this node are in use`);
  }

  #ensureBridge(number: number): Promise<void> {
    const existing = this.#bridges.get(number);
    if (existing !== undefined) return existing;
    const made = makeBridge(this.#state.cloud, number, this.#state.subnet).then(() => {
      this.#resolversVersion = "";
    });
    this.#bridges.set(number, made);
    made.catch(() => this.#bridges.delete(number));
    return made;
  }

  /** All of them, whatever is there, in one transaction. */
  async #writeRules(): Promise<void> {
    const { cloud, subnet } = this.#state;
    const slots = [...this.#namespaces.keys()].map((index) => this.#slot(index));
    const { table } = this.#names;
    await runBatch(
      "nft",
      [
        tableRules(cloud, subnet),
        `flush map inet ${table} egress\nflush set bridge ${table} sources\n`,
        this.#sources(slots, "add"),
        ...slots.map((slot) => {
          const egress = this.#exceptions.get(slot.name);
          return egress === undefined ? "" : egressRules(cloud, slot, egress);
        }),
      ].join(""),
    );
    this.#resolversVersion = "";
    await this.#refreshResolvers();
  }

  /** A reload of the host's firewall (`flush ruleset`) takes our tables away, too. */
  async #restoreRules(): Promise<void> {
    if ((await hasTables(this.#names.table)) || this.#closed) return;
    await this.#writeRules();
  }

  /** The host's resolvers change with its networks; the next start of an app follows. */
  async #refreshResolvers(): Promise<void> {
    const version = resolversVersion();
    if (version === this.#resolversVersion) return;
    this.#resolversVersion = version;
    const { cloud, nameServers } = this.#state;
    const resolvers = readResolvers();
    const routeLocal = resolvers.some(isLoopback) ? "1" : "0";
    for (const number of this.#bridges.keys()) {
      const bridge = this.#names.bridge(number);
      writeSetting(`ipv4/conf/${bridge}/route_localnet`, routeLocal);
      writeSetting(`ipv6/conf/${bridge}/disable_ipv6`, "1");
    }
    await runBatch("nft", resolverRules(cloud, nameServers, resolvers));
  }

  #sources(slots: readonly NetworkSlot[], change: "add" | "delete"): string {
    return slots.map((slot) => sourceElement(this.#state.cloud, slot, change)).join("");
  }

  /** Names of slots whose veth pair exists. */
  #existing(): string[] {
    return readdirSync("/sys/class/net").filter((name) => name.startsWith(this.#names.slotPrefix));
  }

  #slot(index: number): NetworkSlot {
    const name = this.#names.slot(index);
    return {
      name,
      namespacePath: `/proc/${process.pid}/fd/${this.#namespaces.get(index) ?? "none"}`,
      address: formatAddress(this.#state.subnet.base + index),
    };
  }

  #indexOf(name: string): number {
    return Number(name.slice(this.#names.slotPrefix.length));
  }

  #bridgeOf(slot: NetworkSlot): number {
    return Math.floor(this.#indexOf(slot.name) / addressesPerBridge);
  }
}

function isSlotIndex(index: number): boolean {
  const offset = index % addressesPerBridge;
  const inside = index >= 0 && index < bridgeCount * addressesPerBridge;
  return inside && offset >= firstSlotOffset && offset <= lastSlotOffset;
}

/** Below /proc/sys/net. No IPv6 but on loopback; every port may be bound by the app. */
const slotSettings: readonly (readonly [path: string, value: string])[] = [
  ["ipv4/ip_unprivileged_port_start", "0"],
  ["ipv6/conf/default/disable_ipv6", "1"],
  ["ipv6/conf/eth0/disable_ipv6", "1"],
];

/** A kernel without IPv6 has not all of them. */
function writeSetting(path: string, value: string): void {
  const full = `/proc/sys/net/${path}`;
  if (existsSync(full)) writeFileSync(full, value);
}

/**
 * Ports are isolated: they reach the bridge itself and no other port. Who has which link
 * address is written down on all sides, so nothing is learned or asked for: no packet is
 * flooded to a thousand ports, no app can claim another's address, the first packet does not
 * wait, and the kernel's table of learned neighbours (1024 for the whole machine) stays empty.
 */
function linkLines(slot: NetworkSlot, bridge: string): string {
  const { name, namespacePath } = slot;
  const peer = `peer name eth0 address ${linkAddressOf(slot)} netns ${namespacePath}`;
  return [
    `link add ${name} type veth ${peer}`,
    `link set ${name} addrgenmode none`,
    `link set ${name} master ${bridge}`,
    `link set ${name} type bridge_slave isolated on learning off ${noFlood}`,
    `link set ${name} up`,
    neighbourLine(parseAddress(slot.address) ?? 0, parseAddress(slot.address) ?? 0, bridge),
    "",
  ].join("\n");
}

const noFlood = "flood off mcast_flood off bcast_flood off";

/** For the `bridge` tool: the slot's link address is behind its port. */
function forwardingLine(slot: NetworkSlot): string {
  return `fdb replace ${linkAddressOf(slot)} dev ${slot.name} master static\n`;
}

/** `address` has the link address that belongs to `owner`. */
function neighbourLine(address: number, owner: number, device: string): string {
  const link = linkAddress(owner);
  return `neigh replace ${formatAddress(address)} lladdr ${link} dev ${device} nud permanent`;
}

function linkAddressOf(slot: NetworkSlot): string {
  return linkAddress(parseAddress(slot.address) ?? 0);
}

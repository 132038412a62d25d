import { mkdirSync, readdirSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import { changeHostSettings } from "../linux/host-settings.ts";
import {
  bridgePrefix,
  chooseSubnet,
  formatAddress,
  linkAddress,
  overlaps,
  parseAddress,
  parseRange,
  type Range,
  subnetPrefix,
} from "./addresses.ts";
import { makeBridge } from "./bridges.ts";
import { type IpObject, queryIp, runBatch, tryBatch } from "./commands.ts";
import { LinuxNetwork } from "./linux-network.ts";
import type { Network } from "./network.ts";
import { readResolvers } from "./resolvers.ts";
import { networkNames } from "./rules.ts";

export interface OpenNetworkOptions {
  readonly cloud: string;
  readonly runDirectory: string;
  /** Slots kept ready. */
  readonly poolSize: number;
  readonly clock: Clock;
}

/** What sandboxes need to know besides the port `Network`. */
export interface OpenedNetwork {
  readonly network: Network;
  /** For `openSandbox`: addresses on the bridge that answer DNS. */
  readonly nameServers: readonly string[];
}

/**
 * Makes or adopts the cloud's bridge and tables. The bridge itself remembers the subnet, so
 * a restart changes nothing for running instances. The error is one line.
 */
export async function openNetwork(
  options: OpenNetworkOptions,
): Promise<Result<OpenedNetwork, string>> {
  const { cloud, runDirectory } = options;
  try {
    mkdirSync(runDirectory, { recursive: true, mode: 0o711 });
    const resolvers = readResolvers();
    const subnet = await ensureFirstBridge(cloud, resolvers);
    if (!subnet.ok) return subnet;
    const count = Math.max(resolvers.length, 1);
    const nameServers = Array.from({ length: count }, (_, index) =>
      formatAddress(subnet.value.base + 1 + index),
    );
    await setBridgeAddresses(cloud, subnet.value, nameServers);
    changeHostSettings(runDirectory);
    const network = new LinuxNetwork({ ...options, subnet: subnet.value, nameServers });
    await network.start();
    return ok({ network, nameServers });
  } catch (error) {
    return err(`network: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** The subnet of the existing bridge, or of a new one. */
async function ensureFirstBridge(
  cloud: string,
  resolvers: readonly string[],
): Promise<Result<Range, string>> {
  const bridge = networkNames(cloud).bridge(0);
  const existing = await subnetOf(bridge);
  if (existing !== null) return ok(existing);
  const avoided: Range[] = [];
  // Another cloud may choose the same subnet at the same moment: look again after the choice.
  for (let attempt = 0; attempt < 8; attempt++) {
    const taken = [...(await takenRanges(cloud)), ...resolvers.flatMap(rangeOf), ...avoided];
    const subnet = chooseSubnet(cloud, taken);
    if (!subnet.ok) return subnet;
    await makeBridge(cloud, 0, subnet.value);
    const others = await takenRanges(cloud);
    if (!others.some((range) => overlaps(range, subnet.value))) return subnet;
    await tryBatch("ip", `link del ${bridge}\n`);
    avoided.push(subnet.value);
  }
  return err("network: no subnet could be had: other programs keep taking it");
}

/** Also on an existing bridge: the number of resolvers may have grown. */
async function setBridgeAddresses(
  cloud: string,
  subnet: Range,
  nameServers: readonly string[],
): Promise<void> {
  const bridge = networkNames(cloud).bridge(0);
  const lines = [
    `link set ${bridge} address ${linkAddress(subnet.base + 1)}`,
    ...nameServers.slice(1).map((address) => `address replace ${address}/32 dev ${bridge}`),
  ];
  await runBatch("ip", lines.map((line) => `${line}\n`).join(""));
}

async function subnetOf(bridge: string): Promise<Range | null> {
  if (!readdirSync("/sys/class/net").includes(bridge)) return null;
  const [shown] = await queryIp(["-4", "address", "show", "dev", bridge]);
  const local = shown?.addr_info?.find((info) => info.prefixlen === bridgePrefix)?.local;
  const address = local === undefined ? null : parseAddress(local);
  if (address === null) {
    await tryBatch("ip", `link del ${bridge}\n`);
    return null;
  }
  return { base: address - 1, prefix: subnetPrefix };
}

/** Ranges of all addresses and routes of the host that are not this cloud's own. */
async function takenRanges(cloud: string): Promise<Range[]> {
  const [addresses, routes] = await Promise.all([
    queryIp(["-4", "address"]),
    queryIp(["-4", "route", "show", "table", "all"]),
  ]);
  const own = new RegExp(`^lode-${cloud}(-\\d)?$`);
  const foreign = (object: IpObject) => !own.test(object.ifname ?? object.dev ?? "");
  return [
    ...addresses
      .filter(foreign)
      .flatMap((object) =>
        (object.addr_info ?? []).flatMap(({ local, prefixlen }) =>
          local === undefined ? [] : rangeOf(`${local}/${prefixlen ?? 32}`),
        ),
      ),
    ...routes.filter(foreign).flatMap(({ dst }) => (dst === undefined ? [] : rangeOf(dst))),
  ];
}

/** `default` and other words are no range; so is an address family we do not ask for. */
function rangeOf(text: string): Range[] {
  const range = parseRange(text);
  return range.ok && range.value.prefix > 0 ? [range.value] : [];
}

import {
  addressesPerBridge,
  bridgePrefix,
  formatAddress,
  linkAddress,
  type Range,
} from "./addresses.ts";
import { runBatch } from "./commands.ts";
import { networkNames } from "./rules.ts";

/** Bridge `number` of a cloud, with the first address of its /22. */
export async function makeBridge(cloud: string, number: number, subnet: Range): Promise<void> {
  const bridge = networkNames(cloud).bridge(number);
  const base = subnet.base + number * addressesPerBridge;
  await runBatch(
    "ip",
    [
      `link add ${bridge} address ${linkAddress(base + 1)} type bridge mcast_snooping 0`,
      `link set ${bridge} addrgenmode none`,
      `address add ${formatAddress(base + 1)}/${bridgePrefix} dev ${bridge}`,
      `link set ${bridge} up`,
      "",
    ].join("\n"),
  );
}

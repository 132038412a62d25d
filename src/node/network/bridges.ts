import { addressesPerBridge, bridgePrefix, formatAddress, type Range } from "./addresses.ts";
import { runBatch } from "./commands.ts";
import { networkNames } from "./rules.ts";

/** Bridge `number` of a cloud, with the first address of its /22. */
export async function makeBridge(cloud: string, number: number, subnet: Range): Promise<void> {
  const bridge = networkNames(cloud).bridge(number);
  const base = subnet.base + number * addressesPerBridge;
  // With no fixed one the bridge takes the least address of its ports and so changes it.
  const link = [0x02, 0x10, ...[24, 16, 8, 0].map((shift) => (base >>> shift) & 255)]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join(":");
  await runBatch(
    "ip",
    [
      `link add ${bridge} address ${link} type bridge stp_state 0 mcast_snooping 0`,
      `link set ${bridge} addrgenmode none`,
      `address add ${formatAddress(base + 1)}/${bridgePrefix} dev ${bridge}`,
      `link set ${bridge} up`,
      "",
    ].join("\n"),
  );
}

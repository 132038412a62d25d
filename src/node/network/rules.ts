import type { Egress } from "../../model/release.ts";
import { formatRange, type Range } from "./addresses.ts";

/** Names of all that one cloud's network makes on the host. */
export function networkNames(cloud: string) {
  return {
    table: `lode_${cloud}`,
    bridge: (number: number) => (number === 0 ? `lode-${cloud}` : `lode-${cloud}-${number}`),
    /** Matches every bridge of the cloud in nftables. */
    bridges: `"lode-${cloud}*"`,
    /** At most 15 characters, the kernel's limit for an interface. */
    slot: (index: number) => `lode${cloud}-${index}`,
    slotPrefix: `lode${cloud}-`,
    slots: `"lode${cloud}-*"`,
  };
}

/**
 * Destinations that are not public (IANA special-purpose registry), less those meant for
 * documentation: this network, private, carrier NAT, loopback, link-local with the metadata
 * address, protocol assignments, benchmarking, multicast, reserved.
 */
const refused =
  "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, " +
  "192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4";

/**
 * The kernel's table of connections is one for the whole machine (262,144 by default): no
 * instance may fill it.
 */
const limit = "ct state new add @connections { ip saddr ct count over 16384 } drop";

const reject = "reject with icmpx type admin-prohibited";

/**
 * The cloud's two tables, replaced whole in one transaction:
 *
 * - `inet`: what an instance may reach. An instance without an entry in the map `egress` may
 *   reach public addresses. An entry jumps to the instance's own chain, which accepts more
 *   or drops all, and falls through to the common rules.
 * - `bridge`: a port sends only with the address that belongs to it.
 *
 * The map and the set of a running cloud are kept; so a restart changes nothing for
 * instances.
 */
export function tableRules(cloud: string, subnet: Range): string {
  const { table, bridges, slots } = networkNames(cloud);
  const own = formatRange(subnet);
  return `
table inet ${table} {
  map egress { type ipv4_addr : verdict; }
  set connections { type ipv4_addr; size 8192; flags dynamic; }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
  }
  chain names {
    type nat hook prerouting priority dstnat; policy accept;
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
  }
  chain input {
    type filter hook input priority filter; policy accept;
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
  }
  chain to_node {}
  chain outbound {}
  chain inbound {}
}
table bridge ${table} {
  set sources { type ifname . ipv4_addr; }
  chain ports {
    type filter hook prerouting priority -300; policy accept;
  }
}
${["guard", "translate", "input", "forward", "to_node", "outbound", "inbound"]
  .map((chain) => `flush chain inet ${table} ${chain}`)
  .join("\n")}
flush chain bridge ${table} ports
table inet ${table} {
  chain guard {
    iifname != ${bridges} accept
    meta nfproto != ipv4 drop
    ip saddr != ${own} drop
    ip daddr 127.0.0.0/8 drop
  }
  chain translate {
    ip saddr ${own} oifname != ${bridges} masquerade
  }
  chain input {
    iifname ${bridges} jump to_node
  }
  chain forward {
    iifname ${bridges} jump outbound
    oifname ${bridges} jump inbound
  }
  chain to_node {
    ct state established,related accept
    ${limit}
    ip daddr ${own} ${reject}
    ip saddr vmap @egress
    ${passedQuery(own)} accept
    ${reject}
  }
  chain outbound {
    ct state established,related accept
    ${limit}
    oifname ${bridges} ${reject}
    ip saddr vmap @egress
    ${passedQuery(own)} accept
    ip daddr { ${refused} } ${reject}
    accept
  }
  chain inbound {
    ct state established,related accept
    drop
  }
}
table bridge ${table} {
  chain ports {
    iifname != ${slots} accept
    ether type ip iifname . ip saddr @sources accept
    ether type arp iifname . arp saddr ip @sources accept
    drop
  }
}
`;
}

/** A query that `resolverRules` sent on to one of the host's resolvers. */
function passedQuery(own: string): string {
  return `ct status dnat ct original ip daddr ${own} meta l4proto { tcp, udp } th dport 53`;
}

/** Queries to the name server addresses go to the host's resolvers, in the kernel. */
export function resolverRules(
  cloud: string,
  nameServers: readonly string[],
  resolvers: readonly string[],
): string {
  const { table, bridges } = networkNames(cloud);
  const rules = nameServers.map((address, at) => {
    const query = `iifname ${bridges} ip daddr ${address} meta l4proto { tcp, udp } th dport 53`;
    return `add rule inet ${table} names ${query} dnat ip to ${resolvers[at % resolvers.length]}`;
  });
  const kept = resolvers.length === 0 ? [] : rules;
  return [`flush chain inet ${table} names`, ...kept, ""].join("\n");
}

/** One slot's exception; for `public` there is none. */
export function egressRules(cloud: string, slot: EgressSlot, egress: Egress): string {
  const { table } = networkNames(cloud);
  const chain = `inet ${table} ${chainOf(slot)}`;
  const rule =
    egress.kind === "none"
      ? "drop"
      : egress.kind === "public-and" && egress.cidrs.length > 0
        ? `ip daddr { ${egress.cidrs.join(", ")} } accept`
        : null;
  if (rule === null) return "";
  return [
    `add chain ${chain}`,
    `flush chain ${chain}`,
    `add rule ${chain} ${rule}`,
    `add element inet ${table} egress { ${slot.address} : jump ${chainOf(slot)} }`,
    "",
  ].join("\n");
}

export function removeEgressRules(cloud: string, slot: EgressSlot): string {
  const { table } = networkNames(cloud);
  return [
    `delete element inet ${table} egress { ${slot.address} }`,
    `delete chain inet ${table} ${chainOf(slot)}`,
    "",
  ].join("\n");
}

export function sourceElement(cloud: string, slot: EgressSlot, change: "add" | "delete"): string {
  const { table } = networkNames(cloud);
  return `${change} element bridge ${table} sources { "${slot.name}" . ${slot.address} }\n`;
}

interface EgressSlot {
  readonly name: string;
  readonly address: string;
}

function chainOf(slot: EgressSlot): string {
  return `slot_${slot.name.split("-").at(-1)}`;
}

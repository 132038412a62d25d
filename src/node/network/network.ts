import type { Egress } from "../../model/release.ts";

/** A network namespace with one address on the node's bridge. */
export interface NetworkSlot {
  /** Interface-safe, unique on the node, begins with the cloud's prefix. */
  readonly name: string;
  /** Path for setns(2) / `nsenter --net=`. */
  readonly namespacePath: string;
  /** IPv4 address of the instance on the bridge. */
  readonly address: string;
}

/**
 * The network of one cloud on this node: a bridge with isolated ports, one nftables table, a
 * pool of ready slots. Inbound: only from the node itself (the gateway). Outbound: public
 * addresses, and DNS by the bridge's address; private ranges, link-local (metadata), the node
 * and Lode's own ports are refused unless an app's egress allows them.
 */
export interface Network {
  /** The bridge's address: name server and host of the instances. */
  readonly gatewayAddress: string;
  /**
   * A ready slot with the egress rules set; made on the spot when the pool is empty. A
   * `tenant` that released one a moment ago gets the same again.
   */
  acquire(egress: Egress, tenant?: string): Promise<NetworkSlot>;
  /** Back into the pool (its connections reset) or removed. The namespace must be empty. */
  release(slot: NetworkSlot): Promise<void>;
  /** Takes over a slot that an earlier lode gave out; null when it is gone. */
  adopt(name: string, tenant?: string): Promise<NetworkSlot | null>;
  /** Removes slots that nobody adopted since start. */
  removeOrphans(): Promise<number>;
  /** Stops refilling; leaves everything in place. */
  close(): Promise<void>;
  /** Removes every slot, the bridge, the table; restores ip_forward if Lode had set it. */
  destroy(): Promise<void>;
}

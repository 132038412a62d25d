import type { Wire } from "../fabric/wire.ts";
import type { InstanceId } from "../model/names.ts";
import {
  type GatewayLoad,
  type QuiesceReply,
  type QuiesceRequest,
  subjects,
} from "../model/wire.ts";
import type { Input } from "./decide/machine.ts";

const quiesceTimeoutMs = 1000;

export interface Gateways {
  /** Asks every gateway to send nothing more to an instance, and sums their answers. */
  quiesce(instance: InstanceId): Promise<Extract<Input, { kind: "quiesced" }>>;
  close(): void;
}

/**
 * The gateways, known by the loads that they publish and by what `running` names (the node's
 * own gateways, which may not have had a request yet).
 */
export function createGateways(
  wire: Wire,
  running: () => readonly string[],
  loaded: (load: GatewayLoad["instances"][number]) => void,
): Gateways {
  const known = new Set<string>();
  const subscription = wire.subscribe(subjects.gatewayLoads, ({ payload }) => {
    const load = payload as unknown as GatewayLoad;
    known.add(load.gateway);
    for (const instance of load.instances) loaded(instance);
  });

  async function ask(gateway: string, instance: InstanceId): Promise<QuiesceReply | "unclear"> {
    const request: QuiesceRequest = { instance };
    const reply = await wire.request(
      subjects.gatewayQuiesce(gateway),
      { ...request },
      {
        timeoutMs: quiesceTimeoutMs,
      },
    );
    if (reply.ok) return reply.value as unknown as QuiesceReply;
    if (reply.error.code !== "noResponder") return "unclear";
    // Alive, but not back on the wire yet, as after a restart of lode: it may have requests.
    if (running().includes(gateway)) return "unclear";
    // It is gone, and its requests with it.
    known.delete(gateway);
    return { inFlight: 0, lastRequestAt: null };
  }

  return {
    async quiesce(instance) {
      const names = new Set([...known, ...running()]);
      const replies = await Promise.all([...names].map((name) => ask(name, instance)));
      let inFlight = 0;
      let lastRequestAt: number | null = null;
      for (const reply of replies) {
        if (reply === "unclear") continue;
        inFlight += reply.inFlight;
        lastRequestAt = Math.max(lastRequestAt ?? 0, reply.lastRequestAt ?? 0);
      }
      const complete = !replies.includes("unclear");
      return { kind: "quiesced", inFlight, lastRequestAt, complete };
    },
    close: () => subscription.cancel(),
  };
}

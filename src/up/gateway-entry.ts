import { systemClock, systemRandom } from "../fabric/system.ts";
import { connectWire } from "../fabric/unix/client.ts";
import { startGateway } from "../gateway/gateway.ts";
import type { GatewayArguments } from "./gateways.ts";
import { collectWhenQuiet, ownCpuTimeUs } from "./quiet.ts";

/** The body of a gateway process: nothing of Lode but the gateway and its end of the wire. */
export function runGateway(text: string | undefined): void {
  if (text === undefined) throw new Error("LODE_GATEWAY is not set: lode starts gateways itself");
  const settings = JSON.parse(text) as GatewayArguments;
  const clock = systemClock;
  const wire = connectWire({ socketPath: settings.socketPath, clock });
  const gateway = startGateway({
    ...{ id: settings.id, row: settings.row, loadTablePath: settings.loadTablePath },
    ...{ plainDescriptors: settings.plainDescriptors, tlsDescriptors: settings.tlsDescriptors },
    ...{ wire, clock, random: systemRandom },
    accessLog: { directory: settings.logDirectory },
    onProblem: (message) => console.error(message),
  });
  collectWhenQuiet(clock, ownCpuTimeUs, () => Bun.gc(true));
  // The terminal's Ctrl-C is lode's to act on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", async () => {
    await gateway.close();
    await wire.close();
    process.exit(0);
  });
}

if (import.meta.main) runGateway(process.env.LODE_GATEWAY);

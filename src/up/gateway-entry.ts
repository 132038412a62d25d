import { tmpdir } from "node:os";
import { systemClock, systemRandom } from "../fabric/system.ts";
import { connectWire } from "../fabric/unix/client.ts";
import { startGateway } from "../gateway/gateway.ts";
import { SocketLoop } from "../gateway/sockets/loop.ts";
import { openSockets } from "../gateway/sockets/native.ts";
import { thaw } from "../node/cgroup/control-files.ts";
import type { GatewayArguments } from "./gateways.ts";
import { collectWhenQuiet, ownCpuTimeUs } from "./quiet.ts";
import { rehearsalTurns, rehearse } from "./rehearsal.ts";

/** Lode itself has much to do in the first moments after its start. */
const rehearsalDelayMs = 1000;

/** Rare enough to cost an idle gateway nothing, often enough for the collector's own timers. */
const waitMsMax = 100;

/** The body of a gateway process: nothing of Lode but the gateway and its end of the wire. */
export function runGateway(text: string | undefined): void {
  if (text === undefined) throw new Error("LODE_GATEWAY is not set: lode starts gateways itself");
  const settings = JSON.parse(text) as GatewayArguments;
  const onProblem = (message: string) => console.error(message);
  const loop = new SocketLoop({
    ...{ clock: systemClock, waitMsMax },
    onProblem: (error) => onProblem(error instanceof Error ? String(error.stack) : String(error)),
  });
  const { clock } = loop;
  const sockets = openSockets(loop);
  const wire = connectWire({ socketPath: settings.socketPath, clock });
  const gateway = startGateway({
    ...{ id: settings.id, row: settings.row, loadTablePath: settings.loadTablePath },
    thaw: (instance) => thaw(settings.freezer, instance),
    ...{ plainDescriptors: settings.plainDescriptors, tlsDescriptors: settings.tlsDescriptors },
    ...{ wire, clock, random: systemRandom, sockets },
    accessLog: { directory: settings.logDirectory },
    onProblem,
  });
  const collect = () => Bun.gc(true);
  collectWhenQuiet(clock, ownCpuTimeUs, collect);
  void gateway.ready.then(() => {
    clock.after(rehearsalDelayMs, () => {
      rehearse({ clock, random: systemRandom, sockets }, rehearsalTurns, tmpdir())
        .then(collect)
        .catch((cause) => console.error(`the rehearsal failed: ${cause}`));
    });
  });
  // The terminal's Ctrl-C is lode's to act on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", async () => {
    await gateway.close();
    await wire.close();
    process.exit(0);
  });
}

if (import.meta.main) runGateway(process.env.LODE_GATEWAY);

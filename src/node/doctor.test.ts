import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { systemClock, systemRandom } from "../fabric/system.ts";
import { diagnose } from "./doctor.ts";

test("this machine is well, and looking leaves nothing behind", async () => {
  const tokens: string[] = [];
  const random = {
    ...systemRandom,
    token: (length: number) => {
      const token = systemRandom.token(length);
      tokens.push(token);
      return token;
    },
  };
  const options = { dataDirectory: `${tmpdir()}/lode-none/deep`, clock: systemClock, random };
  const found = await diagnose({ ...options, ports: [] });
  expect(found.filter(({ ok }) => !ok)).toEqual([]);
  expect(found.map(({ check }) => check)).toEqual([
    ...["root", "bwrap", "nft", "ip", "mkfs.btrfs", "user namespaces", "resolver"],
    ...["forwarding rules", "data directory", "cgroups", "disk of apps", "network", "sandbox"],
  ]);
  const [cloud] = tokens;
  const places = [...readdirSync("/sys/class/net"), ...readdirSync("/run")];
  expect(places.filter((name) => cloud !== undefined && name.includes(cloud))).toEqual([]);
}, 30_000);

test("a taken port is told with what to do", async () => {
  const server = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data: () => {} } });
  const options = { dataDirectory: "/tmp", clock: systemClock, random: systemRandom };
  const found = await diagnose({ ...options, ports: [server.port] });
  server.stop();
  const port = found.find(({ check }) => check === `port ${server.port}`);
  expect(port).toMatchObject({ ok: false, remedy: expect.stringContaining("another port") });
}, 30_000);

// The program that every peer runs: examples/hello on a unix socket or a port.
//   bun serve.ts unix:/path/to.sock | bun serve.ts 8080

import app from "../../examples/hello/index.ts";

const address = process.argv[2] ?? process.env["PORT"] ?? "8080";
if (address.startsWith("unix:")) Bun.serve({ unix: address.slice("unix:".length), ...app });
else Bun.serve({ port: Number(address), ...app });

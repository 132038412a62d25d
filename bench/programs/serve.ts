// The program that every peer runs by itself: examples/hello on a port.
//   bun serve.ts 8080

import app from "../../examples/hello/index.ts";

Bun.serve({ port: Number(process.argv[2] ?? process.env["PORT"] ?? "8080"), ...app });

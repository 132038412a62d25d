// A WebSocket chat: one fetch app with a page and Bun's WebSocket handlers. Open it twice.
//
//   lode deploy examples/chat

import type { Server, ServerWebSocket } from "bun";
import page from "./page.html" with { type: "text" };

interface Member {
  readonly name: string;
}

const room = "room";

export default {
  fetch(request: Request, server: Server<Member>): Response | undefined {
    const url = new URL(request.url);
    if (url.pathname === "/") {
      return new Response(String(page), { headers: { "content-type": "text/html" } });
    }
    if (url.pathname === "/room") {
      const name = url.searchParams.get("name")?.slice(0, 40) || "somebody";
      if (server.upgrade(request, { data: { name } })) return undefined;
      return new Response("This address speaks WebSocket.\n", { status: 426 });
    }
    return new Response("Not found\n", { status: 404 });
  },

  websocket: {
    open(socket: ServerWebSocket<Member>): void {
      socket.subscribe(room);
      socket.publish(room, `${socket.data.name} came in`);
      socket.send(`Welcome, ${socket.data.name}`);
    },
    message(socket: ServerWebSocket<Member>, text: string | Buffer): void {
      const line = `${socket.data.name}: ${text}`;
      socket.publish(room, line);
      socket.send(line);
    },
    close(socket: ServerWebSocket<Member>): void {
      socket.publish(room, `${socket.data.name} left`);
    },
  },
};

// The control on real sockets: the naive forwarder in the gateway's place, one back end.
import type { Socket } from "bun";
import { NaiveForwarder, type NaiveSocket } from "../naive.ts";

const appPort = Number(process.argv[2]);

const forwarder = new NaiveForwarder((handlers) => {
  let app: Socket | null = null;
  let before = "";
  void Bun.connect({
    hostname: "127.0.0.1",
    port: appPort,
    socket: {
      open(socket) {
        app = socket;
        socket.write(Buffer.from(before, "latin1"));
      },
      data: (_, bytes) => handlers.data(bytes.toString("latin1")),
      close: () => handlers.gone(),
    },
  });
  return {
    write(text) {
      if (app === null) before += text;
      else app.write(Buffer.from(text, "latin1"));
      return text.length;
    },
    terminate: () => app?.terminate(),
  };
});

const server = Bun.listen<NaiveSocket>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = {
        write: (text) => socket.write(Buffer.from(text, "latin1")),
        terminate: () => socket.terminate(),
      };
    },
    data: (socket, bytes) => forwarder.received(socket.data, bytes.toString("latin1")),
    close: (socket) => forwarder.left(socket.data),
  },
});
console.log(JSON.stringify({ port: server.port }));

// A hostile app on Bun: every probe is a native call from inside the runtime.
import { dlopen, ptr } from "bun:ffi";

const library = dlopen("./probe.so", {
  probe_run: { args: ["ptr", "ptr", "i32"], returns: "i32" },
});

export default {
  fetch(request: Request): Response {
    const url = new URL(request.url);
    const [id = "", ...words] = `${url.pathname.slice(1)}${url.search}`.split(/[?&]/);
    if (id === "") return new Response("ready\n");
    const line = Buffer.from(`${[id, ...words].join("\0")}\0\0`);
    const text = Buffer.alloc(65_536);
    const length = library.symbols.probe_run(ptr(line), ptr(text), text.length);
    return new Response(text.subarray(0, length));
  },
};

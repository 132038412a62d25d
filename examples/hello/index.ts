// The smallest app: a module whose default export has `fetch`. No configuration, no packages.
//
//   lode deploy examples/hello

export default {
  fetch(request: Request): Response {
    const name = new URL(request.url).searchParams.get("name") ?? "world";
    return new Response(`Hello, ${name}!\n`);
  },
};

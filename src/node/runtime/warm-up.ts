// fetch-shim.ts loads this while nobody waits, so that what Bun needs for reading, compiling and
// linking a module is there when the app's are loaded. It is of the kind that apps begin with, and
// nothing of it outlives its loading.

interface Shape {
  readonly name?: string;
}

const madeAt = performance.timeOrigin + performance.now();

class WarmUp {
  readonly shape: Shape = { name: `${madeAt}` };

  answer(request: Request | null): string {
    return request?.url ?? this.shape.name ?? "";
  }
}

const warmUp = new WarmUp();

export const app = {
  fetch: async (request: Request): Promise<Response> => new Response(warmUp.answer(request)),
};

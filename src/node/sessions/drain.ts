import { closeSync } from "node:fs";

/** Hands out what comes, until the other side has closed or `stop` is called. */
export function drain(
  descriptor: number,
  received: (chunk: Uint8Array) => void,
): { readonly ended: Promise<void>; stop(): void } {
  const reader = Bun.file(descriptor).stream().getReader();
  const run = async (): Promise<void> => {
    for (;;) {
      const next = await reader.read();
      if (next.done) break;
      received(next.value);
    }
  };
  const ended = run()
    .catch(() => {})
    .finally(() => closeSync(descriptor));
  return { ended, stop: () => void reader.cancel() };
}

/** What travels between a rig's host and its machine: one JSON object on each line. */
export type ToGuest =
  | {
      readonly kind: "run";
      readonly id: number;
      readonly command: readonly string[];
      readonly cwd: string;
      readonly env: Readonly<Record<string, string>>;
      /** In base64; null: no input. */
      readonly stdin: string | null;
    }
  /** SIGKILL to the command and its session. */
  | { readonly kind: "end"; readonly id: number };

export type FromGuest =
  | { readonly kind: "ready" }
  | {
      readonly kind: "output";
      readonly id: number;
      readonly stream: "stdout" | "stderr";
      readonly base64: string;
    }
  | { readonly kind: "exit"; readonly id: number; readonly code: number }
  /** The command could not be started. */
  | { readonly kind: "refused"; readonly id: number; readonly reason: string };

export async function* readLines(stream: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

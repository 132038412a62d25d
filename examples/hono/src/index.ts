// A Hono app as its own template makes it: the default export has `fetch`, so Lode serves it
// and it sleeps when nobody asks. Dependencies are installed from package-lock.json.
//
//   lode deploy examples/hono

import { Hono } from "hono";
import { streamSSE } from "hono/streaming";

interface Note {
  readonly id: number;
  readonly text: string;
}

const notes: Note[] = [];
const app = new Hono();

app.get("/", (context) => context.text("Hono on Lode. Try GET and POST /notes, GET /clock.\n"));

app.get("/notes", (context) => context.json(notes));

app.post("/notes", async (context) => {
  const body: unknown = await context.req.json().catch(() => null);
  const text = typeof body === "object" && body !== null && "text" in body ? body.text : null;
  if (typeof text !== "string" || text === "") {
    return context.json({ error: 'send JSON like {"text": "…"}' }, 400);
  }
  const note: Note = { id: notes.length + 1, text };
  notes.push(note);
  return context.json(note, 201);
});

app.get("/clock", (context) =>
  streamSSE(context, async (stream) => {
    for (let tick = 1; tick <= 5; tick++) {
      await stream.writeSSE({ id: String(tick), data: new Date().toISOString() });
      await stream.sleep(200);
    }
  }),
);

export default app;

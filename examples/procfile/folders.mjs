// The queue is two folders: web writes into one, the worker moves results to the other.
import { join } from "node:path";

export const waiting = join(process.env.HOME, "waiting");
export const done = join(process.env.HOME, "done");

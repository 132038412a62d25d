// The app beside: it has secrets, and must not notice.
import { writeFileSync } from "node:fs";

writeFileSync("/data/secret", "the neighbour's\n");

export default { fetch: () => new Response("well\n") };

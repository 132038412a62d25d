// What both echo servers do with a request that they saw: judge it, count it, describe it.
import { createHash } from "node:crypto";

/** Ids as the gateway (or the control in its place) gives them: nobody else knows the next. */
const idForm = /^g0-[a-z0-9]+-[a-z0-9]+$/;
const seen = new Set();
const problems = [];
let count = 0;

/** Notes a request whose body has ended; returns what its answer says of it. */
export function witness(method, url, id, body) {
  count += 1;
  const fault =
    typeof id !== "string" || !idForm.test(id)
      ? "a request that did not come from the gateway"
      : seen.has(id)
        ? "a request seen twice"
        : null;
  seen.add(id);
  if (fault !== null && problems.length < 100) problems.push(`${fault}: ${method} ${url} ${id}`);
  const hash = createHash("sha1").update(body).digest("hex").slice(0, 12);
  const text = JSON.stringify({ method, url, length: body.length, hash });
  return Buffer.from(text).toString("base64url");
}

export const report = () => JSON.stringify({ count, problems });

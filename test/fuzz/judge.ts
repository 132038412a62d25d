import type { Received } from "./app.ts";
import { quote } from "./app.ts";
import { type Expectation, type Expected, expectationOf, messageFault } from "./expect.ts";
import { appHost } from "./memory-gateway.ts";
import { type Answer, type AnswerRead, type Request, readAnswer, valuesOf } from "./twin.ts";
import type { Outcome } from "./world.ts";

/** What is judged, and what of it happened; for the page. */
export interface Judgement {
  readonly faults: readonly string[];
  readonly forwarded: number;
  readonly refused: boolean;
}

const isOf =
  ({ method, target }: Request) =>
  ({ request }: Received) =>
    request.method === method && request.target === target;

/** Judges one case: what the app saw and the client was told, against the twin. */
export function judge(sent: string, outcome: Outcome, early: boolean): Judgement {
  const received = outcome.lines.flatMap((line) => line.received).sort((a, b) => a.order - b.order);
  const expectation = expectationOf(
    sent,
    (host) => host === appHost,
    // Of a body that was answered early the rest need not arrive: others follow on its place.
    (index, request) => (early ? received.find(isOf(request)) : received[index]),
  );
  const faults = [...outcome.problems];
  const forwarded = expectation.messages.filter((message) => message.forwarded);
  // An answer before the body's end may end the connection: nothing need follow.
  if (received.length !== forwarded.length && !early) {
    faults.push(`the app saw ${received.length} requests, not ${forwarded.length}`);
  }
  if (received.length > forwarded.length) faults.push("the app saw more than was sent");
  let next = 0;
  for (const [index, seen] of received.entries()) {
    // The rest of a body that was answered early need not arrive.
    const isSent = (message: Expected) => messageFault(message, seen) === null;
    while (early && next < forwarded.length && !isSent(forwarded[next] as Expected)) next += 1;
    const expected = forwarded[next];
    next += 1;
    const fault = expected === undefined ? "it was never sent" : messageFault(expected, seen);
    if (fault !== null) faults.push(`request ${index}: ${fault}`);
  }
  if (early) faults.push(...earlyFaults(expectation, outcome));
  else faults.push(...answerFaults(expectation, outcome, received));
  if (!early && expectation.tail.kind === "tunnel") {
    const passed = outcome.lines.find((line) => line.tunnel !== null)?.tunnel;
    const wanted = sent.slice(expectation.tail.from);
    if (passed !== wanted) faults.push(`the tunnel carried ${quote(passed ?? "nothing")}`);
  }
  const refused = expectation.tail.kind === "badHead" || expectation.tail.kind === "badBody";
  return { faults, forwarded: received.length, refused };
}

const asked = (expected: Expected) => ({
  method: expected.request.method,
  upgrade: expected.request.upgrade,
});

function answerFaults(
  expectation: Expectation,
  outcome: Outcome,
  received: readonly Received[],
): string[] {
  const { textBefore: text } = outcome;
  const faults: string[] = [];
  let at = 0;
  let index = 0;
  for (const message of expectation.messages) {
    const read = readAnswer(text, at, asked(message));
    if (read.kind !== "answer") {
      faults.push(
        `no answer to ${message.request.target}: ${read.kind} in ${quote(text.slice(at))}`,
      );
      return faults;
    }
    const seen = message.forwarded ? received[index] : undefined;
    if (message.forwarded) index += 1;
    const fault = oneAnswerFault(message, seen, read, read.answer);
    if (fault !== null) faults.push(`answer to ${message.request.target}: ${fault}`);
    at = read.answer.end;
  }
  faults.push(...tailFaults(expectation, outcome, at));
  return faults;
}

function oneAnswerFault(
  message: Expected,
  seen: Received | undefined,
  read: AnswerRead,
  answer: Answer,
): string | null {
  if (!message.forwarded) {
    return answer.status === 404 ? null : `status ${answer.status} where no app is served`;
  }
  if (seen === undefined) return "the app did not see it";
  if (answer.body !== seen.answered) return `another's: ${quote(answer.body)}`;
  if (message.request.minorVersion === 1) return null;
  if (read.interims.length > 0) return "HTTP/1.0 knows no interim answers";
  return answer.framing === "chunked" ? "HTTP/1.0 knows no chunks" : null;
}

/** What follows the last whole message's answer. */
function tailFaults({ tail }: Expectation, outcome: Outcome, at: number): string[] {
  const rest = outcome.textBefore.slice(at);
  switch (tail.kind) {
    case "open":
    case "halfHead":
      if (rest !== "" || outcome.closedBefore)
        return [`an answer nobody asked for: ${quote(rest)}`];
      return timeoutFaults(outcome, tail.kind === "halfHead");
    case "closed":
      if (rest !== "") return [`more than the last answer: ${quote(rest)}`];
      return outcome.closedBefore ? [] : ["it stayed open"];
    case "tunnel":
      return rest === "" ? [] : [`the tunnel gave ${quote(rest)}`];
    case "halfBody":
      if (rest !== "" && !/^HTTP\/1\.1 10[03] .*\r\n\r\n$/s.test(rest)) {
        return [`an answer to half a request: ${quote(rest)}`];
      }
      return timeoutFaults(outcome, true);
    default: {
      const status = tail.kind === "badHead" ? tail.status : 400;
      const last = readAnswer(rest, 0, { method: "GET", upgrade: null });
      const isHead = tail.kind === "badBody" && tail.request.method === "HEAD";
      const code =
        last.kind === "malformed" ? 0 : (last.kind === "answer" ? last.answer : last.head)?.status;
      if (code !== status || (last.kind !== "answer" && !isHead)) {
        return [`refused with ${quote(rest)}, not ${status}`];
      }
      if (last.kind === "answer" && last.answer.end !== rest.length) return ["more than a refusal"];
      return outcome.closedBefore ? [] : ["it stayed open after a refusal"];
    }
  }
}

/** A silent client: what was begun is answered by 408, an idle connection just ends. */
function timeoutFaults(outcome: Outcome, begun: boolean): string[] {
  const told = outcome.text.slice(outcome.textBefore.length);
  if (told === "") return [];
  return begun && told.startsWith("HTTP/1.1 408 ") ? [] : [`at the end: ${quote(told)}`];
}

/**
 * The app may have answered first: each answer must still be one of its own, whole, or visibly
 * broken off; or a page, but never a page within an answer.
 */
function earlyFaults(expectation: Expectation, outcome: Outcome): string[] {
  const { text } = outcome;
  const made = outcome.lines.flatMap((line) => line.made).sort((a, b) => a.order - b.order);
  let at = 0;
  let index = 0;
  for (const message of expectation.messages) {
    if (at === text.length) return [];
    const read = readAnswer(text, at, asked(message));
    if (read.kind === "malformed") return [`a malformed answer: ${quote(text.slice(at))}`];
    if (read.kind === "more") return outcome.cut ? [] : ["an answer ends early, but not abruptly"];
    const { answer } = read;
    const isPage = valuesOf(answer.fields, "x-request-id").length === 1;
    if (!isPage) {
      if (answer.body !== made[index]?.body) return [`another's: ${quote(text.slice(at))}`];
      index += 1;
    }
    at = answer.end;
  }
  return lastEarlyFaults(expectation, text.slice(at), outcome, made[index]?.body ?? null);
}

/** The answer to a request whose body never ended well. */
function lastEarlyFaults(
  { tail }: Expectation,
  rest: string,
  outcome: Outcome,
  body: string | null,
): string[] {
  if (rest === "") return [];
  const request = tail.kind === "halfBody" || tail.kind === "badBody" ? tail.request : null;
  const { method, upgrade } = request ?? { method: "GET", upgrade: null };
  const read = readAnswer(rest, 0, { method, upgrade });
  if (read.kind === "malformed") return [`a malformed answer: ${quote(rest)}`];
  if (read.kind === "more") {
    const head = method === "HEAD" && read.head !== null;
    return outcome.cut || head || read.head === null ? [] : [`broken off: ${quote(rest)}`];
  }
  if (tail.kind === "tunnel" || method === "HEAD") return [];
  const { answer } = read;
  if (answer.end !== rest.length) return [`more after the answer: ${quote(rest)}`];
  if (request === null) return [];
  const isPage = valuesOf(answer.fields, "x-request-id").length === 1;
  return isPage || answer.body === body ? [] : [`a wrong answer: ${quote(rest)}`];
}

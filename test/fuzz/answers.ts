// The other side: the app's answers are mutated, and clients must get them whole, or be told.

import { type Answerer, type AnswerPiece, answerWell, quote } from "./app.ts";
import type { Seed } from "./corpus.ts";
import { appHost } from "./memory-gateway.ts";
import { cutAnywhere, mutatedAnswer } from "./mutate.ts";
import { Dice } from "./random.ts";
import type { Sum } from "./requests.ts";
import { type Answer, type AnswerRead, type Field, readAnswer, roomy, valuesOf } from "./twin.ts";
import type { Outcome, World } from "./world.ts";

interface Asked {
  readonly method: string;
  readonly upgrade: string | null;
  readonly old: boolean;
}

/** What the app says to the first request of a case. */
interface Said {
  readonly text: string;
  /** It ends the connection then; else it says nothing more. */
  readonly fin: boolean;
}

const hop = /^(?:connection|upgrade|keep-alive|proxy-connection|http2-settings)$/;
const neverNominated = /^(?:host|content-length|transfer-encoding|te|close|keep-alive|upgrade|)$/;

/** The fields of an answer that may reach the client, but for those of framing. */
function passedBack(fields: readonly Field[]): readonly Field[] {
  const nominated = valuesOf(fields, "connection").flatMap((list) =>
    list.split(",").map((option) => option.trim().toLowerCase()),
  );
  return fields.filter(([, , name]) => {
    if (hop.test(name) || name === "transfer-encoding") return false;
    return neverNominated.test(name) || !nominated.includes(name);
  });
}

const pageOf = (read: AnswerRead, status: number): boolean =>
  read.kind === "answer" &&
  read.answer.status === status &&
  valuesOf(read.answer.fields, "x-request-id").length === 1;

function wholeFault(said: Answer, interims: readonly number[], told: AnswerRead): string | null {
  if (told.kind !== "answer") return `the client has ${told.kind}, the app sent all`;
  const { answer } = told;
  if (answer.status !== said.status) return `status ${answer.status}, not ${said.status}`;
  if (answer.body !== said.body) return `body ${quote(answer.body)}, not ${quote(said.body)}`;
  const passed = JSON.stringify(passedBack(said.fields));
  if (JSON.stringify(passedBack(answer.fields)) !== passed) return `fields, not ${passed}`;
  const wanted = interims.filter((status) => status !== 100);
  return told.interims.join() === wanted.join() ? null : `interim ${told.interims.join()}`;
}

/** A client must be able to tell that this is not all. */
function brokenFault(
  outcome: Outcome,
  told: AnswerRead,
  body: string,
  old: boolean,
): string | null {
  if (pageOf(told, 502)) return null;
  if (!outcome.cut) return "it is broken, and the client was not cut off";
  // Nothing but an abrupt end tells HTTP/1.0.
  if (old) return null;
  if (told.kind === "answer") return "it is broken, and what the client has looks whole";
  if (told.kind === "malformed") return "the client was sent what is malformed";
  return body.startsWith(told.head?.body ?? "") ? null : "the client has other bytes";
}

function firstAnswerFault(
  said: Said,
  asked: Asked,
  outcome: Outcome,
  told: AnswerRead,
): string | null {
  const read = readAnswer(said.text, 0, asked);
  if (read.kind === "malformed") {
    if (read.inBody) return brokenFault(outcome, told, "", asked.old);
    return pageOf(told, 502) ? null : `malformed, and the client has ${told.kind}`;
  }
  if (read.kind === "more") {
    if (!said.fin)
      return told.kind === "more" || asked.old ? null : `half, and the client has ${told.kind}`;
    if (read.head === null) return pageOf(told, 502) ? null : "half a head was passed on";
    return brokenFault(outcome, told, "", asked.old);
  }
  const { answer } = read;
  if (answer.status === 101) return null;
  if (answer.framing === "close" && !said.fin) {
    return told.kind === "more" || asked.old ? null : "it ended before the app did";
  }
  const { old } = asked;
  if (old && told.kind === "answer" && told.interims.length > 0) return "interims to HTTP/1.0";
  return wholeFault(answer, old ? [] : read.interims, told);
}

function secondAnswerFault(outcome: Outcome, told: AnswerRead): string | null {
  if (told.kind !== "answer") return outcome.closedBefore ? null : "the next is never answered";
  const next = readAnswer(outcome.textBefore, told.answer.end, { method: "GET", upgrade: null });
  if (next.kind !== "answer") {
    const rest = outcome.textBefore.slice(told.answer.end);
    return outcome.closedBefore && rest === "" ? null : `after it comes ${quote(rest)}`;
  }
  const last = outcome.lines
    .flatMap((line) => line.made)
    .sort((a, b) => a.order - b.order)
    .at(-1);
  if (next.answer.body !== last?.body) return `the next gets another's: ${quote(next.answer.body)}`;
  const rest = outcome.textBefore.slice(next.answer.end);
  return rest === "" ? null : `more than two answers: ${quote(rest)}`;
}

/**
 * What an app sends behind a whole answer comes with its last byte: later, when the connection
 * may serve another request, no proxy could tell it from that one's answer.
 */
export function piecesOf(
  { text, fin }: Said,
  asked: Pick<Asked, "method" | "upgrade">,
): AnswerPiece[] {
  const read = readAnswer(text, 0, asked);
  const end = read.kind === "answer" ? read.answer.end : text.length;
  const cut = end < text.length ? end - 1 : text.length;
  const pieces: AnswerPiece[] = [];
  if (cut > 0) pieces.push({ bytes: text.slice(0, cut) });
  if (cut < text.length) pieces.push({ bytes: text.slice(cut), whole: true });
  if (fin) pieces.push({ fin: true });
  return pieces;
}

/** Case `index` of the run with this seed. */
export function runAnswerCase(
  world: World,
  corpus: readonly Seed[],
  seed: number,
  index: number,
  sum: Sum,
): void {
  const dice = Dice.of(seed, index);
  const said = {
    text: mutatedAnswer(dice, corpus).replaceAll("{host}", appHost),
    fin: dice.once(2),
  };
  const old = dice.once(10);
  const upgrades = !old && dice.once(20);
  const method = dice.pick(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]);
  const head = `${method} /first HTTP/1.${old ? 0 : 1}\r\nHost: ${appHost}\r\n`;
  const upgrade = upgrades ? "Connection: upgrade\r\nUpgrade: chat\r\n" : "";
  const second = old ? "" : `GET /second HTTP/1.1\r\nHost: ${appHost}\r\n\r\n`;
  const asked = { method, upgrade: upgrades ? "chat" : null, old };
  const answer: Answerer = (request, own) => {
    if (request.target !== "/first") return answerWell(request, own);
    return { pieces: piecesOf(said, asked), body: null };
  };
  const sent = `${head}${upgrade}\r\n${second}`;
  const outcome = world.run({
    ...{ dice, answer, early: false, silent: dice.once(16), watcher: null },
    chunks: cutAnywhere(Buffer.from(sent, "latin1"), dice),
  });
  const told = readAnswer(outcome.textBefore, 0, asked, roomy);
  const faults = [...outcome.problems];
  const first = firstAnswerFault(said, asked, outcome, told);
  if (first !== null) faults.push(`answered ${quote(said.text)}, fin ${said.fin}: ${first}`);
  const goesOn =
    told.kind === "answer" && told.answer.status !== 101 && told.answer.framing !== "close";
  const nextFault = goesOn && !old ? secondAnswerFault(outcome, told) : null;
  if (nextFault !== null) faults.push(`answered ${quote(said.text)}: ${nextFault}`);
  sum.cases += 1;
  sum.requests += 1;
  if (pageOf(told, 502)) sum.refused += 1;
  else sum.forwarded += 1;
  if (faults.length > 0) {
    sum.findings.push({
      index,
      sent,
      faults: [...faults, `the client has ${quote(outcome.text)}`],
    });
  }
}

/**
 * The header fields a gateway must know. All others pass through untouched and unread.
 *
 * `drop` marks what never crosses the gateway in either direction as it came: hop-by-hop fields
 * (RFC 9110 7.6.1) and, in requests, fields by which a client could pretend to be the gateway.
 */
export const fieldId = {
  other: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  upgrade: 5,
  expect: 6,
  te: 7,
  keepAlive: 8,
  userAgent: 9,
  accept: 10,
  /** Hop-by-hop without a meaning here: proxy-connection, http2-settings. */
  hop: 11,
  /** Fields only the gateway may set in a request. */
  forwarded: 12,
  trailer: 13,
  /** In a trailer section these are refused (RFC 9110 6.5.1). */
  sensitive: 14,
  /** What an app tells of its load and costs (ORCA); for the gateway alone. */
  cost: 15,
  /** The number of ids. */
  count: 16,
} as const;

const names: Readonly<Record<string, number>> = {
  host: fieldId.host,
  "content-length": fieldId.contentLength,
  "transfer-encoding": fieldId.transferEncoding,
  connection: fieldId.connection,
  upgrade: fieldId.upgrade,
  expect: fieldId.expect,
  te: fieldId.te,
  "keep-alive": fieldId.keepAlive,
  "user-agent": fieldId.userAgent,
  accept: fieldId.accept,
  "proxy-connection": fieldId.hop,
  "http2-settings": fieldId.hop,
  forwarded: fieldId.forwarded,
  "x-request-id": fieldId.forwarded,
  "x-real-ip": fieldId.forwarded,
  // A CGI-like server turns this one into the variable HTTP_PROXY.
  proxy: fieldId.forwarded,
  trailer: fieldId.trailer,
  authorization: fieldId.sensitive,
  cookie: fieldId.sensitive,
  "set-cookie": fieldId.sensitive,
  "content-type": fieldId.sensitive,
  "content-encoding": fieldId.sensitive,
  "content-range": fieldId.sensitive,
  "proxy-authorization": fieldId.sensitive,
  "endpoint-load-metrics": fieldId.cost,
  "endpoint-load-metrics-json": fieldId.cost,
  "endpoint-load-metrics-bin": fieldId.cost,
  "orca-load-metrics": fieldId.cost,
};

interface KnownName {
  readonly bytes: Uint8Array;
  readonly id: number;
}

/** Any name with this prefix is the gateway's to set. */
const forwardedPrefix = bytesOf("x-forwarded-");

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

const lengthsKnown = 32;

/** By length and first letter: most fields are known to be unknown after one look. */
const knownBySlot: readonly (readonly KnownName[] | undefined)[] = Array.from(
  { length: lengthsKnown * 32 },
  (_, slot) => {
    const known = Object.entries(names)
      .filter(([name]) => slotOf(name.length, name.charCodeAt(0)) === slot)
      .map(([name, id]) => ({ bytes: bytesOf(name), id }));
    return known.length === 0 ? undefined : known;
  },
);

/** @param first upper and lower case are the same here, as in `matches`. */
function slotOf(length: number, first: number): number {
  return length * 32 + (first & 0x1f);
}

/** The name's bytes must all lie in the buffer. */
function matches(buffer: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let index = 0; index < name.length; index += 1) {
    // Setting bit 5 lowers letters; the only other token bytes it changes are not in any name.
    if (((buffer[start + index] as number) | 0x20) !== name[index]) return false;
  }
  return true;
}

/** The id of the field name in [start, end), without regard to case. */
export function identifyField(buffer: Uint8Array, start: number, end: number): number {
  const length = end - start;
  const known =
    length < lengthsKnown ? knownBySlot[slotOf(length, buffer[start] as number)] : undefined;
  if (known !== undefined) {
    for (let index = 0; index < known.length; index += 1) {
      const candidate = known[index] as KnownName;
      if (matches(buffer, start, candidate.bytes)) return candidate.id;
    }
  }
  if (length > forwardedPrefix.length && matches(buffer, start, forwardedPrefix)) {
    return fieldId.forwarded;
  }
  return fieldId.other;
}

/**
 * The id a server that maps `_` and `-` to one another (WSGI, CGI) would see, so that
 * `X_Forwarded_For` cannot slip past.
 */
export function identifyUnderscored(buffer: Buffer, start: number, end: number): number {
  const name = buffer.toString("latin1", start, end).replaceAll("_", "-");
  return identifyField(bytesOf(name), 0, name.length);
}

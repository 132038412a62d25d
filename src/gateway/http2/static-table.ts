/**
 * A header field as it was decoded. Fields of a table are met again and again, so what a reader
 * found out about one can stay with it.
 */
export class HeaderField {
  readonly name: string;
  readonly value: string;
  /** The reader's; null: not looked at yet. */
  note: unknown = null;

  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
  }

  /** As RFC 7541 4.1 and RFC 9113 6.5.2 count it, in bytes. */
  get size(): number {
    return this.name.length + this.value.length + 32;
  }
}

/** RFC 7541 appendix A, from index 1 on; `name=value`, or a name alone. */
const entries =
  ":authority;:method=GET;:method=POST;:path=/;:path=/index.html;:scheme=http;:scheme=https;" +
  ":status=200;:status=204;:status=206;:status=304;:status=400;:status=404;:status=500;" +
  "accept-charset;accept-encoding=gzip, deflate;accept-language;accept-ranges;accept;" +
  "access-control-allow-origin;age;allow;authorization;cache-control;content-disposition;" +
  "content-encoding;content-language;content-length;content-location;content-range;" +
  "content-type;cookie;date;etag;expect;expires;from;host;if-match;if-modified-since;" +
  "if-none-match;if-range;if-unmodified-since;last-modified;link;location;max-forwards;" +
  "proxy-authenticate;proxy-authorization;range;referer;refresh;retry-after;server;set-cookie;" +
  "strict-transport-security;transfer-encoding;user-agent;vary;via;www-authenticate";

/** Index 1 of RFC 7541 is the first. */
export const staticTable: readonly HeaderField[] = entries.split(";").map((entry) => {
  const [name = "", value = ""] = entry.split("=");
  return new HeaderField(name, value);
});

/** The gateway's own lines of a request's head, the same for every request to one authority. */
export class ForwardedLines {
  private readonly common: string;
  private authority: string | null = null;
  private lines: Buffer = Buffer.alloc(0);

  constructor(address: string, scheme: "http" | "https") {
    this.common = `X-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${scheme}\r\n`;
  }

  /** Whole lines, and then the name of the request id's field. */
  of(authority: string): Buffer {
    if (authority !== this.authority) {
      this.authority = authority;
      const text = `${this.common}X-Forwarded-Host: ${authority}\r\nX-Request-Id: `;
      this.lines = Buffer.from(text, "latin1");
    }
    return this.lines;
  }
}

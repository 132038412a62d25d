/** The gateway's own lines of a request's head, the same for every request to one authority. */
export class ForwardedLines {
  private readonly common: string;
  private authority: string | null = null;
  /** A string: one small buffer would keep its pool's whole page for an idle connection. */
  private lines = "";

  constructor(address: string, scheme: "http" | "https") {
    this.common = `X-Forwarded-For: ${address}\r\nX-Forwarded-Proto: ${scheme}\r\n`;
  }

  /** Whole lines, and then the name of the request id's field. */
  of(authority: string): string {
    if (authority !== this.authority) {
      this.authority = authority;
      this.lines = `${this.common}X-Forwarded-Host: ${authority}\r\nX-Request-Id: `;
    }
    return this.lines;
  }
}

/** Classes of bytes in HTTP/1.1 messages (RFC 9110 5.6.2, RFC 9112), one table look-up each. */
export const tokenByte = 1;
export const valueByte = 2;
export const targetByte = 4;
export const extensionByte = 8;

function makeClasses(): Uint8Array {
  const classes = new Uint8Array(256);
  const mark = (byte: number, bit: number) => {
    classes[byte] = (classes[byte] ?? 0) | bit;
  };
  const tokens = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  for (const character of tokens) mark(character.charCodeAt(0), tokenByte);
  for (let byte = 0x20; byte < 256; byte += 1) if (byte !== 0x7f) mark(byte, valueByte);
  mark(0x09, valueByte);
  for (let byte = 0x21; byte < 256; byte += 1) {
    if (byte !== 0x7f && byte !== 0x23) mark(byte, targetByte);
  }
  for (let byte = 0x20; byte < 0x7f; byte += 1) mark(byte, extensionByte);
  mark(0x09, extensionByte);
  return classes;
}

export const byteClasses: Uint8Array = makeClasses();

export const carriageReturn = 0x0d;
export const lineFeed = 0x0a;
export const space = 0x20;
export const tab = 0x09;
export const colon = 0x3a;
export const semicolon = 0x3b;
export const underscore = 0x5f;

/** The value of a hexadecimal digit, or -1. */
export function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  if (lower >= 0x61 && lower <= 0x66) return lower - 0x57;
  return -1;
}

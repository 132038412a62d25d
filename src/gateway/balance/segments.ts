/** Deeper paths are cut there, the rest being one folded segment. */
export const depthMax = 8;
/** A segment of more characters is somebody's id, name or text. */
const literalLengthMax = 32;
const hexLengthMin = 8;

/** The segments of a path; a last `/` is not one. */
export function pathSegments(path: string): readonly string[] {
  const segments: string[] = [];
  let start = path.charCodeAt(0) === 0x2f ? 1 : 0;
  while (start < path.length) {
    if (segments.length === depthMax - 1 && path.indexOf("/", start) >= 0) {
      segments.push("{}");
      break;
    }
    const slash = path.indexOf("/", start);
    const end = slash < 0 ? path.length : slash;
    if (end > start) segments.push(path.slice(start, end));
    start = end + 1;
  }
  return segments;
}

/** Numbers, UUIDs and other hexadecimal ids, dates, and whatever is long. */
export function foldsAlways(segment: string): boolean {
  if (segment.length > literalLengthMax) return true;
  let digits = 0;
  let dashes = 0;
  for (let index = 0; index < segment.length; index += 1) {
    const code = segment.charCodeAt(index);
    const lower = code | 0x20;
    if (code >= 0x30 && code <= 0x39) digits += 1;
    else if (code === 0x2d) dashes += 1;
    else if (lower < 0x61 || lower > 0x66) return false;
  }
  if (digits === 0) return false;
  return digits + dashes === segment.length || segment.length >= hexLengthMin;
}

import { err, ok, type Result } from "../../base/result.ts";
import { errorCode, frameBytesMax, setting, windowBytesMax } from "./frames.ts";

const settingBytes = 6;
const frameBytesMaxMost = 0xff_ffff;

/**
 * Checks a SETTINGS frame's payload (RFC 9113 6.5.2). What only limits what this side never
 * does, as pushing or keeping a table for its header blocks, is not looked at further.
 *
 * @returns the initial window of streams, null if it is not said; or the connection's error.
 */
export function readSettings(
  buffer: Buffer,
  start: number,
  end: number,
): Result<number | null, number> {
  if ((end - start) % settingBytes !== 0) return err(errorCode.frameSizeError);
  let initialWindow: number | null = null;
  for (let at = start; at < end; at += settingBytes) {
    const value = buffer.readUInt32BE(at + 2);
    switch (buffer.readUInt16BE(at)) {
      case setting.enablePush:
      case setting.enableConnect:
        if (value > 1) return err(errorCode.protocolError);
        break;
      case setting.initialWindow:
        if (value > windowBytesMax) return err(errorCode.flowControlError);
        initialWindow = value;
        break;
      case setting.frameBytesMax:
        if (value < frameBytesMax || value > frameBytesMaxMost) return err(errorCode.protocolError);
        break;
      default:
    }
  }
  return ok(initialWindow);
}

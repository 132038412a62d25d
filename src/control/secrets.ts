import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { chmodSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { err, ok, type Result } from "../base/result.ts";

/** Seals texts at rest: AES-256-GCM, base64 of nonce ‖ ciphertext ‖ tag. */
export interface SecretBox {
  seal(text: string): string;
  /** Throws when the text was not sealed with this key, or was changed. */
  open(sealed: string): string;
}

const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

export function secretBoxOf(key: Uint8Array): SecretBox {
  return {
    seal(text) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", key, nonce);
      const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return Buffer.concat([nonce, body, cipher.getAuthTag()]).toString("base64");
    },
    open(sealed) {
      const bytes = Buffer.from(sealed, "base64");
      const nonce = bytes.subarray(0, nonceBytes);
      const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: tagBytes });
      decipher.setAuthTag(bytes.subarray(bytes.length - tagBytes));
      const body = bytes.subarray(nonceBytes, bytes.length - tagBytes);
      return Buffer.concat([decipher.update(body), decipher.final()]).toString("utf8");
    },
  };
}

/**
 * The box whose key lies in `path` (mode 0600), made on first use. The key is written aside
 * and linked into place, so that a crash leaves a whole key or none and two starters agree.
 */
export function openSecretBox(path: string): Result<SecretBox, string> {
  try {
    return readKey(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") return err(unreadable(path, error));
  }
  const aside = `${path}.${process.pid}.new`;
  try {
    writeFileSync(aside, randomBytes(keyBytes), { mode: 0o600, flag: "wx", flush: true });
    chmodSync(aside, 0o600);
    try {
      linkSync(aside, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    return readKey(path);
  } catch (error) {
    return err(unreadable(path, error));
  } finally {
    rmSync(aside, { force: true });
  }
}

function readKey(path: string): Result<SecretBox, string> {
  const key = readFileSync(path);
  if (key.length !== keyBytes) {
    return err(`${path} is not a key: it has ${key.length} bytes instead of ${keyBytes}`);
  }
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  return ok(secretBoxOf(key));
}

function unreadable(path: string, error: unknown): string {
  return `the key of the secrets in ${path}: ${error instanceof Error ? error.message : error}`;
}

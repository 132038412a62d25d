import { chmod, open, readFile, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/** What the file holds, whose mode is made 0600; null if there is none. */
export async function readSecret(path: string): Promise<string | null> {
  try {
    await chmod(path, 0o600);
    return (await readFile(path, "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Replaces the file in one step, durably, with mode 0600 from its first moment. */
export async function writeSecret(path: string, secret: string): Promise<void> {
  const temporary = `${path}.new`;
  await unlink(temporary).catch(() => {});
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(`${secret}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

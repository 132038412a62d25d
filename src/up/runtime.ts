/** True inside `dist/lode`: Bun's virtual root holds the files of a compiled executable. */
export function isCompiled(): boolean {
  return Bun.main.startsWith("/$bunfs/");
}

/** How this program is called again, for a systemd unit and for messages. */
export function ownCommand(): readonly string[] {
  return isCompiled() ? [process.execPath] : [process.execPath, Bun.main];
}

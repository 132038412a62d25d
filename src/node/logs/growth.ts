import { type FSWatcher, statSync, watch } from "node:fs";
import type { Clock, Timer } from "../../base/time.ts";

// Tells when a file has grown, at a cost that does not depend on how fast it grows:
//
//     armed (one inotify watch) —first write→ looking (every 200 ms) —no growth→ armed
//
// A quiet file costs nothing, a flooded one five stat calls a second. Events are never
// trusted for more than "look now": after arming, the size is looked at once more.

const lookMs = 200;

export interface Growth {
  /** Looks at once, for a reader that wants what is there now. */
  look(): void;
  close(): void;
}

/** Calls back with the file's size, when it has grown and once at the beginning. */
export function watchGrowth(path: string, clock: Clock, grown: (size: number) => void): Growth {
  let watcher: FSWatcher | null = null;
  let timer: Timer | null = null;
  let lastSize = -1;
  let closed = false;

  function look(): boolean {
    let size: number;
    try {
      size = statSync(path).size;
    } catch {
      return false;
    }
    if (size === lastSize) return false;
    lastSize = size;
    grown(size);
    return true;
  }

  function disarm(): void {
    watcher?.close();
    watcher = null;
    timer?.cancel();
    timer = null;
  }

  function lookAgain(): void {
    disarm();
    if (closed) return;
    timer = clock.after(lookMs, () => (look() ? lookAgain() : arm()));
  }

  function arm(): void {
    disarm();
    if (closed) return;
    try {
      watcher = watch(path, { persistent: false }, () => {
        look();
        lookAgain();
      });
    } catch {
      // Removed, or the user's inotify watches are used up: look now and then instead.
      lookAgain();
      return;
    }
    watcher.on("error", lookAgain);
    if (look()) lookAgain();
  }

  arm();
  return {
    look,
    close() {
      closed = true;
      disarm();
    },
  };
}

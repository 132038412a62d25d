import { ptr } from "bun:ffi";
import { closeSync, openSync, readFileSync, realpathSync, statSync } from "node:fs";
import type { Clock, Timer } from "../../base/time.ts";
import { attempt, cString, describe, libc, must } from "../linux/libc.ts";

// bubblewrap copies the host's mounts and reads the list of them for each mount of its own, so
// every mount of the host costs a launch 0.05 ms of CPU; a host with containers has a hundred.
// Launches therefore happen in a mount namespace of what sandboxes are shown and nothing else;
// so it also keeps nobody from unmounting other disks:
//
//   absent —a launch—→ planned —a moment later→ current
//                         ↑                        │ the host's mounts changed (asked at
//                         └────────────────────────┘ every launch)
//
// In any other state than `current`, and with a bind of something else, a launch takes the host's
// mounts as they are: it is slower and otherwise the same. A thread may only change its mount namespace when it shares its working
// directory with no other. It does with each that it starts, so it takes one of its own whenever
// it goes or comes back.

const newNamespace = 0x2_0000;
const ownWorkingDirectory = 0x200;
const ownNamespace = "/proc/thread-self/ns/mnt";
const ownMounts = "/proc/thread-self/mountinfo";
/** Changes come in groups. */
const planDelayMs = 1000;

/** What bubblewrap uses of the host: itself and the system's files, and where it begins. */
const systemPlaces = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const usedPlaces = ["/proc", "/dev", "/tmp"];

export class LaunchMounts {
  readonly #shown: readonly string[];
  readonly #clock: Clock;
  /** The host's list, which says whether it changed. */
  readonly #watched = openSync(ownMounts, "r");
  #namespace: number | null = null;
  #timer: Timer | null = null;
  #closed = false;

  /** @param shown directories whose files sandboxes are shown */
  constructor(shown: readonly string[], clock: Clock) {
    this.#shown = shown;
    this.#clock = clock;
  }

  /**
   * Runs `action`, which must be synchronous: a process that it spawns has these mounts.
   *
   * @param sources files of the host that it must find
   */
  within<Value>(sources: readonly string[], action: () => Value): Value {
    if (this.#namespace !== null && this.#hostChanged()) this.#forget();
    if (this.#namespace === null) {
      this.#plan();
      return action();
    }
    const found = sources.map(identify);
    const isWhole = (): boolean => sources.every((source, at) => identify(source) === found[at]);
    const done = inNamespace(this.#namespace, () => (isWhole() ? { value: action() } : null));
    return done === null ? action() : done.value;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    this.#forget();
    closeSync(this.#watched);
  }

  #plan(): void {
    if (this.#closed) return;
    this.#timer ??= this.#clock.after(planDelayMs, () => {
      void this.#make();
    });
  }

  async #make(): Promise<void> {
    this.#hostChanged();
    // Not allowed here: launches go on with the host's mounts.
    const made = await makeNamespace(this.#shown).catch(() => null);
    this.#timer = null;
    if (this.#closed && made !== null) closeSync(made);
    else this.#namespace = made;
  }

  #forget(): void {
    if (this.#namespace !== null) closeSync(this.#namespace);
    this.#namespace = null;
  }

  /** Since it was asked last. The kernel tells it as "priority" of the list (proc(5)). */
  #hostChanged(): boolean {
    const priority = 0x02;
    const request = new Int16Array([this.#watched, 0, priority, 0]);
    new Int32Array(request.buffer)[0] = this.#watched;
    must("poll", libc.poll(ptr(request), 1, 0));
    return ((request[3] ?? 0) & priority) !== 0;
  }
}

/**
 * Held by its descriptor. What the host unmounts goes from it, too, where mounts are shared.
 * Null in a changed root, whose files would lie elsewhere in it. Another process makes it, as
 * each unmount waits for the kernel, milliseconds on a busy machine.
 */
async function makeNamespace(shown: readonly string[]): Promise<number | null> {
  const unneeded = unneededMounts(readFileSync(ownMounts, "utf8"), shown.map(resolve));
  const script = 'umount -l -- "$@"; echo; read -r end';
  const command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"];
  const maker = Bun.spawn([...command, ...unneeded], {
    stdio: ["pipe", "pipe", "ignore"],
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  });
  try {
    const first = await maker.stdout.getReader().read();
    if (first.done) return null;
    const namespace = openSync(`/proc/${maker.pid}/ns/mnt`, "r");
    const [outside, inside] = [statSync("/"), inNamespace(namespace, () => statSync("/"))];
    if (outside.dev === inside.dev && outside.ino === inside.ino) return namespace;
    closeSync(namespace);
    return null;
  } finally {
    maker.kill();
  }
}

/**
 * Mount points that no sandbox is shown anything of, without those below others. Shown are the
 * system's files and what lies in `shown`, with all that is mounted there.
 *
 * @param list as /proc/PID/mountinfo has it
 */
export function unneededMounts(list: string, shown: readonly string[]): readonly string[] {
  const whole = [...systemPlaces, ...shown];
  const found: string[] = [];
  for (const line of list.trim().split("\n")) {
    const path = line.split(" ")[4] ?? "/";
    const isAbove = [...whole, ...usedPlaces].some((place) => isAtOrBelow(place, path));
    const isInside = whole.some((place) => isAtOrBelow(path, place));
    if (isAbove || isInside || found.some((other) => isAtOrBelow(path, other))) continue;
    found.push(path);
  }
  return found;
}

/** Without symbolic links, as far as it exists. */
function resolve(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function identify(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? "" : `${found.dev} ${found.ino}`;
}

function isAtOrBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

function inNamespace<Value>(namespace: number, action: () => Value): Value {
  return comingBack(() => {
    must("setns to the mounts of launches", libc.setns(namespace, newNamespace));
    return action();
  });
}

/** Returns to where this thread is now; if that failed, lode would see no disk: it crashes. */
function comingBack<Value>(action: () => Value): Value {
  const home = openSync(ownNamespace, "r");
  const root = openSync("/", "r");
  const workingDirectory = openSync(".", "r");
  try {
    must("unshare", libc.unshare(ownWorkingDirectory));
    return action();
  } finally {
    const here = cString(".");
    const steps = [
      attempt("unshare", libc.unshare(ownWorkingDirectory)),
      attempt("setns", libc.setns(home, newNamespace)),
      attempt("fchdir to the root", libc.fchdir(root)),
      attempt("chroot", libc.chroot(ptr(here))),
      attempt("fchdir", libc.fchdir(workingDirectory)),
    ];
    for (const descriptor of [home, root, workingDirectory]) closeSync(descriptor);
    for (const step of steps) {
      if (step.ok) continue;
      process.stderr.write(`lode: cannot leave a mount namespace: ${describe(step.error)}\n`);
      process.abort();
    }
  }
}

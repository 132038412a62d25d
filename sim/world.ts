import { createHash } from "node:crypto";
import { assert } from "../src/base/assert.ts";
import type { Result } from "../src/base/result.ts";
import { seededRandom, VirtualClock } from "../src/base/virtual.ts";
import { type Control, createControl } from "../src/control/control.ts";
import type { AppRef, DeployAccepted, OperationError } from "../src/control/operations.ts";
import { secretBoxOf } from "../src/control/secrets.ts";
import type { Blobs } from "../src/fabric/blobs.ts";
import type { Ledger } from "../src/fabric/ledger.ts";
import { createMemoryBlobs } from "../src/fabric/memory/blobs.ts";
import { createMemoryLedger } from "../src/fabric/memory/ledger.ts";
import { createMemoryWire } from "../src/fabric/memory/wire.ts";
import type { Wire } from "../src/fabric/wire.ts";
import type { Assignment } from "../src/model/instance.ts";
import { type AppName, type Digest, defaultProject, type NodeName } from "../src/model/names.ts";
import type { Manifest, ManifestEntry } from "../src/model/release.ts";
import { FakeGateway } from "./gateway.ts";
import { FakeNode, type Fate } from "./node.ts";

export interface WorldOptions {
  readonly seed?: number;
  readonly nodes?: number;
  readonly cores?: number;
  readonly fateOf?: (assignment: Assignment) => Fate;
  readonly phaseMs?: () => number;
  readonly releasesKept?: number;
  /** The wire and the ledger as control sees them: a chance to spoil calls. */
  readonly wireOf?: (wire: Wire) => Wire;
  readonly ledgerOf?: (ledger: Ledger) => Ledger;
}

/** A whole cluster on the memory fabric, in virtual time, without processes. */
export class World {
  readonly clock = new VirtualClock();
  readonly random;
  readonly ledger: Ledger;
  readonly wire: Wire;
  readonly blobs: Blobs = createMemoryBlobs({ clock: this.clock });
  readonly gateway: FakeGateway;
  readonly nodes: FakeNode[] = [];
  readonly problems: string[] = [];
  readonly #options: WorldOptions;
  control: Control;
  #severed = { cut: false };

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.random = seededRandom(options.seed ?? 1);
    this.ledger = createMemoryLedger({ clock: this.clock, random: this.random });
    this.wire = createMemoryWire({ clock: this.clock });
    this.gateway = new FakeGateway(this.wire);
    this.control = this.#newControl();
  }

  async start(): Promise<void> {
    const started = await this.control.start();
    assert(started.ok, "control starts on a memory ledger");
    for (let index = 1; index <= (this.#options.nodes ?? 1); index += 1) {
      const node = this.#newNode(index);
      this.nodes.push(node);
      await node.start();
    }
    await this.clock.run(100);
  }

  async close(): Promise<void> {
    for (const node of this.nodes) node.crash();
    this.gateway.close();
    await this.control.close();
    await this.ledger.close();
    await this.wire.close();
  }

  /** kill -9 of control: nothing that it began goes on, and nobody is told. */
  async killControl(): Promise<void> {
    this.#severed.cut = true;
    this.#severed = { cut: false };
    this.control = this.#newControl();
    const started = await this.control.start();
    assert(started.ok, "control starts again");
  }

  /** kill -9 of the agent of one node; its instances live on. */
  async restartAgent(index: number): Promise<void> {
    const before = this.nodes[index];
    assert(before !== undefined, `there is a node ${index}`);
    before.crash();
    const after = this.#newNode(index + 1, before.machine);
    this.nodes[index] = after;
    await after.start();
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    for (let turn = 0; turn < 20_000; turn += 1) {
      if (await condition()) return;
      await this.clock.run(20);
    }
    throw new Error(`it never came to pass that ${what}`);
  }

  ref(app: string): AppRef {
    return { project: defaultProject, app: app as AppName };
  }

  async upload(files: Readonly<Record<string, string>>): Promise<Manifest> {
    const entries: ManifestEntry[] = [];
    for (const path of Object.keys(files).sort()) {
      const bytes = new TextEncoder().encode(files[path] ?? "");
      const digest = createHash("sha256").update(bytes).digest("hex") as Digest;
      const stored = await this.blobs.put(digest, bytes);
      assert(stored.ok, "memory takes a blob");
      const size = bytes.byteLength;
      entries.push({ kind: "file", path, digest, size, executable: false });
    }
    return { entries };
  }

  async deploy(
    app: string,
    files: Readonly<Record<string, string>>,
  ): Promise<Result<DeployAccepted, OperationError>> {
    const manifest = await this.upload(files);
    return this.control.operations.deploy(this.ref(app), { manifest }, { id: "tester" });
  }

  #newControl(): Control {
    const life = this.#severed;
    const { wireOf, ledgerOf } = this.#options;
    return createControl({
      ledger: severable(ledgerOf?.(this.ledger) ?? this.ledger, life),
      wire: severable(wireOf?.(this.wire) ?? this.wire, life),
      blobs: this.blobs,
      clock: severable(this.clock, life),
      random: this.random,
      secretBox: secretBoxOf(new Uint8Array(32)),
      settings: {
        version: "0.0.0",
        domain: "localhost",
        httpPort: 8080,
        httpsPort: null,
        releasesKept: this.#options.releasesKept ?? 10,
        replica: "replica",
      },
      onProblem: (message) => this.problems.push(message),
    });
  }

  #newNode(number: number, machine?: FakeNode["machine"]): FakeNode {
    const { ledger, wire, clock, random } = this;
    const options = {
      ...{ ledger, wire, clock, random },
      name: `n${number}` as NodeName,
      capacity: { cores: this.#options.cores ?? 4, memoryBytes: 4 * 1024 ** 3 },
      fateOf: this.#options.fateOf ?? ((): Fate => ({ kind: "healthy" })),
      phaseMs: this.#options.phaseMs ?? (() => 5),
    };
    return new FakeNode(options, machine);
  }
}

/**
 * A port as a process sees it that can be killed: once cut, no call has an effect, no promise
 * settles, and no handler given earlier is called.
 */
function severable<Port extends object>(port: Port, life: { readonly cut: boolean }): Port {
  const guard = (value: unknown): unknown => {
    if (typeof value === "function") {
      return (...args: unknown[]) =>
        life.cut ? never : (value as (...a: unknown[]) => unknown)(...args);
    }
    return value;
  };
  return new Proxy(port, {
    get(target, name) {
      const member = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]) => {
        if (life.cut) return dead;
        const result: unknown = member.apply(target, args.map(guard));
        if (!(result instanceof Promise)) return result;
        return result.then((value) => (life.cut ? never : value));
      };
    },
  });
}

const never = new Promise<never>(() => {});
/** What a call of a dead process gets: it is never looked at again. */
const dead = Object.assign(new Promise<never>(() => {}), { cancel: () => {} });

export const helloFiles = {
  "app.ts": 'export default { fetch: () => new Response("hello") };\n',
};

/** web, worker and release, as a Procfile has them. */
export function procfile(
  lines: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const text = Object.entries(lines)
    .map(([type, line]) => `${type}: ${line}\n`)
    .join("");
  return { Procfile: text, "server.sh": "#!/bin/sh\n" };
}

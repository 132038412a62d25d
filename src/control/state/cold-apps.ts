import type { Assignment } from "../../model/instance.ts";
import { appKey } from "../../model/keys.ts";
import type { InstanceId, NodeName } from "../../model/names.ts";
import { type Guarantee, guaranteeOf } from "../../scheduler/apply.ts";

/** What became different of what the nodes guarantee. */
export interface ColdChange {
  readonly more: readonly Guarantee[];
  readonly less: readonly Guarantee[];
}

const nothing: ColdChange = { more: [], less: [] };

/**
 * What is kept in memory of an app that nobody looks at: its key and the names of the records
 * that its key does not tell, from which all of it can be read again. Two maps of texts, about
 * 250 bytes an app: most of a big pool's apps sleep.
 */
export class ColdApps {
  /** App → `node/instance` and `@host`, separated by spaces. */
  readonly #apps = new Map<string, string>();
  /** Instance or `@host` → app. */
  readonly #owners = new Map<string, string>();
  /** Of instances that are guaranteed something. */
  readonly #guarantees = new Map<string, Guarantee>();
  /** Apps whose record is gone. */
  readonly #remains = new Set<string>();

  /** False: the app is in the snapshot, or there is none. */
  has(app: string): boolean {
    return this.#apps.has(app);
  }

  hasRecord(app: string): boolean {
    return this.#apps.has(app) && !this.#remains.has(app);
  }

  /** Keys of the apps. */
  get keys(): Iterable<string> {
    return this.#apps.keys();
  }

  ownerOfInstance(instance: string): string | null {
    return this.#owners.get(instance) ?? null;
  }

  ownerOfHost(host: string): string | null {
    return this.#owners.get(`@${host}`) ?? null;
  }

  /** As `add` and the changes since left them; equal texts: nothing came or went. */
  namesOf(app: string): string {
    return this.#apps.get(app) ?? "";
  }

  assignmentsOf(app: string): readonly { readonly node: NodeName; readonly id: InstanceId }[] {
    return this.#tokens(app).flatMap((token) => {
      if (token.startsWith("@")) return [];
      const [node, id] = token.split("/") as [NodeName, InstanceId];
      return [{ node, id }];
    });
  }

  /** Without the one that follows from the app's name. */
  hostsOf(app: string): readonly string[] {
    return this.#tokens(app).flatMap((token) => (token.startsWith("@") ? [token.slice(1)] : []));
  }

  /** The app has a record (true), or has none any more. */
  putRecord(app: string, isThere: boolean): void {
    if (!this.#apps.has(app)) {
      if (!isThere) return;
      this.#apps.set(app, "");
    }
    if (isThere) this.#remains.delete(app);
    else this.#remains.add(app);
    this.#dropEmpty(app);
  }

  /** It is in the snapshot from now on, or nowhere. */
  take(app: string): void {
    for (const token of this.#tokens(app)) {
      const name = nameOf(token);
      this.#owners.delete(name);
      this.#guarantees.delete(name);
    }
    this.#apps.delete(app);
    this.#remains.delete(app);
  }

  putAssignment(assignment: Assignment): ColdChange {
    const { node, instance, project, app } = assignment;
    const guarantee = guaranteeOf(assignment);
    const isKnown = this.#owners.has(instance);
    const less = isKnown ? [this.#guaranteeOf(node, instance)] : [];
    if (guarantee.cores === 0 && guarantee.memoryBytes === 0) this.#guarantees.delete(instance);
    else this.#guarantees.set(instance, guarantee);
    if (!isKnown) this.#own(appKey(project, app), `${node}/${instance}`);
    return { more: [guarantee], less };
  }

  removeAssignment(node: NodeName, instance: InstanceId): ColdChange {
    if (!this.#owners.has(instance)) return nothing;
    const less = [this.#guaranteeOf(node, instance)];
    this.#guarantees.delete(instance);
    this.#disown(`${node}/${instance}`);
    return { more: [], less };
  }

  putHost(app: string, host: string): void {
    const owner = this.ownerOfHost(host);
    if (owner === app) return;
    if (owner !== null) this.#disown(`@${host}`);
    this.#own(app, `@${host}`);
  }

  removeHost(host: string): void {
    this.#disown(`@${host}`);
  }

  #tokens(app: string): readonly string[] {
    const names = this.#apps.get(app) ?? "";
    return names === "" ? [] : names.split(" ");
  }

  #own(app: string, token: string): void {
    const names = this.#apps.get(app);
    if (names === undefined) this.#remains.add(app);
    this.#apps.set(app, names === undefined || names === "" ? token : `${names} ${token}`);
    this.#owners.set(nameOf(token), app);
  }

  #disown(token: string): void {
    const app = this.#owners.get(nameOf(token));
    if (app === undefined) return;
    this.#owners.delete(nameOf(token));
    const left = this.#tokens(app).filter((other) => other !== token);
    this.#apps.set(app, left.join(" "));
    this.#dropEmpty(app);
  }

  #dropEmpty(app: string): void {
    if (this.#remains.has(app) && this.#apps.get(app) === "") this.take(app);
  }

  #guaranteeOf(node: NodeName, instance: InstanceId): Guarantee {
    return this.#guarantees.get(instance) ?? { node, cores: 0, memoryBytes: 0 };
  }
}

/** Instances are named without their node, as changes name them. */
function nameOf(token: string): string {
  return token.startsWith("@") ? token : token.slice(token.indexOf("/") + 1);
}

import type { App, Project } from "../model/app.ts";
import type { Assignment, PoolNode } from "../model/instance.ts";
import { appKey, keys } from "../model/keys.ts";
import type { NodeName } from "../model/names.ts";
import type { Deployment } from "../model/release.ts";
import type { PersistentMapEdit } from "./persistent-map.ts";
import {
  type AppState,
  type CertificateRecord,
  emptyAppState,
  type HostClaim,
  type NodeState,
  type Snapshot,
  type Stored,
} from "./snapshot.ts";

/** One key's new value; null: deleted. */
export interface RecordChange {
  readonly key: string;
  readonly value: string | null;
  readonly modRevision: number;
}

export interface Applied {
  readonly snapshot: Snapshot;
  /** Keys of the apps whose state changed. */
  readonly apps: ReadonlySet<string>;
  /** A machine joined, left or changed its capacity. */
  readonly nodesChanged: boolean;
  readonly certificatesChanged: boolean;
  readonly leaderChanged: boolean;
}

/** Applies the changes up to `revision`, in order. Keys of other parts are passed over. */
export function applyChanges(
  before: Snapshot,
  revision: number,
  changes: readonly RecordChange[],
): Applied {
  const editor = new Editor(before);
  for (const change of changes) editor.apply(change);
  return editor.done(revision);
}

/**
 * The apps of `part` with their owners and host names are from now on in the snapshot. What
 * their assignments are guaranteed was accounted for before, and stays so.
 */
export function attach(before: Snapshot, part: Snapshot): Snapshot {
  const apps = before.apps.edit();
  const hosts = before.hosts.edit();
  const owners = before.owners.edit();
  for (const [key, state] of part.apps.entries()) apps.set(key, state);
  for (const [host, claim] of part.hosts.entries()) hosts.set(host, claim);
  for (const [instance, key] of part.owners.entries()) owners.set(instance, key);
  return { ...before, apps: apps.done(), hosts: hosts.done(), owners: owners.done() };
}

/** The opposite of `attach`. */
export function detach(before: Snapshot, keys: Iterable<string>): Snapshot {
  const apps = before.apps.edit();
  const hosts = before.hosts.edit();
  const owners = before.owners.edit();
  for (const key of keys) {
    const state = apps.get(key);
    for (const host of state?.hosts ?? []) hosts.delete(host);
    for (const { value } of state?.assignments ?? []) owners.delete(value.instance);
    apps.delete(key);
  }
  return { ...before, apps: apps.done(), hosts: hosts.done(), owners: owners.done() };
}

/** What an assignment is guaranteed. */
export interface Guarantee {
  readonly node: NodeName;
  readonly cores: number;
  readonly memoryBytes: number;
}

export function guaranteeOf({ node, limits }: Pick<Assignment, "node" | "limits">): Guarantee {
  return { node, cores: limits.cpu.min ?? 0, memoryBytes: limits.memory.min ?? 0 };
}

/** Accounts for assignments of apps that are not in the snapshot. */
export function account(
  before: Snapshot,
  more: Iterable<Guarantee>,
  less: Iterable<Guarantee>,
): Snapshot {
  const nodes = new Map(before.nodes);
  for (const guarantee of more) reserve(nodes, guarantee, 1);
  for (const guarantee of less) reserve(nodes, guarantee, -1);
  return { ...before, nodes };
}

function reserve(nodes: Map<NodeName, NodeState>, guarantee: Guarantee, sign: 1 | -1): void {
  editNode(nodes, guarantee.node, (state) => ({
    ...state,
    reservedCores: state.reservedCores + sign * guarantee.cores,
    reservedMemoryBytes: state.reservedMemoryBytes + sign * guarantee.memoryBytes,
    instances: state.instances + sign,
  }));
}

function editNode(
  nodes: Map<NodeName, NodeState>,
  name: NodeName,
  change: (state: NodeState) => NodeState,
): void {
  const empty = { name, node: null, reservedCores: 0, reservedMemoryBytes: 0, instances: 0 };
  const after = change(nodes.get(name) ?? empty);
  if (after.node === null && after.instances === 0) nodes.delete(name);
  else nodes.set(name, after.instances === 0 ? { ...empty, node: after.node } : after);
}

type Handler = (editor: Editor, parts: readonly string[], change: RecordChange) => void;

const handlers: Readonly<Record<string, Handler>> = {
  apps: (editor, parts, change) => editor.app(parts, change),
  releases: (editor, parts, change) => editor.release(parts, change),
  deployments: (editor, parts, change) => editor.deployment(parts, change),
  assignments: (editor, parts, change) => editor.assignment(parts, change),
  hosts: (editor, parts, change) => editor.host(parts, change),
  nodes: (editor, parts, change) => editor.node(parts, change),
  projects: (editor, parts, change) => editor.project(parts, change),
  certificates: (editor, parts, change) => editor.certificate(parts, change),
};

class Editor {
  readonly #before: Snapshot;
  readonly #apps: PersistentMapEdit<AppState>;
  readonly #hosts: PersistentMapEdit<Stored<HostClaim>>;
  readonly #owners: PersistentMapEdit<string>;
  readonly #dirty = new Set<string>();
  #nodes: Map<NodeName, NodeState> | null = null;
  #projects: Map<string, Project> | null = null;
  #certificates: Map<string, Stored<CertificateRecord>> | null = null;
  #uidCounter: Stored<number> | null;
  #leader: Stored<string> | null;
  #nodesChanged = false;

  constructor(before: Snapshot) {
    this.#before = before;
    this.#apps = before.apps.edit();
    this.#hosts = before.hosts.edit();
    this.#owners = before.owners.edit();
    this.#uidCounter = before.uidCounter;
    this.#leader = before.leader;
  }

  apply(change: RecordChange): void {
    if (change.key === keys.leader) this.#leader = stored<string>(change);
    else if (change.key === keys.uidCounter) this.#uidCounter = stored<number>(change);
    else {
      const parts = change.key.split("/");
      handlers[parts[1] ?? ""]?.(this, parts.slice(2), change);
    }
  }

  app([project = "", name = ""]: readonly string[], change: RecordChange): void {
    this.#edit(`${project}/${name}`, (state) => ({ ...state, app: stored<App>(change) }));
  }

  release([project = "", name = "", digits = ""]: readonly string[], change: RecordChange): void {
    const number = Number(digits);
    const { value: text, modRevision } = change;
    const release = text === null ? null : { number, text, modRevision };
    this.#edit(`${project}/${name}`, (state) => ({
      ...state,
      releases: replaced(state.releases, number, (item) => item.number, release),
    }));
  }

  deployment(
    [project = "", name = "", digits = ""]: readonly string[],
    change: RecordChange,
  ): void {
    const deployment = stored<Deployment>(change);
    this.#edit(`${project}/${name}`, (state) => ({
      ...state,
      deployments: replaced(
        state.deployments,
        Number(digits),
        (item) => item.value.number,
        deployment,
      ),
    }));
  }

  assignment([node = "", instance = ""]: readonly string[], change: RecordChange): void {
    const assignment = stored<Assignment>(change);
    const owner =
      assignment === null
        ? this.#owners.get(instance)
        : appKey(assignment.value.project, assignment.value.app);
    if (owner === undefined) return;
    if (assignment === null) this.#owners.delete(instance);
    else this.#owners.set(instance, owner);
    this.#edit(owner, (state) => {
      const old = state.assignments.find((item) => item.value.instance === instance);
      if (old !== undefined) this.#reserve(node as NodeName, old.value, -1);
      if (assignment !== null) this.#reserve(node as NodeName, assignment.value, 1);
      return {
        ...state,
        assignments: replaced(
          state.assignments,
          instance,
          (item) => item.value.instance as string,
          assignment,
        ),
      };
    });
  }

  host(parts: readonly string[], change: RecordChange): void {
    const host = parts.join("/");
    const old = this.#hosts.get(host)?.value;
    const claim = stored<HostClaim>(change);
    const withHost = (key: string, present: boolean) =>
      this.#edit(key, (state) => ({
        ...state,
        hosts: replaced(state.hosts, host, (item) => item, present ? host : null),
      }));
    if (old !== undefined) withHost(`${old.project}/${old.app}`, false);
    if (claim === null) this.#hosts.delete(host);
    else {
      this.#hosts.set(host, claim);
      withHost(`${claim.value.project}/${claim.value.app}`, true);
    }
  }

  node([name = ""]: readonly string[], change: RecordChange): void {
    const node = change.value === null ? null : (JSON.parse(change.value) as PoolNode);
    this.#nodesChanged = true;
    this.#editNode(name as NodeName, (state) => ({ ...state, node }));
  }

  project([name = ""]: readonly string[], change: RecordChange): void {
    this.#projects ??= new Map(this.#before.projects);
    if (change.value === null) this.#projects.delete(name);
    else this.#projects.set(name, JSON.parse(change.value) as Project);
  }

  certificate([name = ""]: readonly string[], change: RecordChange): void {
    this.#certificates ??= new Map(this.#before.certificates);
    const certificate = stored<CertificateRecord>(change);
    if (certificate === null) this.#certificates.delete(name);
    else this.#certificates.set(name, certificate);
  }

  done(revision: number): Applied {
    const snapshot: Snapshot = {
      revision,
      apps: this.#apps.done(),
      hosts: this.#hosts.done(),
      owners: this.#owners.done(),
      projects: this.#projects ?? this.#before.projects,
      nodes: this.#nodes ?? this.#before.nodes,
      certificates: this.#certificates ?? this.#before.certificates,
      uidCounter: this.#uidCounter,
      leader: this.#leader,
    };
    return {
      snapshot,
      apps: this.#dirty,
      nodesChanged: this.#nodesChanged,
      certificatesChanged: this.#certificates !== null,
      leaderChanged: this.#leader?.modRevision !== this.#before.leader?.modRevision,
    };
  }

  #edit(key: string, change: (state: AppState) => AppState): void {
    const after = change(this.#apps.get(key) ?? emptyAppState(key));
    this.#dirty.add(key);
    const isGone =
      after.app === null &&
      after.releases.length + after.deployments.length === 0 &&
      after.assignments.length + after.hosts.length === 0;
    if (isGone) this.#apps.delete(key);
    else this.#apps.set(key, after);
  }

  #reserve(node: NodeName, assignment: Assignment, sign: 1 | -1): void {
    this.#nodes ??= new Map(this.#before.nodes);
    reserve(this.#nodes, guaranteeOf({ ...assignment, node }), sign);
  }

  #editNode(name: NodeName, change: (state: NodeState) => NodeState): void {
    this.#nodes ??= new Map(this.#before.nodes);
    editNode(this.#nodes, name, change);
  }
}

function stored<Value>(change: RecordChange): Stored<Value> | null {
  if (change.value === null) return null;
  return { value: JSON.parse(change.value) as Value, modRevision: change.modRevision };
}

/** The sorted list with the item of that name put in, replaced or (null) taken out. */
function replaced<Item, Name extends string | number>(
  items: readonly Item[],
  name: Name,
  nameOf: (item: Item) => Name,
  item: Item | null,
): readonly Item[] {
  const index = items.findIndex((other) => nameOf(other) >= name);
  const at = index === -1 ? items.length : index;
  const found = items[at];
  const isThere = found !== undefined && nameOf(found) === name;
  const rest = items.slice(at + (isThere ? 1 : 0));
  return [...items.slice(0, at), ...(item === null ? [] : [item]), ...rest];
}

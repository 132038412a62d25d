import type { AppName, InstanceId, NodeName, ProjectName } from "./names.ts";

/**
 * The ledger's key space. Values are JSON of the type named beside each key. Every number in
 * a key has ten digits, so that keys sort as numbers do.
 */
export const keys = {
  /** → Project */
  project: (project: ProjectName) => `/projects/${project}`,
  projects: "/projects/",
  /** → App */
  app: (project: ProjectName, app: AppName) => `/apps/${project}/${app}`,
  apps: "/apps/",
  appsOf: (project: ProjectName) => `/apps/${project}/`,
  /** → Release (immutable) */
  release: (project: ProjectName, app: AppName, number: number) =>
    `/releases/${project}/${app}/${padded(number)}`,
  releases: "/releases/",
  releasesOf: (project: ProjectName, app: AppName) => `/releases/${project}/${app}/`,
  /** → Deployment */
  deployment: (project: ProjectName, app: AppName, number: number) =>
    `/deployments/${project}/${app}/${padded(number)}`,
  deployments: "/deployments/",
  deploymentsOf: (project: ProjectName, app: AppName) => `/deployments/${project}/${app}/`,
  /** → Assignment */
  assignment: (node: NodeName, instance: InstanceId) => `/assignments/${node}/${instance}`,
  assignments: "/assignments/",
  assignmentsOf: (node: NodeName) => `/assignments/${node}/`,
  /** → PoolNode */
  node: (node: NodeName) => `/nodes/${node}`,
  nodes: "/nodes/",
  /** → TokenRecord */
  token: (id: string) => `/tokens/${id}`,
  tokens: "/tokens/",
  /** → Certificate with its private key sealed */
  certificate: (name: string) => `/certificates/${name}`,
  certificates: "/certificates/",
  /** → the host's claim: {project, app}; one app owns a host in the whole pool */
  host: (host: string) => `/hosts/${host}`,
  hosts: "/hosts/",
  /** → the next free uid offset, a number */
  uidCounter: "/counters/uid",
  /** Held by the control replica that plans. */
  leader: "/leader",
} as const;

function padded(number: number): string {
  return String(number).padStart(10, "0");
}

/** The key of an app in maps and route tables. */
export function appKey(project: ProjectName, app: AppName): string {
  return `${project}/${app}`;
}

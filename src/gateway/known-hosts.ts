/** Hosts as the gateway's database has them. */
import type { Selectable } from "kysely"
import type { HostClient } from "../client/host-client.ts"
import type { HostIdentity } from "../handoff/request.ts"
import { AppError } from "../protocol/errors.ts"
import type { HostHello, HostInfo } from "../protocol/gateway-api.ts"
import { hostIdSchema, incarnationSchema, tenantIdSchema, type HostId, type TenantId } from "../protocol/ids.ts"
import type { HostPlace, LineKeeper, Provisioner, Upgrader } from "../provision/provisioner.ts"
import type { GatewayDatabase, HostTable } from "./store/schema.ts"

export interface KnownHost extends HostIdentity {
  readonly tenant: TenantId
  readonly name: string
  readonly kind: HostInfo["kind"]
  /** Null for a laptop, which nobody can call: folder of a local host, `[USER@]HOST` over SSH. */
  readonly root: string | null
  readonly version: string | null
  readonly problem: string | null
  /** To the minute. */
  readonly answeredAtMs: number | null
  readonly isRemoved: boolean
}

export interface Reached {
  readonly host: KnownHost
  readonly client: HostClient
  readonly hello: HostHello
}

export interface HostParts {
  readonly db: GatewayDatabase
  readonly local: Provisioner
  readonly ssh: Provisioner & Upgrader & LineKeeper
  readonly nowMs: () => number
  /** Hosts to which a word is being said, and how many: their line lives, however slow its answer to anything else is. */
  readonly inWords: Map<HostId, number>
}

/** How a host is handled that somebody made. @throws {AppError} unreachable for a laptop */
export function provisionerOf({ local, ssh }: HostParts, host: KnownHost): Provisioner {
  if (host.kind === "laptop") throw notCallable(host)
  return host.kind === "ssh" ? ssh : local
}

/** @throws {AppError} unreachable for a laptop */
export function placeOf(host: KnownHost): HostPlace {
  if (host.root === null) throw notCallable(host)
  return { host: host.host, name: host.name, root: host.root }
}

export async function rowsOf(db: GatewayDatabase, tenant: TenantId, id?: HostId): Promise<KnownHost[]> {
  const rows = await db
    .selectFrom("hosts")
    .selectAll()
    .where("tenant", "=", tenant)
    .$if(id !== undefined, (query) => query.where("id", "=", id ?? ""))
    .orderBy("name")
    .execute()
  return rows.map(hostOf)
}

export function hostOf(row: Selectable<HostTable>): KnownHost {
  return {
    tenant: tenantIdSchema.parse(row.tenant),
    host: hostIdSchema.parse(row.id),
    incarnation: incarnationSchema.parse(row.incarnation),
    name: row.name,
    kind: row.kind === "laptop" || row.kind === "ssh" ? row.kind : "local",
    root: row.root,
    version: row.version,
    problem: row.problem,
    answeredAtMs: row.answered_at_ms,
    isRemoved: row.removed === 1,
  }
}

export async function named(db: GatewayDatabase, tenant: TenantId, name: string): Promise<KnownHost> {
  const found = (await rowsOf(db, tenant)).find((host) => !host.isRemoved && (host.name === name || host.host === name))
  if (found === undefined) throw unknownHost(name)
  return found
}

export function unknownHost(name: string): AppError {
  return new AppError("unknown_host", `there is no host ${name}`, { hint: "decamp hosts lists them" })
}

export function notCallable(host: KnownHost): AppError {
  return new AppError("unreachable", `${host.name} can't be called: it asks by itself when it is awake`)
}

export function nameTaken(message: string): AppError {
  return new AppError("name_taken", message, { hint: "choose another name and root; decamp hosts lists what is there" })
}

/** `name`, or with `-2`, `-3`… the first that is free. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name
  for (let n = 2; ; n += 1) if (!taken.has(`${name}-${n}`)) return `${name}-${n}`
}

/** The hosts of a tenant: who they are, what they show, how they are reached. */
import type { Insertable, Selectable } from "kysely"
import { hostClient, type HostClient } from "../client/host-client.ts"
import { unixFetcher } from "../client/http.ts"
import { BLOCKING_STATES } from "../handoff/record.ts"
import type { HostIdentity } from "../handoff/request.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HostHello, HostInfo } from "../protocol/gateway-api.ts"
import {
  hostIdSchema,
  incarnationSchema,
  newHostId,
  newIncarnation,
  tenantIdSchema,
  type HostId,
  type Incarnation,
  type TenantId,
} from "../protocol/ids.ts"
import { DECAMP_VERSION, PROTOCOL_VERSION } from "../protocol/version.ts"
import type { Provisioner } from "../provision/provisioner.ts"
import type { GatewayDatabase, HostTable } from "./store/schema.ts"
import { hashOfToken, newToken } from "./tokens.ts"

export interface KnownHost extends HostIdentity {
  readonly tenant: TenantId
  readonly name: string
  readonly kind: HostInfo["kind"]
  readonly root: string | null
  readonly version: string | null
  readonly problem: string | null
  readonly isRemoved: boolean
}

export interface Reached {
  readonly host: KnownHost
  readonly client: HostClient
  readonly hello: HostHello
}

export interface Hosts {
  /** Removed ones too: old records name them. */
  everyone(tenant: TenantId): Promise<KnownHost[]>
  /** By id, also a removed one: old records name it. */
  find(tenant: TenantId, id: HostId): Promise<KnownHost | null>
  /** @throws {AppError} unknown_host */
  named(tenant: TenantId, name: string): Promise<KnownHost>
  /** Whose token this is; null for nobody's. */
  authenticate(token: string): Promise<KnownHost | null>
  /** A laptop makes itself known; the token it had is worth nothing from now on. */
  register(tenant: TenantId, laptop: HostIdentity & { name: string }): Promise<{ name: string; token: string }>
  /** Sets a local host up and starts it; the same request again finds it. */
  addLocal(tenant: TenantId, name: string, root: string): Promise<KnownHost>
  /** @throws {AppError} host_owns_workspace */
  remove(tenant: TenantId, name: string): Promise<void>
  /**
   * Starts and asks a host that can be called; its incarnation and version are recorded.
   * @throws {AppError} unreachable; protocol_mismatch
   */
  reach(host: KnownHost): Promise<Reached>
  /** Everything a list shows. */
  infos(tenant: TenantId): Promise<HostInfo[]>
  info(tenant: TenantId, name: string): Promise<HostInfo>
  /** The provisioner says that this incarnation of a host is no more, or another one answers under its name. */
  isDestroyed(tenant: TenantId, identity: HostIdentity): Promise<boolean>
  /** Ends the daemons of local hosts; answers the names of those that ran. */
  stopAll(): Promise<string[]>
  execPlan(host: KnownHost): { cwd: string; env: Record<string, string> }
}

export interface HostParts {
  readonly db: GatewayDatabase
  readonly provisioner: Provisioner
  readonly nowMs: () => number
}

export function hosts(parts: HostParts): Hosts {
  const { db, provisioner } = parts
  return {
    everyone: async (tenant) => await rowsOf(db, tenant),
    find: async (tenant, id) => (await rowsOf(db, tenant, id))[0] ?? null,
    named: async (tenant, name) => await named(db, tenant, name),
    async authenticate(token) {
      const row = await db
        .selectFrom("hosts")
        .selectAll()
        .where("token_hash", "=", hashOfToken(token))
        .where("removed", "=", 0)
        .executeTakeFirst()
      return row === undefined ? null : hostOf(row)
    },
    register: async (tenant, laptop) => await register(parts, tenant, laptop),
    addLocal: async (tenant, name, root) => await addLocal(parts, tenant, name, root),
    remove: async (tenant, name) => await remove(parts, tenant, name),
    reach: async (host) => await reach(parts, host),
    infos: async (tenant) => await infos(parts, tenant),
    async info(tenant, name) {
      await named(db, tenant, name)
      const found = (await infos(parts, tenant, name))[0]
      if (found === undefined) throw unknownHost(name)
      return found
    },
    isDestroyed: async (tenant, identity) => await isDestroyed(parts, tenant, identity),
    stopAll: async () => await stopAll(parts),
    execPlan(host) {
      if (host.root === null) throw notCallable(host)
      const { cwd, env } = provisioner.execPlan({ name: host.name, root: host.root })
      return { cwd, env: { ...env } }
    },
  }
}

async function rowsOf(db: GatewayDatabase, tenant: TenantId, id?: HostId): Promise<KnownHost[]> {
  const rows = await db
    .selectFrom("hosts")
    .selectAll()
    .where("tenant", "=", tenant)
    .$if(id !== undefined, (query) => query.where("id", "=", id ?? ""))
    .orderBy("name")
    .execute()
  return rows.map(hostOf)
}

function hostOf(row: Selectable<HostTable>): KnownHost {
  return {
    tenant: tenantIdSchema.parse(row.tenant),
    host: hostIdSchema.parse(row.id),
    incarnation: incarnationSchema.parse(row.incarnation),
    name: row.name,
    kind: row.kind === "laptop" ? "laptop" : "local",
    root: row.root,
    version: row.version,
    problem: row.problem,
    isRemoved: row.removed === 1,
  }
}

async function named(db: GatewayDatabase, tenant: TenantId, name: string): Promise<KnownHost> {
  const found = (await rowsOf(db, tenant)).find((host) => !host.isRemoved && (host.name === name || host.host === name))
  if (found === undefined) throw unknownHost(name)
  return found
}

function unknownHost(name: string): AppError {
  return new AppError("unknown_host", `there is no host ${name}`, { hint: "decamp hosts lists them" })
}

function notCallable(host: KnownHost): AppError {
  return new AppError("unreachable", `${host.name} can't be called: it asks by itself when it is awake`)
}

async function register(
  { db, nowMs }: HostParts,
  tenant: TenantId,
  laptop: HostIdentity & { name: string },
): Promise<{ name: string; token: string }> {
  const token = newToken()
  const name = await db.transaction().execute(async (transaction) => {
    const known = await rowsOf(transaction, tenant)
    const mine = known.find((host) => host.host === laptop.host)
    if (mine !== undefined && mine.kind !== "laptop") throw nameTaken(`${laptop.host} is a local host`)
    const taken = new Set(known.filter((host) => host !== mine && !host.isRemoved).map((host) => host.name))
    const free = mine !== undefined && !taken.has(mine.name) ? mine.name : freeName(laptop.name, taken)
    const values = {
      name: free,
      incarnation: laptop.incarnation,
      token_hash: hashOfToken(token),
      version: DECAMP_VERSION,
      removed: 0,
    }
    if (mine === undefined) {
      const made = { tenant, id: laptop.host, kind: "laptop", root: null, problem: null, created_at_ms: nowMs() }
      await transaction
        .insertInto("hosts")
        .values({ ...made, ...values })
        .execute()
    } else {
      const own = transaction.updateTable("hosts").set(values).where("tenant", "=", tenant)
      await own.where("id", "=", laptop.host).execute()
    }
    return free
  })
  return { name, token }
}

/** `name`, or with `-2`, `-3`… the first that is free. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  if (!taken.has(name)) return name
  for (let n = 2; ; n += 1) if (!taken.has(`${name}-${n}`)) return `${name}-${n}`
}

async function addLocal(parts: HostParts, tenant: TenantId, name: string, root: string): Promise<KnownHost> {
  const { db, provisioner, nowMs } = parts
  const known = (await rowsOf(db, tenant)).filter((host) => !host.isRemoved)
  const sameName = known.find((host) => host.name === name)
  if (sameName !== undefined) {
    if (sameName.root !== root) throw nameTaken(`there is a host ${name} already`)
    return (await reach(parts, sameName)).host
  }
  const sameRoot = known.find((host) => host.root === root)
  if (sameRoot !== undefined) throw nameTaken(`${root} is the root of the host ${sameRoot.name}`)
  const token = newToken()
  const id = await provisioner.create({ host: newHostId(), name, root, token })
  const row: Insertable<HostTable> = {
    tenant,
    id,
    name,
    kind: "local",
    // Unknown until it answers; no record can name this one.
    incarnation: newIncarnation(),
    root,
    version: null,
    token_hash: hashOfToken(token),
    problem: null,
    removed: 0,
    created_at_ms: nowMs(),
  }
  const { tenant: _tenant, id: _id, created_at_ms: _at, ...again } = row
  await db
    .insertInto("hosts")
    .values(row)
    .onConflict((conflict) => conflict.columns(["tenant", "id"]).doUpdateSet(again))
    .execute()
  try {
    return (await reach(parts, await named(db, tenant, name))).host
  } catch (error) {
    await db.updateTable("hosts").set({ removed: 1 }).where("tenant", "=", tenant).where("id", "=", id).execute()
    await provisioner.stop({ name, root })
    throw error
  }
}

async function remove({ db, provisioner }: HostParts, tenant: TenantId, name: string): Promise<void> {
  const host = await named(db, tenant, name)
  const owned = await db
    .selectFrom("workspaces")
    .select("name")
    .where("tenant", "=", tenant)
    .where("owner_host", "=", host.host)
    .execute()
  if (owned.length > 0) {
    const names = owned.map((row) => row.name)
    throw new AppError("host_owns_workspace", `${name} owns ${names.join(", ")}`, {
      hint: "bring it home first: decamp pull --migrate; from a host that is lost: decamp reclaim",
      details: { workspaces: names },
    })
  }
  const open = await db
    .selectFrom("handoffs")
    .select("id")
    .where("tenant", "=", tenant)
    .where("state", "in", [...BLOCKING_STATES])
    .where((where) => where.or([where("source", "=", host.host), where("target", "=", host.host)]))
    .executeTakeFirst()
  if (open !== undefined) {
    throw new AppError("host_owns_workspace", `${name} takes part in the open hand-off ${open.id}`, {
      hint: "decamp continue goes on with it; decamp abandon undoes it",
      details: { handoff: open.id },
    })
  }
  if (host.root !== null) await provisioner.destroy({ name, root: host.root })
  await db
    .updateTable("hosts")
    .set({ removed: 1, token_hash: null })
    .where("tenant", "=", tenant)
    .where("id", "=", host.host)
    .execute()
}

async function reach({ db, provisioner }: HostParts, host: KnownHost): Promise<Reached> {
  if (host.root === null || host.isRemoved) throw notCallable(host)
  const own = <T extends { where(column: "tenant" | "id", operator: "=", value: string): T }>(query: T): T =>
    query.where("tenant", "=", host.tenant).where("id", "=", host.host)
  try {
    const { socket, token } = await provisioner.connect({ name: host.name, root: host.root })
    const client = hostClient(unixFetcher(socket, { token }))
    const hello = await client.hello()
    if (hello.protocol !== PROTOCOL_VERSION) {
      throw new AppError("protocol_mismatch", `${host.name} speaks protocol ${hello.protocol}, not ${PROTOCOL_VERSION}`)
    }
    if (hello.host !== host.host) throw new AppError("unreachable", `another host answers at ${host.root}`)
    const news = { incarnation: hello.incarnation, version: hello.version, problem: null }
    if (news.incarnation !== host.incarnation || news.version !== host.version || host.problem !== null) {
      await own(db.updateTable("hosts").set(news)).execute()
    }
    return { host: { ...host, ...news }, client, hello }
  } catch (error) {
    const failure = toAppError(error)
    if (failure.message !== host.problem) {
      await own(db.updateTable("hosts").set({ problem: failure.message })).execute()
    }
    throw failure.code === "internal"
      ? new AppError("unreachable", `${host.name}: ${failure.message}`, { cause: error })
      : failure
  }
}

async function infos(parts: HostParts, tenant: TenantId, only?: string): Promise<HostInfo[]> {
  const known = (await rowsOf(parts.db, tenant)).filter((host) => !host.isRemoved)
  const owned = await parts.db
    .selectFrom("workspaces")
    .select(["name", "owner_host"])
    .where("tenant", "=", tenant)
    .orderBy("name")
    .execute()
  const shown = only === undefined ? known : known.filter((host) => host.name === only)
  return await Promise.all(
    shown.map(async (host) => {
      const reached =
        host.kind === "laptop" ? null : await reach(parts, host).catch((error: unknown) => toAppError(error))
      const now = reached === null || reached instanceof AppError ? host : reached.host
      return {
        id: host.host,
        name: host.name,
        kind: host.kind,
        incarnation: now.incarnation,
        root: host.root,
        // Whether a laptop is awake isn't known: nobody can call it.
        reachable: reached !== null && !(reached instanceof AppError),
        version: now.version,
        workspacesOwned: owned.filter((row) => row.owner_host === host.host).map((row) => row.name),
        problem: reached instanceof AppError ? reached.message : null,
      }
    }),
  )
}

async function isDestroyed(parts: HostParts, tenant: TenantId, identity: HostIdentity): Promise<boolean> {
  const host = (await rowsOf(parts.db, tenant, identity.host))[0]
  if (host === undefined) return false
  if (isAnother(host.incarnation, identity.incarnation)) return true
  if (host.root === null) return false
  if ((await parts.provisioner.status({ name: host.name, root: host.root })) === "gone") return true
  const reached = await reach(parts, host).catch(() => null)
  return reached !== null && isAnother(reached.hello.incarnation, identity.incarnation)
}

function isAnother(now: Incarnation, then: Incarnation): boolean {
  return now !== then
}

async function stopAll({ db, provisioner }: HostParts): Promise<string[]> {
  const rows = await db.selectFrom("hosts").selectAll().where("removed", "=", 0).where("root", "is not", null).execute()
  const stopped = await Promise.all(
    rows
      .map(hostOf)
      .map(async ({ name, root }) => ((await provisioner.stop({ name, root: root ?? "" })) ? name : null)),
  )
  return stopped.filter((name): name is string => name !== null)
}

function nameTaken(message: string): AppError {
  return new AppError("name_taken", message, { hint: "choose another name and root; decamp hosts lists what is there" })
}

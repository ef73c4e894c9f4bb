/** The hosts of a tenant: who they are, what they show, how they are reached. */
import type { StepListener } from "../client/http.ts"
import type { HostIdentity } from "../handoff/request.ts"
import type { HostInfo } from "../protocol/gateway-api.ts"
import type { HostLook } from "../protocol/host-state.ts"
import type { HostId, TenantId } from "../protocol/ids.ts"
import { DECAMP_VERSION } from "../protocol/version.ts"
import type { ExecPlan, LineState } from "../provision/provisioner.ts"
import { looks } from "./host-looks.ts"
import { addLocal, addSsh, removeHost, upgradeHost, type AddSsh } from "./add-host.ts"
import {
  freeName,
  hostOf,
  named,
  nameTaken,
  placeOf,
  provisionerOf,
  rowsOf,
  unknownHost,
  type HostParts,
  type KnownHost,
  type Reached,
} from "./known-hosts.ts"
import { infos, isDestroyed, reach } from "./reach-host.ts"
import { hashOfToken, newToken } from "./tokens.ts"

export interface Hosts {
  /** Removed ones too: old records name them. */
  everyone(tenant: TenantId): Promise<KnownHost[]>
  /** By id, also a removed one: old records name it. */
  find(tenant: TenantId, id: HostId): Promise<KnownHost | null>
  /** @throws {AppError} unknown_host */
  named(tenant: TenantId, name: string): Promise<KnownHost>
  /** Whose token this is; null for nobody's. */
  authenticate(token: string): Promise<KnownHost | null>
  /** Tokens were taken away in the database: what is remembered of them counts no more. */
  forgetTokens(): void
  /** A laptop makes itself known; the token it had is worth nothing from now on. */
  register(tenant: TenantId, laptop: HostIdentity & { name: string }): Promise<{ name: string; token: string }>
  /** Sets a local host up and starts it; the same request again finds it. */
  addLocal(tenant: TenantId, name: string, root: string): Promise<KnownHost>
  /** Sets a host up over SSH and starts it; the same request again finds it, and another address of the same host is taken over. */
  addSsh(tenant: TenantId, request: AddSsh, listener: StepListener): Promise<KnownHost>
  /** Brings decamp on a host over SSH to this version; answers whether anything was done. */
  upgrade(tenant: TenantId, name: string, listener: StepListener): Promise<boolean>
  /**
   * Takes it away there and here; `forget`: here only, for one that nobody can reach any more. Answers what could not be taken away
   * there, a line each.
   * @throws {AppError} host_owns_workspace
   */
  remove(tenant: TenantId, name: string, options: { readonly forget: boolean }): Promise<readonly string[]>
  /**
   * Starts and asks a host that can be called; its incarnation and version are recorded.
   * @throws {AppError} unreachable; protocol_mismatch; other_gateway
   */
  reach(host: KnownHost): Promise<Reached>
  /** Runs what says a word to a host; meanwhile its line is not taken for dead. */
  saying<T>(id: HostId, work: () => Promise<T>): Promise<T>
  /** Everything a list shows. */
  infos(tenant: TenantId): Promise<HostInfo[]>
  info(tenant: TenantId, name: string): Promise<HostInfo>
  /** The same with what each host says of itself, within seconds; `only` one of them, by name. */
  looks(tenant: TenantId, only?: string): Promise<HostLook[]>
  /** The provisioner says that this incarnation of a host is no more, or another one answers under its name. */
  isDestroyed(tenant: TenantId, identity: HostIdentity): Promise<boolean>
  /** Ends the daemons of local hosts; answers the names of those that ran. */
  stopAll(): Promise<string[]>
  /** How a command is run as that host's user would. */
  execPlan(host: KnownHost): ExecPlan
  /** The line to a host over SSH; null for another one, and while nobody needs it. */
  lineOf(host: KnownHost): LineState | null
}

/** So long a token is taken without asking the database: one that another process revoked ends that much later. */
const KNOWN_MS = 2000
const KNOWN_MAX = 10_000

export function hosts(wiring: Omit<HostParts, "inWords">): Hosts {
  const parts: HostParts = { ...wiring, inWords: new Map() }
  const { db } = parts
  const tokens = knownTokens(parts)
  return {
    everyone: async (tenant) => await rowsOf(db, tenant),
    find: async (tenant, id) => (await rowsOf(db, tenant, id))[0] ?? null,
    named: async (tenant, name) => await named(db, tenant, name),
    authenticate: tokens.owner,
    forgetTokens: () => tokens.forget(),
    register: async (tenant, laptop) => await tokens.changing(register(parts, tenant, laptop)),
    addLocal: async (tenant, name, root) => await tokens.changing(addLocal(parts, tenant, name, root)),
    addSsh: async (tenant, request, listener) => await tokens.changing(addSsh(parts, tenant, request, listener)),
    upgrade: async (tenant, name, listener) => await tokens.changing(upgradeHost(parts, tenant, name, listener)),
    remove: async (tenant, name, options) => await tokens.changing(removeHost(parts, tenant, name, options)),
    reach: async (host) => await reach(parts, host),
    async saying(id, work) {
      parts.inWords.set(id, (parts.inWords.get(id) ?? 0) + 1)
      try {
        return await work()
      } finally {
        parts.inWords.set(id, (parts.inWords.get(id) ?? 1) - 1)
      }
    },
    infos: async (tenant) => await infos(parts, tenant),
    async info(tenant, name) {
      await named(db, tenant, name)
      const found = (await infos(parts, tenant, name))[0]
      if (found === undefined) throw unknownHost(name)
      return found
    },
    looks: async (tenant, only) => await looks(parts, tenant, only),
    isDestroyed: async (tenant, identity) => await isDestroyed(parts, tenant, identity),
    stopAll: async () => await stopAll(parts),
    execPlan: (host) => provisionerOf(parts, host).execPlan(placeOf(host)),
    lineOf: (host) => (host.kind === "ssh" ? parts.ssh.lineOf(placeOf(host)) : null),
  }
}

interface KnownTokens {
  readonly owner: Hosts["authenticate"]
  /** Waits for what may change whose token is whose; nothing from before counts after it. */
  readonly changing: <T>(work: Promise<T>) => Promise<T>
  forget(): void
}

function knownTokens({ db }: HostParts): KnownTokens {
  const known = new Map<string, { readonly host: KnownHost; readonly untilMs: number }>()
  let changes = 0
  const forget = (): void => {
    changes += 1
    known.clear()
  }
  return {
    forget,
    async owner(token) {
      const hash = hashOfToken(token)
      const now = performance.now()
      const kept = known.get(hash)
      if (kept !== undefined && now < kept.untilMs) return kept.host
      const before = changes
      const query = db.selectFrom("hosts").selectAll().where("token_hash", "=", hash).where("removed", "=", 0)
      const row = await query.executeTakeFirst()
      if (known.size >= KNOWN_MAX) known.clear()
      known.delete(hash)
      if (row === undefined) return null
      const host = hostOf(row)
      if (changes === before) known.set(hash, { host, untilMs: now + KNOWN_MS })
      return host
    },
    async changing(work) {
      try {
        return await work
      } finally {
        forget()
      }
    },
  }
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
    if (mine !== undefined && mine.kind !== "laptop") throw nameTaken(`${laptop.host} is a host of kind ${mine.kind}`)
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
      const unknown = { root: null, problem: null, answered_at_ms: null }
      const made = { tenant, id: laptop.host, kind: "laptop", created_at_ms: nowMs(), ...unknown }
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

async function stopAll({ db, local }: HostParts): Promise<string[]> {
  const rows = await db.selectFrom("hosts").selectAll().where("removed", "=", 0).where("kind", "=", "local").execute()
  const stopped = await Promise.all(
    rows.map(hostOf).map(async (host) => ((await local.stop(placeOf(host))) ? host.name : null)),
  )
  return stopped.filter((name): name is string => name !== null)
}

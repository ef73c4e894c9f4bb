/** Hosts that a user adds and removes. */
import type { StepListener } from "../client/http.ts"
import { BLOCKING_STATES } from "../handoff/record.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { newHostId, newIncarnation, type HostId, type TenantId } from "../protocol/ids.ts"
import { DECAMP_VERSION } from "../protocol/version.ts"
import { nameTaken, named, placeOf, provisionerOf, rowsOf, type HostParts, type KnownHost } from "./known-hosts.ts"
import { reach } from "./reach-host.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { hashOfToken, newToken } from "./tokens.ts"

export interface AddSsh {
  readonly name: string
  /** `[USER@]HOST`, or a Host of the user's ssh configuration. */
  readonly destination: string
  /** Also when another gateway has it. */
  readonly adopt: boolean
}

export async function addLocal(parts: HostParts, tenant: TenantId, name: string, root: string): Promise<KnownHost> {
  const known = (await rowsOf(parts.db, tenant)).filter((host) => !host.isRemoved)
  const sameName = known.find((host) => host.name === name)
  if (sameName !== undefined) {
    if (sameName.kind !== "local" || sameName.root !== root) throw nameTaken(`there is a host ${name} already`)
    return (await reach(parts, sameName)).host
  }
  const sameRoot = known.find((host) => host.root === root)
  if (sameRoot !== undefined) throw nameTaken(`${root} is the root of the host ${sameRoot.name}`)
  const token = newToken()
  const spec = { host: newHostId(), name, root, token, adopt: false, isKnown: false, tell: () => {} }
  const id = await parts.local.create(spec)
  await saveHost(parts, tenant, { id, name, kind: "local", root, token })
  try {
    return (await reach(parts, await named(parts.db, tenant, name))).host
  } catch (error) {
    await markRemoved(parts.db, tenant, id)
    await parts.local.stop({ host: id, name, root })
    throw error
  }
}

/** What {@link Provisioner.create} does is undone by itself when it fails; a host that answers afterwards is kept. */
export async function addSsh(
  parts: HostParts,
  tenant: TenantId,
  { name, destination: root, adopt }: AddSsh,
  listener: StepListener,
): Promise<KnownHost> {
  const tell = (text: string): void => listener({ type: "notice", text })
  const known = (await rowsOf(parts.db, tenant)).filter((host) => !host.isRemoved)
  const sameName = known.find((host) => host.name === name)
  if (sameName !== undefined && sameName.kind !== "ssh") throw nameTaken(`there is a host ${name} already`)
  const sameRoot = known.find((host) => host.root === root && host.kind === "ssh" && host !== sameName)
  if (sameRoot !== undefined) throw nameTaken(`${root} is the host ${sameRoot.name}`)
  if (sameName?.root === root && !adopt) {
    await bringUpToDate(parts, sameName, tell)
    return (await reach(parts, sameName)).host
  }
  const token = newToken()
  const spec = { name, root, token, adopt, tell }
  // The same name with another address: only the same host may have it.
  const expected =
    sameName === undefined ? { host: newHostId(), isKnown: false } : { host: sameName.host, isKnown: true }
  const id = await parts.ssh.create({ ...spec, ...expected })
  const other = known.find((host) => host.host === id && host.name !== name)
  if (other !== undefined) tell(`it was known here as ${other.name}, and is ${name} from now on`)
  await saveHost(parts, tenant, { id, name, kind: "ssh", root, token })
  return (await reach(parts, await named(parts.db, tenant, name))).host
}

/** @throws {AppError} usage for a host of another kind */
export async function upgradeHost(
  parts: HostParts,
  tenant: TenantId,
  name: string,
  listener: StepListener,
): Promise<boolean> {
  const host = await named(parts.db, tenant, name)
  if (host.kind !== "ssh") {
    throw new AppError("usage", `${name} is this machine's own: it runs this decamp already`, {
      hint: "decamp stop, and the next command starts the new version",
    })
  }
  const isNew = await bringUpToDate(parts, host, (text) => listener({ type: "notice", text }))
  await reach(parts, host)
  return isNew
}

/** An upgrade that broke off may have left the new program there, and the daemon of the old one running. */
async function bringUpToDate(parts: HostParts, host: KnownHost, tell: (text: string) => void): Promise<boolean> {
  if (await parts.ssh.upgrade(placeOf(host), tell)) return true
  const runs = await reach(parts, host).catch((error: unknown) => toAppError(error))
  if (runs instanceof AppError && runs.code !== "protocol_mismatch") throw runs
  if (!(runs instanceof AppError) && runs.hello.version === DECAMP_VERSION) return false
  await parts.ssh.stop(placeOf(host))
  await reach(parts, host)
  tell(`✔ decamp ${DECAMP_VERSION} was there already, daemon started anew`)
  return true
}

interface NewHost {
  readonly id: HostId
  readonly name: string
  readonly kind: "local" | "ssh"
  readonly root: string
  readonly token: string
}

async function saveHost({ db, nowMs }: HostParts, tenant: TenantId, host: NewHost): Promise<void> {
  const { id, name, kind, root, token } = host
  const again = { name, kind, root, token_hash: hashOfToken(token), problem: null, removed: 0 }
  await db
    .insertInto("hosts")
    // Its incarnation is unknown until it answers; no record can name this one.
    .values({
      tenant,
      id,
      incarnation: newIncarnation(),
      version: null,
      answered_at_ms: null,
      created_at_ms: nowMs(),
      ...again,
    })
    .onConflict((conflict) => conflict.columns(["tenant", "id"]).doUpdateSet(again))
    .execute()
}

async function markRemoved(db: GatewayDatabase, tenant: TenantId, id: HostId): Promise<void> {
  const gone = { removed: 1, token_hash: null }
  await db.updateTable("hosts").set(gone).where("tenant", "=", tenant).where("id", "=", id).execute()
}

/** Answers what could not be taken away there, a line each. */
export async function removeHost(
  parts: HostParts,
  tenant: TenantId,
  name: string,
  { forget }: { readonly forget: boolean },
): Promise<readonly string[]> {
  const host = await named(parts.db, tenant, name)
  await refuseOwner(parts.db, tenant, host)
  if (host.kind !== "laptop" && !forget) {
    // Fences, words in the agents' windows and agents that decamp installed are the daemon's own to take away.
    const left = host.kind === "ssh" ? (await (await reach(parts, host)).client.leave()).left : []
    await provisionerOf(parts, host).destroy(placeOf(host))
    await markRemoved(parts.db, tenant, host.host)
    return left
  }
  await markRemoved(parts.db, tenant, host.host)
  return []
}

/** @throws {AppError} host_owns_workspace */
async function refuseOwner(db: GatewayDatabase, tenant: TenantId, host: KnownHost): Promise<void> {
  const owned = await db
    .selectFrom("workspaces")
    .select("name")
    .where("tenant", "=", tenant)
    .where("owner_host", "=", host.host)
    .execute()
  if (owned.length > 0) {
    const names = owned.map((row) => row.name)
    throw new AppError("host_owns_workspace", `${host.name} owns ${names.join(", ")}`, {
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
    throw new AppError("host_owns_workspace", `${host.name} takes part in the open hand-off ${open.id}`, {
      hint: "decamp continue goes on with it; decamp abandon undoes it",
      details: { handoff: open.id },
    })
  }
}

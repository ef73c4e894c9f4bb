/** Asking hosts: that they run, who they are now, what a list shows of them. */
import { hostClient } from "../client/host-client.ts"
import { unixFetcher } from "../client/http.ts"
import type { HostIdentity } from "../handoff/request.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HostInfo } from "../protocol/gateway-api.ts"
import type { Incarnation, TenantId } from "../protocol/ids.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import { authorityLost } from "./adopt.ts"
import {
  notCallable,
  placeOf,
  provisionerOf,
  rowsOf,
  type HostParts,
  type KnownHost,
  type Reached,
} from "./known-hosts.ts"
import { overLine } from "./outage.ts"

/** A request a second must not write each time that a host answered. */
const NOTED_EVERY_MS = 60_000

export async function reach(parts: HostParts, host: KnownHost): Promise<Reached> {
  if (host.root === null || host.isRemoved) throw notCallable(host)
  const own = <T extends { where(column: "tenant" | "id", operator: "=", value: string): T }>(query: T): T =>
    query.where("tenant", "=", host.tenant).where("id", "=", host.host)
  try {
    const { client, hello } = await askAgain(parts, host)
    const news = { incarnation: hello.incarnation, version: hello.version, problem: null }
    const answeredAtMs = parts.nowMs()
    const isOld = answeredAtMs - (host.answeredAtMs ?? 0) >= NOTED_EVERY_MS
    if (news.incarnation !== host.incarnation || news.version !== host.version || host.problem !== null || isOld) {
      await own(parts.db.updateTable("hosts").set({ ...news, answered_at_ms: answeredAtMs })).execute()
    }
    return { host: { ...host, ...news, answeredAtMs }, client, hello }
  } catch (error) {
    const failure = overLine(host, error)
    if (failure.code === "other_gateway") await authorityLost(parts.db, host.tenant, host.host)
    if (failure.message !== host.problem) {
      await own(parts.db.updateTable("hosts").set({ problem: failure.message })).execute()
    }
    throw failure.code === "internal"
      ? new AppError("unreachable", `${host.name}: ${failure.message}`, { cause: error })
      : failure
  }
}

type Asked = Pick<Reached, "client" | "hello">

/**
 * A line that was made before the machine slept may be dead although nobody has said so, or lead to a host that was given to another
 * gateway meanwhile: then it is made anew, once, and says which.
 */
async function askAgain(parts: HostParts, host: KnownHost): Promise<Asked> {
  const wasUp = host.kind === "ssh" && parts.ssh.lineOf(placeOf(host))?.state === "up"
  try {
    return await ask(parts, host)
  } catch (error) {
    const { code } = toAppError(error)
    if (!wasUp || (code !== "unreachable" && code !== "wrong_token")) throw error
    // A transfer may fill a slow line for longer than a greeting is waited for; ssh itself tells when it is dead.
    if ((parts.inWords.get(host.host) ?? 0) > 0) throw error
    await parts.ssh.renew(placeOf(host))
    return await ask(parts, host)
  }
}

async function ask(parts: HostParts, host: KnownHost): Promise<Asked> {
  const { socket, token } = await provisionerOf(parts, host).connect(placeOf(host))
  const client = hostClient(unixFetcher(socket, { token }))
  const hello = await client.hello()
  if (hello.protocol !== PROTOCOL_VERSION) {
    throw new AppError("protocol_mismatch", `${host.name} speaks protocol ${hello.protocol}, not ${PROTOCOL_VERSION}`, {
      hint: host.kind === "ssh" ? `decamp hosts upgrade ${host.name}` : undefined,
    })
  }
  if (hello.host !== host.host) {
    throw new AppError("unreachable", `another host answers at ${host.root}`, { details: { host: hello.host } })
  }
  return { client, hello }
}

export async function infos(parts: HostParts, tenant: TenantId, only?: string): Promise<HostInfo[]> {
  const { hosts, ownedBy } = await shownHosts(parts, tenant, only)
  return await Promise.all(
    hosts.map(async (host) => {
      const reached =
        host.kind === "laptop" ? null : await reach(parts, host).catch((error: unknown) => toAppError(error))
      return infoOf(host, reached, ownedBy)
    }),
  )
}

/** Names of the workspaces that a host owns. */
export type OwnedBy = (host: KnownHost) => string[]

/** What a list has a row of. */
export async function shownHosts(
  { db }: HostParts,
  tenant: TenantId,
  only: string | undefined,
): Promise<{ readonly hosts: readonly KnownHost[]; readonly ownedBy: OwnedBy }> {
  const known = (await rowsOf(db, tenant)).filter((host) => !host.isRemoved)
  const owned = await db
    .selectFrom("workspaces")
    .select(["name", "owner_host"])
    .where("tenant", "=", tenant)
    .orderBy("name")
    .execute()
  return {
    hosts: only === undefined ? known : known.filter((host) => host.name === only),
    ownedBy: ({ host }) => owned.filter((row) => row.owner_host === host).map((row) => row.name),
  }
}

/** @param reached null: nobody can call it */
export function infoOf(host: KnownHost, reached: Reached | AppError | null, ownedBy: OwnedBy): HostInfo {
  const now = reached === null || reached instanceof AppError ? host : reached.host
  const failure = reached instanceof AppError ? reached : null
  return {
    id: host.host,
    name: host.name,
    kind: host.kind,
    incarnation: now.incarnation,
    root: host.root,
    // Whether a laptop is awake isn't known: nobody can call it.
    reachable: reached !== null && failure === null,
    version: now.version,
    workspacesOwned: ownedBy(host),
    problem: failure?.message ?? null,
    problemCode: failure?.code ?? null,
    hint: failure?.hint ?? null,
  }
}

export async function isDestroyed(parts: HostParts, tenant: TenantId, identity: HostIdentity): Promise<boolean> {
  const host = (await rowsOf(parts.db, tenant, identity.host))[0]
  if (host === undefined) return false
  if (isAnother(host.incarnation, identity.incarnation)) return true
  if (host.root === null) return false
  // Over SSH an empty HOME proves nothing: another gateway may have taken the host, brought its work home and removed it.
  if (host.kind === "local" && (await parts.local.status(placeOf(host))) === "gone") return true
  const reached = await reach(parts, host).catch(() => null)
  return reached !== null && isAnother(reached.hello.incarnation, identity.incarnation)
}

function isAnother(now: Incarnation, then: Incarnation): boolean {
  return now !== then
}

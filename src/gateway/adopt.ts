/**
 * `--adopt`: this gateway takes its record of workspaces from a host that it has just got the tokens of. For each claim in this order:
 * the owner object is in the store, then the row is written, then the host is told. After a crash anywhere the same command ends well.
 */
import type { StepListener } from "../client/http.ts"
import {
  adoptedObject,
  adoptedRecord,
  adoptionStamp,
  behindOwner,
  compareStamps,
  isConflict,
  type Stamp,
} from "../handoff/adopt.ts"
import { isSameObject } from "../handoff/record.ts"
import type { HostIdentity } from "../handoff/request.ts"
import { ALL_RULES } from "../handoff/rules.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { Adoption, Claim } from "../protocol/claims.ts"
import type { WorkspaceRow } from "../protocol/handoff.ts"
import type { HostId, TenantId } from "../protocol/ids.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { freeName, rowsOf, type Reached } from "./known-hosts.ts"
import { writeOwnerObject } from "./owner-objects.ts"
import type { Ownership } from "./ownership.ts"
import { refusalError } from "./refusals.ts"
import { insertRecord, savePlace } from "./store/records.ts"
import { workspaceOf } from "./store/rows.ts"
import type { GatewayDatabase } from "./store/schema.ts"

export interface AdoptParts {
  readonly db: GatewayDatabase
  readonly store: BlobStore
  readonly ownership: Ownership
  readonly nowMs: () => number
}

/**
 * Asks the host what it claims, and takes over what it owns. One workspace that can't be adopted never stops the others: what became
 * of each is answered, and told to the listener in words.
 * @throws {AppError} unreachable when the host can't be asked
 */
export async function adoptClaims(
  parts: AdoptParts,
  tenant: TenantId,
  reached: Reached,
  listener: StepListener,
): Promise<readonly Adoption[]> {
  const { claims } = await reached.client.claims()
  const adoptions: Adoption[] = []
  for (const claim of claims) {
    const adoption = await adoptOne(parts, tenant, reached, claim)
    adoptions.push(adoption)
    const text = sentenceOf(adoption, reached.host.name)
    listener({ type: WARNED.has(adoption.result) ? "warning" : "notice", text })
  }
  return adoptions
}

const WARNED: ReadonlySet<Adoption["result"]> = new Set(["handoff_open", "behind", "failed"])

/**
 * Another gateway has this host now. Of the workspaces that it owns there may be a newer record: until it is adopted here again, nothing
 * moves them, so that a laptop that was away takes nothing from the one that went on.
 */
export async function authorityLost(db: GatewayDatabase, tenant: TenantId, host: HostId): Promise<void> {
  const rows = await db
    .selectFrom("workspaces")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("owner_host", "=", host)
    .where("behind_host", "is", null)
    .execute()
  for (const workspace of rows.map(workspaceOf)) {
    const behind = behindOwner(workspace)
    await db
      .updateTable("workspaces")
      .set((column) => ({
        behind_generation: behind.generation,
        behind_epoch: behind.epoch,
        behind_host: behind.host,
        version: column("version", "+", 1),
      }))
      .where("tenant", "=", tenant)
      .where("id", "=", workspace.id)
      // Whoever adopted it meanwhile knows better.
      .where("generation", "=", workspace.generation)
      .where("epoch", "=", workspace.epoch)
      .execute()
  }
}

async function adoptOne(parts: AdoptParts, tenant: TenantId, reached: Reached, claim: Claim): Promise<Adoption> {
  const nothing = {
    workspace: claim.workspace,
    name: claim.name ?? claim.workspace,
    owner: null,
    epoch: claim.epoch,
    generation: claim.generation,
    directory: claim.directory,
    sessionCount: claim.sessionCount,
    handoff: claim.open[0]?.id ?? null,
    reason: null,
  }
  try {
    const record = await parts.ownership.load(tenant, claim.workspace)
    const before = record?.workspace ?? null
    const isOurs = claim.open.some(({ id }) => record?.handoffs.some((row) => row.id === id))
    if (before !== null && isConflict(before, claim, reached.host, ALL_RULES)) {
      const owner = await nameOf(parts, tenant, before)
      return { ...nothing, name: before.name, owner, result: "failed", reason: conflictWords(before, owner, reached) }
    }
    const after = await take(parts, tenant, reached.host, before, claim)
    if (after === null) {
      if (claim.open.length === 0) return { ...nothing, result: "copy" }
      return { ...nothing, result: "handoff_open", reason: openWords(claim, isOurs) }
    }
    const isOwner = after.ownerHost === reached.host.host && after.ownerIncarnation === reached.host.incarnation
    const { name, epoch, generation } = after
    const owner = await nameOf(parts, tenant, after)
    const known = { ...nothing, name, owner, epoch, generation }
    if (after.behind !== null) return { ...known, result: "behind", reason: behindWords(after.behind) }
    if (claim.open.length > 0) return { ...known, result: "handoff_open", reason: openWords(claim, isOurs) }
    await tell(reached, after, isOwner)
    if (!isOwner) return { ...known, result: claim.isLive ? "not_owner" : "copy" }
    const { directory, sessionCount } = claim
    if (directory !== null)
      await savePlace(parts.db, tenant, { workspace: after.id, host: after.ownerHost }, { directory, sessionCount })
    if (!isChanged(before, after)) return { ...known, result: "already_owner" }
    return { ...known, result: "adopted", reason: await takenFrom(parts, tenant, before, after) }
  } catch (error) {
    return { ...nothing, result: "failed", reason: toAppError(error).message }
  }
}

/** The workspace as it stands afterwards; null: there is no record of it here, and none is made. */
async function take(
  parts: AdoptParts,
  tenant: TenantId,
  by: HostIdentity,
  before: WorkspaceRow | null,
  claim: Claim,
): Promise<WorkspaceRow | null> {
  const { host, incarnation } = by
  const stamp = adoptionStamp(before, claim, by, ALL_RULES)
  if (before === null && stamp === null) return null
  const expected = stamp === null ? null : adoptedObject(before, stamp, by)
  const found = expected === null ? null : await writeOwnerObject(parts.store, tenant, claim.workspace, expected)
  if (before === null && stamp !== null) {
    if (expected === null || found === null || !isSameObject(found, expected)) {
      throw refusalError({ kind: "refused", code: "gateway_behind", details: {} })
    }
    return await create(parts, tenant, { host, incarnation }, claim, stamp)
  }
  const request = { request: "adopt", by: { host, incarnation }, claim, found } as const
  return (await parts.ownership.judge(tenant, claim.workspace, request)).workspace
}

async function create(
  { db, ownership, nowMs }: AdoptParts,
  tenant: TenantId,
  by: HostIdentity,
  claim: Claim,
  stamp: Stamp,
): Promise<WorkspaceRow> {
  for (;;) {
    const taken = new Set(
      (await db.selectFrom("workspaces").select("name").where("tenant", "=", tenant).execute()).map(({ name }) => name),
    )
    const name = freeName(claim.name ?? claim.workspace, taken)
    const record = adoptedRecord(stamp, claim, by, name, nowMs())
    try {
      await insertRecord(db, tenant, record)
      return record.workspace
    } catch (error) {
      const made = await ownership.load(tenant, claim.workspace)
      if (made !== null) return made.workspace
      // Another one took the name between the look and the write.
      const names = await db.selectFrom("workspaces").select("name").where("tenant", "=", tenant).execute()
      if (!names.some((row) => row.name === name)) throw error
    }
  }
}

async function tell({ client, host }: Reached, workspace: WorkspaceRow, isOwner: boolean): Promise<void> {
  const { id, generation, epoch, headCheckpoint: head } = workspace
  const { claim } = await client.adopted({ workspace: id, generation, epoch, isOwner, head })
  const isTaken = claim.generation === generation && claim.isLive === isOwner && (!isOwner || claim.epoch === epoch)
  if (isTaken) return
  const words = isOwner ? `does not go on as the owner of ${workspace.name}` : `does not give ${workspace.name} up`
  throw new AppError("internal", `${host.name} ${words} under epoch ${epoch}`)
}

function isChanged(before: WorkspaceRow | null, after: WorkspaceRow): boolean {
  return before === null || compareStamps(before, after) !== 0
}

/** Who was the owner here until now must be said: its newer work is saved there and is not merged. */
async function takenFrom(
  parts: AdoptParts,
  tenant: TenantId,
  before: WorkspaceRow | null,
  after: WorkspaceRow,
): Promise<string | null> {
  if (before === null || before.ownerHost === after.ownerHost) return null
  const owner = await nameOf(parts, tenant, before)
  return `it was ${owner}'s here until now (epoch ${before.epoch}), which keeps its newer work under refs/decamp/left`
}

async function nameOf({ db }: AdoptParts, tenant: TenantId, { ownerHost }: WorkspaceRow): Promise<string> {
  return (await rowsOf(db, tenant, ownerHost))[0]?.name ?? ownerHost
}

function openWords({ open, isLive }: Claim, isOurs: boolean): string {
  const [first] = open
  if (first === undefined) return ""
  const part = first.role === "source" ? "leaves it" : "receives it"
  const state = isLive ? "" : ", and it accepts no prompts there until that is over"
  const next = isOurs ? "decamp continue goes on with it" : "only the gateway that began it can continue or abandon it"
  return `hand-off ${first.id} is not over: this host ${part} (${first.phase})${state}; ${next}`
}

function conflictWords({ epoch, generation, ownerSinceMs }: WorkspaceRow, owner: string, { host }: Reached): string {
  const since = new Date(ownerSinceMs).toISOString()
  const both = `${host.name} says that it owns it under epoch ${epoch} of generation ${generation}, and so does ${owner}, since ${since}`
  return `${both}; one of the two must become a workspace of its own: decamp push --new-workspace there`
}

function behindWords({ generation, epoch }: NonNullable<WorkspaceRow["behind"]>): string {
  return `another gateway has moved it on (epoch ${epoch} of generation ${generation}); adopt the host that owns it now`
}

function sentenceOf(adoption: Adoption, host: string): string {
  const { name, owner, epoch, directory, sessionCount, reason } = adoption
  const sessions = sessionCount === 1 ? "1 session" : `${sessionCount} sessions`
  switch (adoption.result) {
    case "adopted":
      return `workspace ${name}: taken over (epoch ${epoch}, ${sessions}, ${directory ?? "no directory"}); ${host} goes on with it${reason === null ? "" : `; ${reason}`}`
    case "already_owner":
      return `workspace ${name}: ${host} owns it here already (epoch ${epoch})`
    case "not_owner":
      return `workspace ${name}: not taken over, ${owner} owns it since (epoch ${epoch}); ${host} has been told and keeps its newer work under refs/decamp/left`
    case "copy":
      return `workspace ${name}: ${host} has a copy and does not own it`
    case "handoff_open":
    case "behind":
    case "failed":
      return `workspace ${name}: not taken over: ${reason ?? "for an unknown reason"}`
  }
}

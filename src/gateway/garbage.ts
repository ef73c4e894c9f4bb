/**
 * Mark and sweep of one workspace's part of the store. Marked is what kept checkpoints name (retention.ts). Nobody sends a checkpoint
 * meanwhile (uploads.ts), so what is listed at the beginning and not marked then is nobody's. A manifest goes before its blobs: a sweep
 * that is killed leaves nothing that looks complete and isn't, and the next one goes on.
 */
import type { Selectable } from "kysely"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { Swept } from "../protocol/garbage.ts"
import {
  checkpointIdSchema,
  nameSchema,
  workspaceIdSchema,
  type CheckpointId,
  type TenantId,
  type WorkspaceId,
} from "../protocol/ids.ts"
import { manifestSchema } from "../protocol/manifest.ts"
import type { BlobStore, Unfinished } from "../storage/blob-store.ts"
import { blobKey, blobPrefix, manifestKey } from "../storage/keys.ts"
import type { Log } from "./app.ts"
import { ownerObjectSchema } from "./owner-objects.ts"
import { keptCheckpoints, type Candidate, type Retention } from "./retention.ts"
import { isUnsettledRow } from "./store/loading.ts"
import type { Db } from "./store/records.ts"
import type { GatewayDatabase, WorkspaceTable } from "./store/schema.ts"
import { lockUnswept, SKEW_MS } from "./uploads.ts"

export interface GarbageParts {
  readonly db: GatewayDatabase
  readonly store: BlobStore & Unfinished
  /** Of workspaces that say nothing themselves. */
  readonly retention: Retention
  readonly nowMs: () => number
  readonly log: Log
}

/** Longer than the removal of one object can take, with all its tries (s3.ts). */
const LEASE_MS = 120_000
/** With less left the lease is renewed before anything else is removed. */
const RENEW_MS = 90_000
const AT_ONCE = 8

/** Removes what no checkpoint that stays needs; nothing when an upload is under way or another process is at it. */
export async function sweepWorkspace(
  parts: GarbageParts,
  tenant: TenantId,
  workspace: WorkspaceId,
  isDryRun: boolean,
): Promise<Swept> {
  const by = crypto.randomUUID()
  const place = { tenant, workspace, by }
  const row = await rowOf(parts.db, tenant, workspace)
  const nothing = { workspace, name: nameSchema.parse(row.name), checkpoints: 0, blobs: 0, bytes: 0 }
  const isFree = isDryRun ? !(await hasUploads(parts.db, place, parts.nowMs())) : await begin(parts, place)
  if (!isFree) return { ...nothing, problem: "a checkpoint is on its way, or another process is at it" }
  try {
    // Read again: until the sweep began, the workspace had other writers.
    const found = await look(parts, tenant, await rowOf(parts.db, tenant, workspace))
    if (!isDryRun) await remove(parts, place, found)
    const { checkpoints, blobs } = found
    const bytes = [...blobs.values(), ...checkpoints.values()].reduce((sum, size) => sum + size, 0)
    return { ...nothing, checkpoints: checkpoints.size, blobs: blobs.size, bytes, problem: null }
  } catch (error) {
    const failure = toAppError(error)
    if (failure.code === "internal") parts.log("a sweep failed", { workspace, message: failure.message })
    return { ...nothing, problem: failure.message }
  } finally {
    if (!isDryRun) await end(parts, place)
  }
}

interface Place {
  readonly tenant: TenantId
  readonly workspace: WorkspaceId
  readonly by: string
}

async function rowOf(
  db: GatewayDatabase,
  tenant: TenantId,
  workspace: WorkspaceId,
): Promise<Selectable<WorkspaceTable>> {
  const query = db.selectFrom("workspaces").selectAll().where("tenant", "=", tenant).where("id", "=", workspace)
  const row = await query.executeTakeFirst()
  if (row === undefined) throw new AppError("unknown_workspace", `there is no workspace ${workspace}`)
  return row
}

async function begin({ db, nowMs }: GarbageParts, { tenant, workspace, by }: Place): Promise<boolean> {
  return await db.transaction().execute(async (transaction) => {
    // First: whoever inserts a row of an upload at the same time has done so when this returns, or waits until the end of the sweep.
    if (!(await lockUnswept(transaction, { tenant, workspace }, nowMs()))) return false
    if (await hasUploads(transaction, { tenant, workspace }, nowMs())) return false
    await transaction.deleteFrom("uploads").where("tenant", "=", tenant).where("workspace", "=", workspace).execute()
    await transaction
      .updateTable("workspaces")
      .set({ sweep_by: by, sweep_until_ms: nowMs() + LEASE_MS })
      .where("tenant", "=", tenant)
      .where("id", "=", workspace)
      .execute()
    return true
  })
}

async function hasUploads(db: Db, { tenant, workspace }: Omit<Place, "by">, nowMs: number): Promise<boolean> {
  const live = await db
    .selectFrom("uploads")
    .select("checkpoint")
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("expires_at_ms", ">", nowMs - SKEW_MS)
    .limit(1)
    .execute()
  return live.length > 0
}

/** From then on `sweep_until_ms` says when it was swept last. */
async function end({ db, nowMs }: GarbageParts, { tenant, workspace, by }: Place): Promise<void> {
  await db
    .updateTable("workspaces")
    .set({ sweep_by: null, sweep_until_ms: nowMs() })
    .where("tenant", "=", tenant)
    .where("id", "=", workspace)
    .where("sweep_by", "=", by)
    .execute()
}

interface Found {
  /** Sizes of the manifests of checkpoints that go. */
  readonly checkpoints: ReadonlyMap<CheckpointId, number>
  /** Sizes by key. */
  readonly blobs: ReadonlyMap<string, number>
}

async function look(parts: GarbageParts, tenant: TenantId, row: Selectable<WorkspaceTable>): Promise<Found> {
  const { store, nowMs } = parts
  const workspace = workspaceIdSchema.parse(row.id)
  const manifests = new Map<CheckpointId, number>()
  for (const [key, size] of await store.list(`${tenant}/${workspace}/manifests/`)) {
    manifests.set(checkpointIdSchema.parse(key.split("/").at(-1)), size)
  }
  const stored = await store.list(blobPrefix(tenant, workspace))
  const known = await checkpointsOf(parts.db, tenant, workspace)
  const inUse = await checkpointsInUse(parts, tenant, row)
  const reader = manifestReader(store, tenant, workspace)
  // One that nobody recorded: of an upload that was given up, or newer than a database that was restored. As old as it says itself.
  const recorded = new Set([...known.map(({ id }) => id), ...(await sweptOf(parts.db, tenant, workspace))])
  const strangers: Candidate[] = []
  const unrecorded = [...manifests.keys()].filter((id) => !recorded.has(id))
  await inBatches(unrecorded, async (id) => {
    strangers.push({ id, createdAtMs: (await reader(id)).createdAtMs, isPinned: false })
  })
  const retention = {
    keepLast: row.keep_last ?? parts.retention.keepLast,
    keepDays: row.keep_days ?? parts.retention.keepDays,
  }
  const kept = keptCheckpoints(known, inUse, retention, nowMs())
  for (const id of keptCheckpoints(strangers, inUse, { ...retention, keepLast: 0 }, nowMs())) kept.add(id)
  const marked = new Set<string>()
  await inBatches(
    [...manifests.keys()].filter((id) => kept.has(id)),
    async (id) => {
      for (const blob of (await reader(id)).blobs) marked.add(blobKey(tenant, workspace, blob.id))
    },
  )
  return {
    checkpoints: new Map([...manifests].filter(([id]) => !kept.has(id))),
    blobs: new Map([...stored].filter(([key]) => !marked.has(key))),
  }
}

/** @throws {AppError} damaged_data: what a manifest names that can't be read is not known, and nothing may go */
function manifestReader(store: BlobStore, tenant: TenantId, workspace: WorkspaceId) {
  return async (id: CheckpointId) => {
    const found = await store.get(manifestKey(tenant, workspace, id))
    try {
      return manifestSchema.parse(JSON.parse((await found?.content.text()) ?? ""))
    } catch (cause) {
      if (cause instanceof AppError) throw cause
      throw new AppError("damaged_data", `the manifest of checkpoint ${id} can't be read: nothing is removed`, {
        cause,
      })
    }
  }
}

async function checkpointsOf(db: GatewayDatabase, tenant: TenantId, workspace: WorkspaceId): Promise<Candidate[]> {
  const rows = await db
    .selectFrom("checkpoints")
    .select(["id", "created_at_ms", "pinned"])
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("committed", "<>", SWEPT)
    .execute()
  return rows.map((row) => ({
    id: checkpointIdSchema.parse(row.id),
    createdAtMs: row.created_at_ms,
    isPinned: row.pinned === 1,
  }))
}

async function sweptOf(db: GatewayDatabase, tenant: TenantId, workspace: WorkspaceId): Promise<CheckpointId[]> {
  const rows = await db
    .selectFrom("checkpoints")
    .select("id")
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("committed", "=", SWEPT)
    .execute()
  return rows.map(({ id }) => checkpointIdSchema.parse(id))
}

/** In `committed`: it was, and its contents are no more. It still is a link between older and newer ones. */
const SWEPT = 2

/** The head, those of hand-offs of which something is left to be told, and that of the newest owner, in the database and the store. */
async function checkpointsInUse(
  { db, store }: GarbageParts,
  tenant: TenantId,
  row: Selectable<WorkspaceTable>,
): Promise<Set<string>> {
  const ofTenant = <T extends { checkpoint: string | null }>(rows: readonly T[]) => rows.map((each) => each.checkpoint)
  const handoffs = await db
    .selectFrom("handoffs")
    .select("checkpoint")
    .where("tenant", "=", tenant)
    .where("workspace", "=", row.id)
    .where(isUnsettledRow)
    .execute()
  const owners = await db
    .selectFrom("owner_history")
    .select("checkpoint")
    .where("tenant", "=", tenant)
    .where("workspace", "=", row.id)
    .orderBy("generation", "desc")
    .orderBy("epoch", "desc")
    .limit(1)
    .execute()
  const stored = await newestOwner(store, tenant, row)
  const all = [row.head_checkpoint, ...ofTenant(handoffs), ...ofTenant(owners), stored]
  return new Set(all.filter((id) => id !== null))
}

/** @throws {AppError} gateway_behind when the store knows of a later owner: this database is not the newest */
async function newestOwner(
  store: BlobStore,
  tenant: TenantId,
  row: Selectable<WorkspaceTable>,
): Promise<string | null> {
  const prefix = `${tenant}/${row.id}/owners/`
  const [newest] = [...(await store.list(prefix)).keys()]
    .map((key) => ({ key, at: key.slice(prefix.length).split("-").map(Number) }))
    .toSorted((one, other) => (other.at[0] ?? 0) - (one.at[0] ?? 0) || (other.at[1] ?? 0) - (one.at[1] ?? 0))
  if (newest === undefined) return null
  const [generation = 0, epoch = 0] = newest.at
  if (generation > row.generation || (generation === row.generation && epoch > row.epoch)) {
    throw new AppError("gateway_behind", `the store knows of a later owner of ${row.name}: nothing is removed`)
  }
  const found = await store.get(newest.key)
  return found === null ? null : ownerObjectSchema.parse(JSON.parse(await found.content.text())).checkpoint
}

/** What came of an upload that broke off so long ago is not waited for any more. */
const UNFINISHED_MS = 24 * 3_600_000

async function remove(parts: GarbageParts, place: Place, { checkpoints, blobs }: Found): Promise<void> {
  const { store, db, nowMs } = parts
  const { tenant, workspace } = place
  const lease = leaseOf(parts, place)
  const ids = [...checkpoints.keys()]
  for (let at = 0; at < ids.length; at += 500) await forget(db, place, ids.slice(at, at + 500))
  for (const keys of [ids.map((id) => manifestKey(tenant, workspace, id)), [...blobs.keys()]]) {
    await inBatches(keys, async (key) => {
      await lease()
      await store.delete(key)
    })
  }
  await lease()
  await store.dropUnfinished(`${tenant}/${workspace}/`, nowMs() - UNFINISHED_MS)
}

/** From then on nobody is offered them. @throws {AppError} busy when one has been pinned meanwhile */
async function forget(db: GatewayDatabase, { tenant, workspace }: Place, ids: readonly CheckpointId[]): Promise<void> {
  await db
    .updateTable("checkpoints")
    .set({ committed: SWEPT })
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("id", "in", ids)
    .where((where) => where.or([where("pinned", "is", null), where("pinned", "=", 0)]))
    .execute()
  const pinned = await db
    .selectFrom("checkpoints")
    .select("id")
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("id", "in", ids)
    .where("committed", "<>", SWEPT)
    .limit(1)
    .execute()
  if (pinned.length > 0) throw new AppError("busy", `checkpoint ${pinned[0]?.id} has been pinned meanwhile`)
}

/** Renewed in time, or nothing else is removed. */
function leaseOf({ db, nowMs }: GarbageParts, { tenant, workspace, by }: Place): () => Promise<void> {
  // Of two clocks: one stands still while a machine sleeps, the other may be set.
  const clocks = [() => performance.now(), () => Date.now()] as const
  let untils = clocks.map((clock) => clock() + LEASE_MS)
  const leftMs = (): number => Math.min(...clocks.map((clock, at) => (untils[at] ?? 0) - clock()))
  let renewing: Promise<void> | null = null
  const renew = async (): Promise<void> => {
    const next = clocks.map((clock) => clock() + LEASE_MS)
    const { numUpdatedRows } = await db
      .updateTable("workspaces")
      .set({ sweep_until_ms: nowMs() + LEASE_MS })
      .where("tenant", "=", tenant)
      .where("id", "=", workspace)
      .where("sweep_by", "=", by)
      .executeTakeFirst()
    if (numUpdatedRows === 0n || leftMs() < 0) {
      throw new AppError("busy", "another process removes garbage of this workspace")
    }
    untils = next
  }
  return async () => {
    if (leftMs() > RENEW_MS) return
    await (renewing ??= renew().finally(() => (renewing = null)))
  }
}

async function inBatches<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += AT_ONCE) {
    // All of them end before anything else is done, also when one fails: the lease is not given back under a removal.
    const ended = await Promise.allSettled(items.slice(at, at + AT_ONCE).map(work))
    for (const each of ended) if (each.status === "rejected") throw each.reason
  }
}

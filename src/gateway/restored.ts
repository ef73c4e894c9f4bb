/** A database that went back: before ownership may move, the newest owner object in the store is asked (specification, section 7). */
import type { RestoreRequest } from "../handoff/request.ts"
import { isRestored, restoredObject } from "../handoff/restore.ts"
import type { GatewayRecord, OwnerObject } from "../handoff/record.ts"
import { AppError } from "../protocol/errors.ts"
import type { CheckpointRow } from "../protocol/handoff.ts"
import type { TenantId, WorkspaceId } from "../protocol/ids.ts"
import { MANIFEST_MAX_BYTES, manifestSchema } from "../protocol/manifest.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { manifestKey, ownerPrefix } from "../storage/keys.ts"
import type { Log } from "./app.ts"
import { readOwnerObject, writeOwnerObject } from "./owner-objects.ts"

export interface Restored {
  /** Brings the record to what the store knows; answers whether it was older. One listing. */
  check(tenant: TenantId, workspace: WorkspaceId): Promise<boolean>
  /** The same, once for each workspace in the life of this process. */
  checkOnce(tenant: TenantId, workspace: WorkspaceId): Promise<boolean>
}

export interface RestoredParts {
  readonly store: BlobStore
  readonly log: Log
  readonly load: (tenant: TenantId, workspace: WorkspaceId) => Promise<GatewayRecord | null>
  /** Judges and writes. */
  readonly restore: (tenant: TenantId, workspace: WorkspaceId, request: RestoreRequest) => Promise<void>
}

/** So many workspaces are remembered as checked; beyond, the oldest are checked again. */
const REMEMBERED = 100_000

export function restored(parts: RestoredParts): Restored {
  const checked = new Set<string>()
  const check: Restored["check"] = async (tenant, workspace) => {
    const isOlder = await bringForward(parts, tenant, workspace)
    checked.add(`${tenant}/${workspace}`)
    const [oldest] = checked
    if (checked.size > REMEMBERED && oldest !== undefined) checked.delete(oldest)
    return isOlder
  }
  return {
    check,
    checkOnce: async (tenant, workspace) =>
      checked.has(`${tenant}/${workspace}`) ? false : await check(tenant, workspace),
  }
}

async function bringForward(
  { store, log, load, restore }: RestoredParts,
  tenant: TenantId,
  workspace: WorkspaceId,
): Promise<boolean> {
  const newest = await newestStamp(store, tenant, workspace)
  const record = newest === null ? null : await load(tenant, workspace)
  if (newest === null || record === null) return false
  const { generation, epoch } = newest
  if (!isNewer(record, newest)) return false
  const object = await readOwnerObject(store, tenant, workspace, newest)
  if (!isRestored(record, object)) return false
  const checkpoint = object.checkpoint === null ? null : await checkpointIn(store, tenant, workspace, object)
  const found = await writeOwnerObject(store, tenant, workspace, restoredObject(object))
  await restore(tenant, workspace, { request: "restore", newest: object, found, checkpoint })
  const was = { generation: record.workspace.generation, epoch: record.workspace.epoch }
  log("the database is older than the store: the owner there wins", { workspace, was, is: { generation, epoch } })
  return true
}

/** A flip of ours is in the database before its object is in the store: only the other way round is a database that went back. */
function isNewer(
  { workspace }: GatewayRecord,
  newest: { readonly generation: number; readonly epoch: number },
): boolean {
  return (newest.generation - workspace.generation || newest.epoch - workspace.epoch) > 0
}

async function newestStamp(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
): Promise<{ readonly generation: number; readonly epoch: number } | null> {
  let newest: { generation: number; epoch: number } | null = null
  for (const key of (await store.list(ownerPrefix(tenant, workspace))).keys()) {
    const [generation = 0, epoch = 0] = (key.split("/").at(-1) ?? "").split("-").map(Number)
    const order = newest === null ? 1 : generation - newest.generation || epoch - newest.epoch
    if (order > 0) newest = { generation, epoch }
  }
  return newest
}

/** The row that the database has lost, from the manifest, which names everything in it. */
async function checkpointIn(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  { checkpoint, generation, epoch }: OwnerObject,
): Promise<CheckpointRow | null> {
  if (checkpoint === null) return null
  const broken = (cause?: unknown): AppError =>
    new AppError(
      "gateway_behind",
      `the checkpoint of owner record ${generation}-${epoch} of ${workspace} can't be read`,
      {
        cause,
        hint: "restore the store as it was, or take the record from the host that owns it: decamp hosts add … --adopt",
      },
    )
  const found = await store.get(manifestKey(tenant, workspace, checkpoint))
  if (found === null || found.sizeBytes > MANIFEST_MAX_BYTES) throw broken()
  try {
    const manifest = manifestSchema.parse(JSON.parse(await found.content.text()))
    return {
      id: checkpoint,
      workspace,
      epoch: manifest.epoch,
      creatorHost: manifest.creator.host,
      creatorIncarnation: manifest.creator.incarnation,
      parent: manifest.parent,
      kind: manifest.kind,
      committed: true,
      createdAtMs: manifest.createdAtMs,
    }
  } catch (error) {
    throw broken(error)
  }
}

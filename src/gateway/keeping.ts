/** What a person says about what the sweep leaves: how much of a workspace, and which checkpoints. */
import type { Selectable } from "kysely"
import { AppError } from "../protocol/errors.ts"
import type { Keeping, KeepingAnswer } from "../protocol/garbage.ts"
import { checkpointIdSchema, nameSchema, workspaceIdSchema, type CheckpointId, type TenantId } from "../protocol/ids.ts"
import type { GarbageParts } from "./garbage.ts"
import { unknownWorkspace } from "./ownership.ts"
import type { Db } from "./store/records.ts"
import type { WorkspaceTable } from "./store/schema.ts"
import { lockUnswept } from "./uploads.ts"

type KeepingParts = Pick<GarbageParts, "db" | "retention" | "nowMs">

/** @param workspace id or name. @throws {AppError} unknown_workspace */
export async function keepingOf(
  { db, retention }: KeepingParts,
  tenant: TenantId,
  workspace: string,
): Promise<KeepingAnswer> {
  const row = await rowOf(db, tenant, workspace)
  const pinned = await db
    .selectFrom("checkpoints")
    .select("id")
    .where("tenant", "=", tenant)
    .where("workspace", "=", row.id)
    .where("pinned", "=", 1)
    .where("committed", "=", 1)
    .orderBy("created_at_ms", "desc")
    .execute()
  return {
    workspace: nameSchema.parse(row.name),
    own: { keepLast: row.keep_last, keepDays: row.keep_days },
    inForce: { keepLast: row.keep_last ?? retention.keepLast, keepDays: row.keep_days ?? retention.keepDays },
    pinned: pinned.map(({ id }) => checkpointIdSchema.parse(id)),
  }
}

/** @throws {AppError} unknown_workspace; busy while garbage is being removed */
export async function changeKeeping(
  parts: KeepingParts,
  tenant: TenantId,
  workspace: string,
  { keepLast, keepDays }: Keeping,
): Promise<KeepingAnswer> {
  const { id } = await rowOf(parts.db, tenant, workspace)
  await unswept(parts, tenant, id, async (transaction) => {
    await transaction
      .updateTable("workspaces")
      .set({ keep_last: keepLast, keep_days: keepDays })
      .where("tenant", "=", tenant)
      .where("id", "=", id)
      .execute()
  })
  return await keepingOf(parts, tenant, id)
}

/**
 * Answers whether anything changed.
 * @throws {AppError} unknown_workspace; not_found for a checkpoint that the workspace has not, or whose contents are gone; busy
 */
export async function pinCheckpoint(
  parts: KeepingParts,
  tenant: TenantId,
  workspace: string,
  { checkpoint, isPinned }: { readonly checkpoint: CheckpointId; readonly isPinned: boolean },
): Promise<boolean> {
  const { id } = await rowOf(parts.db, tenant, workspace)
  return await unswept(parts, tenant, id, async (transaction) => {
    const mine = await transaction
      .selectFrom("checkpoints")
      .select("pinned")
      .where("tenant", "=", tenant)
      .where("workspace", "=", id)
      .where("id", "=", checkpoint)
      .where("committed", "=", 1)
      .executeTakeFirst()
    if (mine === undefined) {
      throw new AppError("not_found", `there is no checkpoint ${checkpoint} of ${workspace}`, { hint: "decamp log" })
    }
    if ((mine.pinned === 1) === isPinned) return false
    await transaction
      .updateTable("checkpoints")
      .set({ pinned: isPinned ? 1 : null })
      .where("tenant", "=", tenant)
      .where("workspace", "=", id)
      .where("id", "=", checkpoint)
      .execute()
    return true
  })
}

const WAIT_MS = 20_000
const POLL_MS = 250

/** In a transaction during which nobody removes garbage of the workspace: what a sweep has read of it stays true until its end. */
async function unswept<T>(
  { db, nowMs }: KeepingParts,
  tenant: TenantId,
  id: string,
  work: (transaction: Db) => Promise<T>,
): Promise<T> {
  for (const until = performance.now() + WAIT_MS; performance.now() < until; await Bun.sleep(POLL_MS)) {
    const done = await db.transaction().execute(async (transaction) => {
      const place = { tenant, workspace: workspaceIdSchema.parse(id) }
      return (await lockUnswept(transaction, place, nowMs())) ? { result: await work(transaction) } : null
    })
    if (done !== null) return done.result
  }
  throw new AppError("busy", "garbage of the workspace is being removed", { hint: "try again in a moment" })
}

async function rowOf(db: Db, tenant: TenantId, idOrName: string): Promise<Selectable<WorkspaceTable>> {
  const rows = await db
    .selectFrom("workspaces")
    .selectAll()
    .where("tenant", "=", tenant)
    .where((where) => where.or([where("id", "=", idOrName), where("name", "=", idOrName)]))
    .execute()
  // A name that is spelled like the id of another workspace doesn't hide that one.
  const row = rows.find(({ id }) => id === idOrName) ?? rows[0]
  if (row === undefined) throw unknownWorkspace(idOrName)
  return row
}

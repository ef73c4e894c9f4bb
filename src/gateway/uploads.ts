/**
 * Between those who send checkpoints and whoever removes garbage: never both at one workspace. What a checkpoint will name is kept by a
 * row from before it is planned until it is committed; while such a row lives no sweep begins, and while a sweep lasts no row is made.
 * Both begin by writing the workspace's row, so that one of two at once waits for the other on Postgres too.
 */
import { AppError } from "../protocol/errors.ts"
import type { CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import type { Db } from "./store/records.ts"
import type { GatewayDatabase } from "./store/schema.ts"

/** Longer than an address of an upload may be used (checkpoints.ts). */
const HOLD_MS = 2 * 3_600_000
/** By so much the clocks of two gateways may differ. */
export const SKEW_MS = 60_000
const WAIT_MS = 100_000
const POLL_MS = 250

export interface Held {
  readonly tenant: TenantId
  readonly workspace: WorkspaceId
  readonly checkpoint: CheckpointId
}

/**
 * Keeps what this checkpoint will name; waits while garbage is being removed.
 * @param bytes stored bytes that it names; null: as was said before
 * @throws {AppError} busy when the sweep takes too long
 */
export async function holdUpload(
  db: GatewayDatabase,
  held: Held,
  nowMs: () => number,
  bytes: number | null = null,
  pollMs = POLL_MS,
): Promise<void> {
  if (bytes === null && (await extend(db, held, nowMs()))) return
  for (const until = performance.now() + WAIT_MS; performance.now() < until; await Bun.sleep(pollMs)) {
    if (await insert(db, held, nowMs(), bytes ?? 0)) return
  }
  throw new AppError("busy", `garbage of workspace ${held.workspace} is being removed`, {
    hint: "try again in a moment",
  })
}

/** A row that lives by anybody's clock goes on living. */
async function extend(db: GatewayDatabase, held: Held, nowMs: number): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable("uploads")
    .set({ expires_at_ms: nowMs + HOLD_MS })
    .where("tenant", "=", held.tenant)
    .where("workspace", "=", held.workspace)
    .where("checkpoint", "=", held.checkpoint)
    .where("expires_at_ms", ">", nowMs + SKEW_MS)
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

async function insert(db: GatewayDatabase, held: Held, nowMs: number, bytes: number): Promise<boolean> {
  return await db.transaction().execute(async (transaction) => {
    if (!(await lockUnswept(transaction, held, nowMs))) return false
    const expires = { expires_at_ms: nowMs + HOLD_MS }
    const { tenant, workspace, checkpoint } = held
    await transaction
      .insertInto("uploads")
      .values({ tenant, workspace, checkpoint, started_at_ms: nowMs, bytes, ...expires })
      .onConflict((conflict) => conflict.columns(["tenant", "workspace", "checkpoint"]).doUpdateSet(expires))
      .execute()
    return true
  })
}

/** Whether nobody sweeps the workspace; then nobody begins to before this transaction ends. */
export async function lockUnswept(
  transaction: Db,
  { tenant, workspace }: Pick<Held, "tenant" | "workspace">,
  nowMs: number,
): Promise<boolean> {
  const { numUpdatedRows } = await transaction
    .updateTable("workspaces")
    .set((row) => ({ sweep_by: row.ref("sweep_by") }))
    .where("tenant", "=", tenant)
    .where("id", "=", workspace)
    .where((where) => where.or([where("sweep_by", "is", null), where("sweep_until_ms", "<", nowMs)]))
    .executeTakeFirst()
  return numUpdatedRows > 0n
}

/**
 * Ends the keeping, in the transaction that records the checkpoint.
 * @throws {AppError} busy when it had ended: something of the checkpoint may have been removed since it was looked at
 */
export async function endHold(transaction: Db, held: Held, nowMs: number): Promise<void> {
  const { numDeletedRows } = await transaction
    .deleteFrom("uploads")
    .where("tenant", "=", held.tenant)
    .where("workspace", "=", held.workspace)
    .where("checkpoint", "=", held.checkpoint)
    .where("expires_at_ms", ">", nowMs)
    .executeTakeFirst()
  if (numDeletedRows > 0n) return
  throw new AppError("busy", `checkpoint ${held.checkpoint} took too long to be recorded`, { hint: "try again" })
}

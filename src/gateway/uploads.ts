/**
 * Between those who send checkpoints and whoever removes garbage: never both at one workspace. What a checkpoint will name is kept by a
 * row from before it is planned until it is committed; while such a row lives no sweep begins, and while a sweep lasts no row is made.
 * Both lock the workspace's row, so that one of two at once waits for the other on Postgres too.
 */
import { PostgresAdapter } from "kysely"
import { AppError } from "../protocol/errors.ts"
import type { CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import type { Db } from "./store/records.ts"
import type { GatewayDatabase } from "./store/schema.ts"

/** Longer than an address of an upload may be used (checkpoints.ts). */
const HOLD_MS = 2 * 3_600_000
/** What is left of it when a checkpoint is looked at and recorded. */
const ENOUGH_MS = 20 * 60_000
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
  const untilMs = alive.get(db)?.get(keyOf(held)) ?? 0
  if (untilMs > nowMs + ENOUGH_MS) return true
  const { numUpdatedRows } = await db
    .updateTable("uploads")
    .set({ expires_at_ms: nowMs + HOLD_MS })
    .where("tenant", "=", held.tenant)
    .where("workspace", "=", held.workspace)
    .where("checkpoint", "=", held.checkpoint)
    .where("expires_at_ms", ">", nowMs + SKEW_MS)
    .executeTakeFirst()
  if (numUpdatedRows > 0n) remember(db, held, nowMs + HOLD_MS)
  return numUpdatedRows > 0n
}

/** One statement: a row for as long as nobody sweeps. On Postgres the workspace's row is locked with it, as a sweep's beginning does. */
async function insert(db: GatewayDatabase, held: Held, nowMs: number, bytes: number): Promise<boolean> {
  const expires_at_ms = nowMs + HOLD_MS
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter
  const { numInsertedOrUpdatedRows } = await db
    .insertInto("uploads")
    .columns(["tenant", "workspace", "checkpoint", "started_at_ms", "expires_at_ms", "bytes"])
    .expression((build) =>
      build
        .selectFrom("workspaces")
        .select((row) => [
          "workspaces.tenant",
          "workspaces.id",
          row.val(held.checkpoint).as("checkpoint"),
          row.val(nowMs).as("started_at_ms"),
          row.val(expires_at_ms).as("expires_at_ms"),
          row.val(bytes).as("bytes"),
        ])
        .where("tenant", "=", held.tenant)
        .where("id", "=", held.workspace)
        .where((where) => where.or([where("sweep_by", "is", null), where("sweep_until_ms", "<", nowMs)]))
        .$if(isPostgres, (query) => query.forShare()),
    )
    .onConflict((conflict) => conflict.columns(["tenant", "workspace", "checkpoint"]).doUpdateSet({ expires_at_ms }))
    .executeTakeFirst()
  if ((numInsertedOrUpdatedRows ?? 0n) === 0n) return false
  remember(db, held, expires_at_ms)
  return true
}

/** Rows that this process made or saw alive, and until when they live: nothing but their own commit ends them before. */
const alive = new WeakMap<GatewayDatabase, Map<string, number>>()
const REMEMBERED = 10_000

function keyOf({ tenant, workspace, checkpoint }: Held): string {
  return `${tenant}/${workspace}/${checkpoint}`
}

function remember(db: GatewayDatabase, held: Held, untilMs: number): void {
  const known = alive.get(db) ?? new Map<string, number>()
  alive.set(db, known)
  known.delete(keyOf(held))
  known.set(keyOf(held), untilMs)
  const [oldest] = known.keys()
  if (known.size > REMEMBERED && oldest !== undefined) known.delete(oldest)
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

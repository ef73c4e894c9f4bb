/** The rows of the gateway's records: written whole, by whoever read their newest version (loading.ts). */
import type { Kysely, Transaction } from "kysely"
import { FIRST_GENERATION, isSettled, type GatewayRecord } from "../../handoff/record.ts"
import type { HandoffRow } from "../../protocol/handoff.ts"
import { tenantIdSchema, type HandoffId, type HostId, type TenantId, type WorkspaceId } from "../../protocol/ids.ts"
import { isUnsettledRow, type Loaded } from "./loading.ts"
import { checkpointValues, handoffOf, handoffValues, ownerValues, workspaceValues } from "./rows.ts"
import type { GatewayDatabase, GatewayTables } from "./schema.ts"

export type Db = Kysely<GatewayTables> | Transaction<GatewayTables>

/** Writes the record of a workspace that has none yet. */
export async function insertRecord(db: GatewayDatabase, tenant: TenantId, record: GatewayRecord): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    await transaction.insertInto("workspaces").values(workspaceValues(tenant, record.workspace)).execute()
    const owners = record.owners.map((owner) => ownerValues(tenant, owner))
    await transaction.insertInto("owner_history").values(owners).execute()
  })
}

/** Where a workspace lies on a host, for lists. */
export async function savePlace(
  db: GatewayDatabase,
  tenant: TenantId,
  { workspace, host }: { readonly workspace: WorkspaceId; readonly host: HostId },
  { directory, sessionCount }: { readonly directory: string; readonly sessionCount: number },
): Promise<void> {
  const said = { directory, session_count: sessionCount }
  await db
    .insertInto("places")
    .values({ tenant, workspace, host, ...said })
    .onConflict((conflict) => conflict.columns(["tenant", "workspace", "host"]).doUpdateSet(said))
    .execute()
}

/** The newest generation of a tenant's workspaces; that of a new one when there is none. */
export async function newestGeneration(db: Db, tenant: TenantId): Promise<number> {
  const row = await db
    .selectFrom("workspaces")
    .select("generation")
    .where("tenant", "=", tenant)
    .orderBy("generation", "desc")
    .limit(1)
    .executeTakeFirst()
  return row?.generation ?? FIRST_GENERATION
}

/**
 * Writes what differs, by reference, between two records of one workspace; nothing when another one has written since that version was
 * read. Answers whether it was written.
 * @param also more that is written with it, in the same transaction
 */
export async function saveRecord(
  db: GatewayDatabase,
  tenant: TenantId,
  { record: before, version }: Loaded,
  after: GatewayRecord,
  also: (transaction: Db) => Promise<void> = async () => {},
): Promise<boolean> {
  return await db.transaction().execute(async (transaction) => {
    const { tenant: _tenant, id, ...values } = workspaceValues(tenant, after.workspace)
    const { numUpdatedRows } = await transaction
      .updateTable("workspaces")
      .set({ ...(after.workspace === before.workspace ? {} : values), version: version + 1 })
      .where("tenant", "=", tenant)
      .where("id", "=", id)
      .where("version", "=", version)
      .executeTakeFirst()
    // Nothing has been written yet in this transaction.
    if (numUpdatedRows === 0n) return false
    await saveHandoffs(transaction, tenant, before, after)
    await saveOwners(transaction, tenant, before, after)
    await saveCheckpoints(transaction, tenant, before, after)
    await also(transaction)
    return true
  })
}

async function saveHandoffs(db: Db, tenant: TenantId, before: GatewayRecord, after: GatewayRecord): Promise<void> {
  // Rows that leave the unique index are written before one that enters it.
  const changed = after.handoffs.filter((row) => !before.handoffs.includes(row))
  const known = new Set(before.handoffs.map((row) => row.id))
  for (const row of changed.filter((each) => known.has(each.id))) {
    const { tenant: _tenant, id, ...values } = handoffValues(tenant, row)
    await db.updateTable("handoffs").set(values).where("tenant", "=", tenant).where("id", "=", id).execute()
  }
  const made = changed.filter((row) => !known.has(row.id)).map((row) => handoffValues(tenant, row))
  if (made.length > 0) await db.insertInto("handoffs").values(made).execute()
}

async function saveOwners(db: Db, tenant: TenantId, before: GatewayRecord, after: GatewayRecord): Promise<void> {
  for (const owner of after.owners.filter((each) => !before.owners.includes(each))) {
    await db
      .insertInto("owner_history")
      .values(ownerValues(tenant, owner))
      .onConflict((conflict) =>
        conflict.columns(["tenant", "workspace", "generation", "epoch"]).doUpdateSet({
          witnessed: owner.witnessed ? 1 : 0,
        }),
      )
      .execute()
  }
}

async function saveCheckpoints(db: Db, tenant: TenantId, before: GatewayRecord, after: GatewayRecord): Promise<void> {
  for (const row of [...after.checkpoints.values()].filter((each) => before.checkpoints.get(each.id) !== each)) {
    await db
      .insertInto("checkpoints")
      .values(checkpointValues(tenant, row))
      .onConflict((conflict) =>
        conflict.columns(["tenant", "workspace", "id"]).doUpdateSet({ committed: row.committed ? 1 : 0 }),
      )
      .execute()
  }
}

/** The row of a hand-off and nothing else; null for an id that this tenant doesn't have. */
export async function findHandoff(db: Db, tenant: TenantId, id: HandoffId): Promise<HandoffRow | null> {
  const row = await db
    .selectFrom("handoffs")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("id", "=", id)
    .executeTakeFirst()
  return row === undefined ? null : handoffOf(row)
}

/** Rows of which something is left to be told, oldest first: a tenant's, or all tenants' for the driver. */
export async function unsettledHandoffs(
  db: GatewayDatabase,
  tenant?: TenantId,
): Promise<{ tenant: TenantId; row: HandoffRow }[]> {
  const rows = await db
    .selectFrom("handoffs")
    .selectAll()
    .$if(tenant !== undefined, (query) => query.where("tenant", "=", tenant ?? ""))
    .where(isUnsettledRow)
    .orderBy("started_at_ms")
    .orderBy("seq")
    .execute()
  return rows.map((row) => ({ tenant: tenantIdSchema.parse(row.tenant), row: handoffOf(row) }))
}

/** Every row of a workspace in which a host is source or target, by `seq`. */
export async function handoffsOfHost(
  db: Db,
  tenant: TenantId,
  host: HostId,
  workspace: WorkspaceId,
): Promise<HandoffRow[]> {
  const rows = await db
    .selectFrom("handoffs")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where((where) => where.or([where("source", "=", host), where("target", "=", host)]))
    .orderBy("seq")
    .execute()
  return rows.map(handoffOf)
}

/**
 * Of all workspaces: rows in which a host is source or target and of which something is left to be told, and the newest one of each
 * workspace; by workspace and then `seq`. What is read does not grow with every hand-off that there ever was, but for the first statement's
 * walk through an index.
 */
export async function openHandoffsOfHost(db: Db, tenant: TenantId, host: HostId): Promise<HandoffRow[]> {
  const all = () => db.selectFrom("handoffs").where("tenant", "=", tenant)
  const side = (which: "source" | "target") => all().select(["workspace", "seq"]).where(which, "=", host)
  const newest = await db
    .selectFrom(side("source").unionAll(side("target")).as("mine"))
    .select((of) => ["workspace", of.fn.max("seq").as("seq")])
    .groupBy("workspace")
    .execute()
  if (newest.length === 0) return []
  // An index has both columns; pairs of them SQLite would not look up in it.
  const [workspaces, seqs] = [newest.map(({ workspace }) => workspace), new Set(newest.map(({ seq }) => seq))]
  const rows = await all()
    .selectAll()
    .where("workspace", "in", workspaces)
    .where("seq", "in", [...seqs])
    .unionAll(
      all()
        .selectAll()
        .where(isUnsettledRow)
        .where((where) => where.or([where("source", "=", host), where("target", "=", host)])),
    )
    .execute()
  const isNewest = new Set(newest.map(({ workspace, seq }) => `${workspace} ${seq}`))
  const wanted = rows.map(handoffOf).filter((row) => !isSettled(row) || isNewest.has(`${row.workspace} ${row.seq}`))
  // The newest one may be open as well, and somebody else's may have the same number.
  const mine = wanted.filter((row) => row.source === host || row.target === host)
  return [...new Map(mine.map((row) => [row.id, row])).values()].toSorted(
    (one, other) => one.workspace.localeCompare(other.workspace) || one.seq - other.seq,
  )
}

/** Ids of the workspaces that a host owns or has owned; of one, whether it does. */
export async function workspacesEverOwned(
  db: Db,
  tenant: TenantId,
  host: HostId,
  workspace?: WorkspaceId,
): Promise<Set<string>> {
  const rows = await db
    .selectFrom("owner_history")
    .select("workspace")
    .distinct()
    .where("tenant", "=", tenant)
    .where("host", "=", host)
    .$if(workspace !== undefined, (query) => query.where("workspace", "=", workspace ?? ""))
    .execute()
  return new Set(rows.map((row) => row.workspace))
}

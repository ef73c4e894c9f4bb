/** The gateway's record of a workspace: loaded, judged and written back in one transaction. */
import type { Kysely, Transaction } from "kysely"
import { FIRST_GENERATION, type GatewayRecord, type OwnerRecord } from "../../handoff/record.ts"
import type { CheckpointRow, HandoffRow, WorkspaceRow } from "../../protocol/handoff.ts"
import {
  tenantIdSchema,
  type CheckpointId,
  type HandoffId,
  type HostId,
  type TenantId,
  type WorkspaceId,
} from "../../protocol/ids.ts"
import {
  checkpointOf,
  checkpointValues,
  handoffOf,
  handoffValues,
  ownerOf,
  ownerValues,
  workspaceOf,
  workspaceValues,
} from "./rows.ts"
import type { GatewayDatabase, GatewayTables } from "./schema.ts"

export type Db = Kysely<GatewayTables> | Transaction<GatewayTables>

/** What of a record a request names besides the workspace. */
export interface Named {
  readonly handoff?: HandoffId
  readonly checkpoint?: CheckpointId
}

/** States in which a row of a given kind is settled (handoff/record.ts, isSettled), as a query says it. */
const CLOSED_FENCES = ["released", "taken_over"]

/** Reads what the core judges by; null for a workspace that this tenant doesn't have. Five queries. */
export async function loadRecord(
  db: Db,
  tenant: TenantId,
  workspace: WorkspaceId,
  named: Named = {},
): Promise<GatewayRecord | null> {
  const row = await db
    .selectFrom("workspaces")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("id", "=", workspace)
    .executeTakeFirst()
  if (row === undefined) return null
  const found = workspaceOf(row)
  const owners = await newestOwners(db, tenant, found)
  const handoffs = await relevantHandoffs(db, tenant, found, owners, named)
  const wanted = [found.headCheckpoint, named.checkpoint ?? null].filter((id): id is CheckpointId => id !== null)
  const checkpoints = await checkpointsOf(db, tenant, workspace, wanted)
  return { workspace: found, handoffs, checkpoints, owners }
}

async function newestOwners(db: Db, tenant: TenantId, workspace: WorkspaceRow): Promise<OwnerRecord[]> {
  const rows = await db
    .selectFrom("owner_history")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace.id)
    .where("generation", "=", workspace.generation)
    .orderBy("epoch", "desc")
    .limit(2)
    .execute()
  return rows.map(ownerOf).reverse()
}

async function relevantHandoffs(
  db: Db,
  tenant: TenantId,
  workspace: WorkspaceRow,
  owners: readonly OwnerRecord[],
  named: Named,
): Promise<HandoffRow[]> {
  const ids = [named.handoff ?? null, ...owners.map((owner) => owner.handoff)].filter((id) => id !== null)
  const newest = await db
    .selectFrom("handoffs")
    .select("id")
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace.id)
    .where("source", "=", workspace.ownerHost)
    .where("kind", "!=", "reclaim")
    .orderBy("seq", "desc")
    .limit(1)
    .execute()
  const rows = await db
    .selectFrom("handoffs")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace.id)
    .where((where) => {
      const unsettled = where.and([
        where("state", "not in", ["done", "superseded"]),
        where.not(
          where.and([
            where("state", "=", "abandoned"),
            where("target_undone", "=", 1),
            where.or([where("kind", "=", "reclaim"), where("source_fence", "in", CLOSED_FENCES)]),
          ]),
        ),
      ])
      return where.or([unsettled, where("id", "in", [...ids, ...newest.map((row) => row.id)])])
    })
    .orderBy("seq")
    .execute()
  return rows.map(handoffOf)
}

async function checkpointsOf(
  db: Db,
  tenant: TenantId,
  workspace: WorkspaceId,
  ids: readonly CheckpointId[],
): Promise<Map<CheckpointId, CheckpointRow>> {
  if (ids.length === 0) return new Map()
  const rows = await db
    .selectFrom("checkpoints")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("id", "in", ids)
    .execute()
  return new Map(rows.map(checkpointOf).map((row) => [row.id, row]))
}

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

/** Writes what differs, by reference, between two records of one workspace. */
export async function saveRecord(db: Db, tenant: TenantId, before: GatewayRecord, after: GatewayRecord): Promise<void> {
  if (after.workspace !== before.workspace) {
    const { tenant: _tenant, id, ...values } = workspaceValues(tenant, after.workspace)
    await db.updateTable("workspaces").set(values).where("tenant", "=", tenant).where("id", "=", id).execute()
  }
  // Rows that leave the unique index are written before one that enters it.
  const changed = after.handoffs.filter((row) => !before.handoffs.includes(row))
  const known = new Set(before.handoffs.map((row) => row.id))
  for (const row of changed.filter((each) => known.has(each.id))) {
    const { tenant: _tenant, id, ...values } = handoffValues(tenant, row)
    await db.updateTable("handoffs").set(values).where("tenant", "=", tenant).where("id", "=", id).execute()
  }
  const made = changed.filter((row) => !known.has(row.id)).map((row) => handoffValues(tenant, row))
  if (made.length > 0) await db.insertInto("handoffs").values(made).execute()
  const owners = after.owners.filter((owner) => !before.owners.includes(owner))
  for (const owner of owners) {
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
  const checkpoints = [...after.checkpoints.values()].filter((row) => before.checkpoints.get(row.id) !== row)
  for (const row of checkpoints) {
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
    .where("state", "not in", ["done", "superseded"])
    .where((where) =>
      where.not(
        where.and([
          where("state", "=", "abandoned"),
          where("target_undone", "=", 1),
          where.or([where("kind", "=", "reclaim"), where("source_fence", "in", CLOSED_FENCES)]),
        ]),
      ),
    )
    .orderBy("started_at_ms")
    .orderBy("seq")
    .execute()
  return rows.map((row) => ({ tenant: tenantIdSchema.parse(row.tenant), row: handoffOf(row) }))
}

/** Every row in which a host is source or target, by workspace and then `seq`. */
export async function handoffsOfHost(
  db: Db,
  tenant: TenantId,
  host: HostId,
  workspace?: WorkspaceId,
): Promise<HandoffRow[]> {
  const rows = await db
    .selectFrom("handoffs")
    .selectAll()
    .where("tenant", "=", tenant)
    .where((where) => where.or([where("source", "=", host), where("target", "=", host)]))
    .$if(workspace !== undefined, (query) => query.where("workspace", "=", workspace ?? ""))
    .orderBy("workspace")
    .orderBy("seq")
    .execute()
  return rows.map(handoffOf)
}

/** Ids of the workspaces that a host owns or has owned. */
export async function workspacesEverOwned(db: Db, tenant: TenantId, host: HostId): Promise<Set<string>> {
  const rows = await db
    .selectFrom("owner_history")
    .select("workspace")
    .distinct()
    .where("tenant", "=", tenant)
    .where("host", "=", host)
    .execute()
  return new Set(rows.map((row) => row.workspace))
}

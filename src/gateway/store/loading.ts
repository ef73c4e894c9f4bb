/** The gateway's record of a workspace, read in one statement: one round trip, and one point in time without any lock. */
import { type Expression, type ExpressionBuilder, PostgresAdapter, type RawBuilder, type SqlBool } from "kysely"
import { jsonArrayFrom as postgresArray } from "kysely/helpers/postgres"
import { jsonArrayFrom as sqliteArray } from "kysely/helpers/sqlite"
import type { GatewayRecord } from "../../handoff/record.ts"
import type { HandoffRow } from "../../protocol/handoff.ts"
import type { CheckpointId, HandoffId, TenantId, WorkspaceId } from "../../protocol/ids.ts"
import type { Db } from "./records.ts"
import { checkpointOf, handoffOf, ownerOf, workspaceOf } from "./rows.ts"
import type { CheckpointTable, GatewayTables, HandoffTable, OwnerTable } from "./schema.ts"

/** What of a record a request names besides the workspace. */
export interface Named {
  readonly handoff?: HandoffId
  readonly checkpoint?: CheckpointId
}

/** A record, and which one of its versions: whoever writes says which one was read. */
export interface Loaded {
  readonly record: GatewayRecord
  readonly version: number
}

/** States in which a row of a given kind is settled (handoff/record.ts, isSettled), as a query says it. */
const CLOSED_FENCES = ["released", "taken_over"]

const OWNER = [
  "tenant",
  "workspace",
  "generation",
  "epoch",
  "host",
  "incarnation",
  "checkpoint",
  "handoff",
  "witnessed",
  "since_ms",
] as const satisfies readonly (keyof OwnerTable)[]

const HANDOFF = [
  "tenant",
  "id",
  "workspace",
  "seq",
  "kind",
  "source",
  "source_incarnation",
  "target",
  "target_incarnation",
  "epoch",
  "state",
  "checkpoint",
  "new_epoch",
  "source_fence",
  "target_undone",
  "witnessed",
  "opened_by",
  "closed_by",
  "proof",
  "lost",
  "protocol",
  "started_at_ms",
  "updated_at_ms",
  "lease_by",
  "lease_until_ms",
] as const satisfies readonly (keyof HandoffTable)[]

const CHECKPOINT = [
  "tenant",
  "id",
  "workspace",
  "epoch",
  "creator_host",
  "creator_incarnation",
  "parent",
  "kind",
  "committed",
  "created_at_ms",
  "stored_bytes",
  "new_bytes",
  "session_count",
  "sessions_changed",
  "pinned",
] as const satisfies readonly (keyof CheckpointTable)[]

/** All but done and superseded, which nearly all rows are: said so, an index finds them. */
const UNFINISHED = ["open", "copying", "sealed", "staged", "owned", "live", "abandoned"] satisfies HandoffRow["state"][]

/** A row of which something is left to be told to somebody. */
export function isUnsettledRow(where: ExpressionBuilder<GatewayTables, "handoffs">): Expression<SqlBool> {
  return where.and([
    where("handoffs.state", "in", UNFINISHED),
    where.not(where.and([where("handoffs.state", "=", "live"), where("handoffs.kind", "=", "reclaim")])),
    where.not(
      where.and([
        where("handoffs.state", "=", "abandoned"),
        where("handoffs.target_undone", "=", 1),
        where.or([where("handoffs.kind", "=", "reclaim"), where("handoffs.source_fence", "in", CLOSED_FENCES)]),
      ]),
    ),
  ])
}

type OfWorkspace = ExpressionBuilder<GatewayTables, "workspaces">

/** Reads what the core judges by; null for a workspace that this tenant doesn't have. */
export async function loadRecord(
  db: Db,
  tenant: TenantId,
  workspace: WorkspaceId,
  named: Named = {},
): Promise<Loaded | null> {
  const arrayOf = arraysIn(db)
  const row = await db
    .selectFrom("workspaces")
    .selectAll("workspaces")
    .select((of) => [
      arrayOf(newestOwners(of).select(OWNER)).as("owners"),
      arrayOf(relevantHandoffs(of, named).select(HANDOFF).orderBy("handoffs.seq")).as("handoffs"),
      arrayOf(wantedCheckpoints(of, named).select(CHECKPOINT)).as("checkpoints"),
    ])
    .where("workspaces.tenant", "=", tenant)
    .where("workspaces.id", "=", workspace)
    .executeTakeFirst()
  if (row === undefined) return null
  const checkpoints = rowsIn<CheckpointTable>(row.checkpoints).map(checkpointOf)
  return {
    version: row.version,
    record: {
      workspace: workspaceOf(row),
      owners: rowsIn<OwnerTable>(row.owners).map(ownerOf).reverse(),
      handoffs: rowsIn<HandoffTable>(row.handoffs).map(handoffOf),
      checkpoints: new Map(checkpoints.map((each) => [each.id, each])),
    },
  }
}

function newestOwners(of: OfWorkspace) {
  return of
    .selectFrom("owner_history")
    .whereRef("owner_history.tenant", "=", "workspaces.tenant")
    .whereRef("owner_history.workspace", "=", "workspaces.id")
    .whereRef("owner_history.generation", "=", "workspaces.generation")
    .orderBy("owner_history.epoch", "desc")
    .limit(2)
}

function relevantHandoffs(of: OfWorkspace, named: Named) {
  const madeOwner = newestOwners(of).select((made) => made.fn.coalesce("owner_history.handoff", made.val("")).as("id"))
  const newestOfOwner = of
    .selectFrom("handoffs as last")
    .select((last) => last.fn.max("last.seq").as("seq"))
    .whereRef("last.tenant", "=", "workspaces.tenant")
    .whereRef("last.workspace", "=", "workspaces.id")
    .whereRef("last.source", "=", "workspaces.owner_host")
    .where("last.kind", "!=", "reclaim")
  return of
    .selectFrom("handoffs")
    .whereRef("handoffs.tenant", "=", "workspaces.tenant")
    .whereRef("handoffs.workspace", "=", "workspaces.id")
    .where((where) =>
      where.or([
        isUnsettledRow(where),
        where("handoffs.id", "=", named.handoff ?? ""),
        where("handoffs.id", "in", madeOwner),
        where("handoffs.seq", "=", newestOfOwner),
      ]),
    )
}

function wantedCheckpoints(of: OfWorkspace, named: Named) {
  return of
    .selectFrom("checkpoints")
    .whereRef("checkpoints.tenant", "=", "workspaces.tenant")
    .whereRef("checkpoints.workspace", "=", "workspaces.id")
    .where((where) =>
      where.or([
        where("checkpoints.id", "=", where.ref("workspaces.head_checkpoint")),
        where("checkpoints.id", "=", named.checkpoint ?? ""),
      ]),
    )
}

/** The two databases have other words for «these rows as one value». */
function arraysIn(db: Db): (rows: Parameters<typeof sqliteArray>[0]) => RawBuilder<unknown> {
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter
  return (rows) => (isPostgres ? postgresArray(rows) : sqliteArray(rows))
}

/** SQLite answers such a value as text. */
function rowsIn<Row>(value: unknown): Row[] {
  return (typeof value === "string" ? JSON.parse(value) : value) as Row[]
}

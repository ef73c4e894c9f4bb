/** Workspaces as lists and `status` show them: only what may be seen (handoff/record.ts), in a fixed number of queries. */
import type { Selectable } from "kysely"
import {
  blocking,
  isSettled,
  unwitnessed,
  visibleRow,
  visibleWorkspace,
  type GatewayRecord,
} from "../handoff/record.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import type { CheckpointId, TenantId } from "../protocol/ids.ts"
import type { KnownHost } from "./known-hosts.ts"
import { checkpointOf, ownerOf, workspaceOf } from "./store/rows.ts"
import type { CheckpointTable, GatewayDatabase, PlaceTable } from "./store/schema.ts"
import { unsettledHandoffs } from "./store/records.ts"

/** @param hosts every host of the tenant, removed ones too */
export async function workspaceViews(
  db: GatewayDatabase,
  tenant: TenantId,
  hosts: readonly KnownHost[],
  idOrName?: string,
): Promise<WorkspaceView[]> {
  const found = await db
    .selectFrom("workspaces")
    .selectAll()
    .where("tenant", "=", tenant)
    .$if(idOrName !== undefined, (query) =>
      query.where((where) => where.or([where("id", "=", idOrName ?? ""), where("name", "=", idOrName ?? "")])),
    )
    .orderBy("name")
    .execute()
  // A name that is spelled like the id of another workspace doesn't hide that one.
  const rows = found.some((row) => row.id === idOrName) ? found.filter((row) => row.id === idOrName) : found
  if (rows.length === 0) return []
  const workspaces = rows.map(workspaceOf)
  const complete = await recordsFor(db, tenant, workspaces)
  const seen = complete.map((record) => ({ record, workspace: visibleWorkspace(record) }))
  const heads = seen.map(({ workspace }) => workspace.headCheckpoint).filter((id) => id !== null)
  const { checkpoints, places } = await details(db, tenant, workspaces, heads)
  const names = new Map(hosts.map((host) => [host.host, host.name]))
  const kinds = new Map(hosts.map((host) => [host.host, host.kind]))
  return seen.map(({ record, workspace }) => {
    const handoff = shownHandoff(record)
    const place = places.find((each) => each.workspace === workspace.id && each.host === workspace.ownerHost)
    const head = checkpoints.find((row) => row.workspace === workspace.id && row.id === workspace.headCheckpoint)
    return {
      workspace,
      ownerName: names.get(workspace.ownerHost) ?? workspace.ownerHost,
      ownerKind: kinds.get(workspace.ownerHost) ?? "laptop",
      handoff: handoff === null ? null : visibleRow(handoff),
      sourceName: handoff === null ? null : (names.get(handoff.source) ?? handoff.source),
      targetName: handoff === null ? null : (names.get(handoff.target) ?? handoff.target),
      checkpoint: head === undefined ? null : checkpointOf(head),
      ownerDirectory: place?.directory ?? null,
      sessionCount: place?.session_count ?? null,
    }
  })
}

/** As much of these workspaces' records as decides what may be seen. */
async function recordsFor(
  db: GatewayDatabase,
  tenant: TenantId,
  workspaces: readonly WorkspaceRow[],
): Promise<GatewayRecord[]> {
  const handoffs = await unsettledHandoffs(db, tenant)
  const records = workspaces.map((workspace) => ({
    workspace,
    handoffs: handoffs.map(({ row }) => row).filter((row) => row.workspace === workspace.id),
    checkpoints: new Map(),
    owners: [],
  }))
  return await withFormerOwners(db, tenant, records)
}

/** Workspaces by id, as an answer may show them. */
export async function visibleWorkspaces(
  db: GatewayDatabase,
  tenant: TenantId,
  ids: readonly string[],
): Promise<WorkspaceRow[]> {
  const rows = await db
    .selectFrom("workspaces")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("id", "in", ids)
    .orderBy("id")
    .execute()
  return (await recordsFor(db, tenant, rows.map(workspaceOf))).map(visibleWorkspace)
}

async function details(
  db: GatewayDatabase,
  tenant: TenantId,
  workspaces: readonly WorkspaceRow[],
  heads: readonly CheckpointId[],
): Promise<{ checkpoints: Selectable<CheckpointTable>[]; places: Selectable<PlaceTable>[] }> {
  const ids = workspaces.map(({ id }) => id)
  const checkpoints = await db
    .selectFrom("checkpoints")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("id", "in", heads)
    .execute()
  const places = await db
    .selectFrom("places")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "in", ids)
    .execute()
  return { checkpoints, places }
}

/** Only a flip that isn't witnessed yet makes the owner before it matter. */
async function withFormerOwners(
  db: GatewayDatabase,
  tenant: TenantId,
  records: readonly GatewayRecord[],
): Promise<GatewayRecord[]> {
  const hidden = records.filter((record) => unwitnessed(record) !== null).map((record) => record.workspace.id)
  if (hidden.length === 0) return [...records]
  const rows = await db
    .selectFrom("owner_history")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "in", hidden)
    .orderBy("generation")
    .orderBy("epoch")
    .execute()
  const owners = rows.map(ownerOf)
  return records.map((record) => ({
    ...record,
    owners: owners.filter((owner) => owner.workspace === record.workspace.id),
  }))
}

/** The hand-off that blocks a new one, else the newest of which something that matters now is left to be told. */
function shownHandoff(record: GatewayRecord): HandoffRow | null {
  const matters = (row: HandoffRow): boolean =>
    !isSettled(row) && (row.state !== "live" || row.newEpoch === record.workspace.epoch)
  return blocking(record) ?? record.handoffs.findLast(matters) ?? null
}

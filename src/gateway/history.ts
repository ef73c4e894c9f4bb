/** The checkpoints of a workspace: what each adds, how they are listed and found, and which descends from which. */
import { sql, type Selectable } from "kysely"
import { visibleWorkspace } from "../handoff/record.ts"
import {
  CHECKPOINTS_FOUND_MAX,
  CHECKPOINTS_LISTED_MAX,
  type CheckpointList,
  type CheckpointView,
} from "../protocol/gateway-api.ts"
import type { CheckpointId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import type { Manifest } from "../protocol/manifest.ts"
import type { KnownHost } from "./known-hosts.ts"
import type { Services } from "./services.ts"
import type { Db } from "./store/records.ts"
import { checkpointOf } from "./store/rows.ts"
import type { CheckpointTable, GatewayDatabase } from "./store/schema.ts"

/** What a manifest adds to the one before it. */
export interface CheckpointCounts {
  /** Bytes in the store of all blobs that it names. */
  readonly storedBytes: number
  /** Bytes of blobs that its parent does not name; null when the parent's manifest can't be read. */
  readonly newBytes: number | null
  readonly sessionCount: number
  /** Sessions that the parent has not, has with another digest, or has alone; null as for `newBytes`. */
  readonly sessionsChanged: number | null
}

/** @param parent manifest of the parent; null: it has none; "unreadable": it has one that can't be read */
export function countsOf(manifest: Manifest, parent: Manifest | null | "unreadable"): CheckpointCounts {
  const size = (blobs: Manifest["blobs"]): number => blobs.reduce((sum, ref) => sum + ref.storedSize, 0)
  const storedBytes = size(manifest.blobs)
  const sessionCount = manifest.sessions.length
  if (parent === "unreadable") return { storedBytes, newBytes: null, sessionCount, sessionsChanged: null }
  const known = new Set(parent?.blobs.map((ref) => ref.id))
  const before = new Map(parent?.sessions.map((entry) => [`${entry.agent} ${entry.id}`, entry.digest]))
  let sessionsChanged = 0
  for (const { agent, id, digest } of manifest.sessions) {
    if (before.get(`${agent} ${id}`) !== digest) sessionsChanged += 1
    before.delete(`${agent} ${id}`)
  }
  const newBytes = size(manifest.blobs.filter((ref) => !known.has(ref.id)))
  return { storedBytes, newBytes, sessionCount, sessionsChanged: sessionsChanged + before.size }
}

/** Records what was counted when the checkpoint was accepted. */
export async function saveCounts(
  db: Db,
  tenant: TenantId,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
  counts: CheckpointCounts,
): Promise<void> {
  await db
    .updateTable("checkpoints")
    .set({
      stored_bytes: counts.storedBytes,
      new_bytes: counts.newBytes,
      session_count: counts.sessionCount,
      sessions_changed: counts.sessionsChanged,
    })
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("id", "=", checkpoint)
    .execute()
}

/** Committed checkpoints, newest first. */
export async function checkpointList(
  db: GatewayDatabase,
  tenant: TenantId,
  workspace: WorkspaceId,
  hosts: readonly KnownHost[],
): Promise<CheckpointList> {
  const rows = await committed(db, tenant, workspace)
    .limit(CHECKPOINTS_LISTED_MAX + 1)
    .execute()
  const views = viewsOf(rows, hosts)
  return { checkpoints: views.slice(0, CHECKPOINTS_LISTED_MAX), isCut: views.length > CHECKPOINTS_LISTED_MAX }
}

/** Committed checkpoints whose id begins so, also those that a list is too short for. */
export async function findCheckpoints(
  db: GatewayDatabase,
  tenant: TenantId,
  workspace: WorkspaceId,
  prefix: string,
  hosts: readonly KnownHost[],
): Promise<CheckpointView[]> {
  // A range, not LIKE: it uses the key, and `_` is no wildcard in it. Ids go on with hexadecimal digits, which are before `g` in every
  // language's order, as `~` is not.
  const rows = await committed(db, tenant, workspace)
    .where("id", ">=", prefix)
    .where("id", "<", `${prefix}g`)
    .limit(CHECKPOINTS_FOUND_MAX)
    .execute()
  return viewsOf(rows, hosts)
}

function committed(db: GatewayDatabase, tenant: TenantId, workspace: WorkspaceId) {
  return db
    .selectFrom("checkpoints")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace)
    .where("committed", "=", 1)
    .orderBy("created_at_ms", "desc")
    .orderBy("epoch", "desc")
    .orderBy("id")
}

function viewsOf(rows: readonly Selectable<CheckpointTable>[], hosts: readonly KnownHost[]): CheckpointView[] {
  const names = new Map<string, string>(hosts.map((host) => [host.host, host.name]))
  return rows.map((row) => ({
    checkpoint: checkpointOf(row),
    creatorName: names.get(row.creator_host) ?? row.creator_host,
    storedBytes: row.stored_bytes,
    newBytes: row.new_bytes,
    sessionCount: row.session_count,
    sessionsChanged: row.sessions_changed,
    isPinned: row.pinned === 1,
  }))
}

/**
 * Whether parent links lead from one committed checkpoint to another, or both are the same.
 * @param asked `descendant` null: the workspace's newest, as it may be seen
 */
export async function isAncestor(
  { db, ownership }: Pick<Services, "db" | "ownership">,
  tenant: TenantId,
  asked: { readonly workspace: WorkspaceId; readonly ancestor: CheckpointId; readonly descendant: CheckpointId | null },
): Promise<boolean> {
  const { workspace, ancestor } = asked
  const record = asked.descendant === null ? await ownership.load(tenant, workspace) : null
  const from = asked.descendant ?? (record === null ? null : visibleWorkspace(record).headCheckpoint)
  if (from === null) return false
  const { rows } = await lineage(tenant, workspace, from, ancestor).execute(db)
  return rows.length > 0
}

/**
 * Also over those whose contents were removed (garbage.ts). UNION, not UNION ALL: a loop of parents, which no honest host makes, ends the walk instead of going round for ever. CROSS JOIN keeps
 * SQLite from reading all checkpoints for each step (it would take the index by time: 9 s for a line of 10,000 instead of 15 ms).
 */
const lineage = (tenant: TenantId, workspace: WorkspaceId, from: CheckpointId, ancestor: CheckpointId) => sql<{
  id: string
}>`
  WITH RECURSIVE line(id, parent) AS (
    SELECT id, parent FROM checkpoints
    WHERE tenant = ${tenant} AND workspace = ${workspace} AND id = ${from} AND committed <> 0
    UNION
    SELECT older.id, older.parent FROM line CROSS JOIN checkpoints AS older
    WHERE older.tenant = ${tenant} AND older.workspace = ${workspace} AND older.id = line.parent AND older.committed <> 0
  )
  SELECT id FROM line WHERE id = ${ancestor} LIMIT 1`

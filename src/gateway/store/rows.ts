/** Between table rows and the rows of the protocol. Reading parses: a row that can't be read is an error, never a guess. */
import type { Insertable, Selectable } from "kysely"
import type { OwnerRecord } from "../../handoff/record.ts"
import {
  checkpointRowSchema,
  handoffRowSchema,
  workspaceRowSchema,
  type CheckpointRow,
  type HandoffRow,
  type WorkspaceRow,
} from "../../protocol/handoff.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  workspaceIdSchema,
} from "../../protocol/ids.ts"
import type { CheckpointTable, HandoffTable, OwnerTable, WorkspaceTable } from "./schema.ts"

export function workspaceOf(row: Selectable<WorkspaceTable>): WorkspaceRow {
  return workspaceRowSchema.parse({
    id: row.id,
    name: row.name,
    ownerHost: row.owner_host,
    ownerIncarnation: row.owner_incarnation,
    epoch: row.epoch,
    headCheckpoint: row.head_checkpoint,
    handoffSeq: row.handoff_seq,
    generation: row.generation,
    ownerSinceMs: row.owner_since_ms,
    behind:
      row.behind_host === null
        ? null
        : { generation: row.behind_generation, epoch: row.behind_epoch, host: row.behind_host },
  })
}

export function workspaceValues(tenant: string, row: WorkspaceRow): Insertable<WorkspaceTable> {
  return {
    tenant,
    id: row.id,
    name: row.name,
    owner_host: row.ownerHost,
    owner_incarnation: row.ownerIncarnation,
    epoch: row.epoch,
    head_checkpoint: row.headCheckpoint,
    handoff_seq: row.handoffSeq,
    generation: row.generation,
    owner_since_ms: row.ownerSinceMs,
    behind_generation: row.behind?.generation ?? null,
    behind_epoch: row.behind?.epoch ?? null,
    behind_host: row.behind?.host ?? null,
  }
}

export function handoffOf(row: Selectable<HandoffTable>): HandoffRow {
  return handoffRowSchema.parse({
    id: row.id,
    workspace: row.workspace,
    seq: row.seq,
    kind: row.kind,
    source: row.source,
    sourceIncarnation: row.source_incarnation,
    target: row.target,
    targetIncarnation: row.target_incarnation,
    epoch: row.epoch,
    state: row.state,
    checkpoint: row.checkpoint,
    newEpoch: row.new_epoch,
    sourceFence: row.source_fence,
    targetUndone: row.target_undone === 1,
    witnessed: row.witnessed === 1,
    openedBy: row.opened_by,
    closedBy: row.closed_by,
    proof: row.proof,
    lost: row.lost,
    protocol: row.protocol,
    startedAtMs: row.started_at_ms,
    updatedAtMs: row.updated_at_ms,
  })
}

export function handoffValues(tenant: string, row: HandoffRow): Insertable<HandoffTable> {
  return {
    tenant,
    id: row.id,
    workspace: row.workspace,
    seq: row.seq,
    kind: row.kind,
    source: row.source,
    source_incarnation: row.sourceIncarnation,
    target: row.target,
    target_incarnation: row.targetIncarnation,
    epoch: row.epoch,
    state: row.state,
    checkpoint: row.checkpoint,
    new_epoch: row.newEpoch,
    source_fence: row.sourceFence,
    target_undone: row.targetUndone ? 1 : 0,
    witnessed: row.witnessed ? 1 : 0,
    opened_by: row.openedBy,
    closed_by: row.closedBy,
    proof: row.proof,
    lost: row.lost,
    protocol: row.protocol,
    started_at_ms: row.startedAtMs,
    updated_at_ms: row.updatedAtMs,
  }
}

export function checkpointOf(row: Selectable<CheckpointTable>): CheckpointRow {
  return checkpointRowSchema.parse({
    id: row.id,
    workspace: row.workspace,
    epoch: row.epoch,
    creatorHost: row.creator_host,
    creatorIncarnation: row.creator_incarnation,
    parent: row.parent,
    kind: row.kind,
    committed: row.committed === 1,
    createdAtMs: row.created_at_ms,
  })
}

export function checkpointValues(tenant: string, row: CheckpointRow): Insertable<CheckpointTable> {
  return {
    tenant,
    id: row.id,
    workspace: row.workspace,
    epoch: row.epoch,
    creator_host: row.creatorHost,
    creator_incarnation: row.creatorIncarnation,
    parent: row.parent,
    kind: row.kind,
    committed: row.committed ? 1 : 0,
    created_at_ms: row.createdAtMs,
  }
}

export function ownerOf(row: Selectable<OwnerTable>): OwnerRecord {
  return {
    workspace: workspaceIdSchema.parse(row.workspace),
    generation: row.generation,
    epoch: row.epoch,
    host: hostIdSchema.parse(row.host),
    incarnation: incarnationSchema.parse(row.incarnation),
    checkpoint: checkpointIdSchema.nullable().parse(row.checkpoint),
    handoff: handoffIdSchema.nullable().parse(row.handoff),
    witnessed: row.witnessed === 1,
    sinceMs: row.since_ms,
  }
}

export function ownerValues(tenant: string, row: OwnerRecord): Insertable<OwnerTable> {
  return {
    tenant,
    workspace: row.workspace,
    generation: row.generation,
    epoch: row.epoch,
    host: row.host,
    incarnation: row.incarnation,
    checkpoint: row.checkpoint,
    handoff: row.handoff,
    witnessed: row.witnessed ? 1 : 0,
    since_ms: row.sinceMs,
  }
}

/** The gateway's record of one workspace, and what of it any answer may show. */
import type { CheckpointRow, HandoffRow, HandoffState, WorkspaceRow } from "../protocol/handoff.ts"
import type { CheckpointId, HandoffId, HostId, Incarnation, WorkspaceId } from "../protocol/ids.ts"
import { ALL_RULES, type Rules } from "./rules.ts"

/** One line of owner_history, unique by (workspace, generation, epoch). */
export interface OwnerRecord {
  readonly workspace: WorkspaceId
  readonly generation: number
  readonly epoch: number
  readonly host: HostId
  readonly incarnation: Incarnation
  /** Null for the first owner in a store: one that registered the workspace, or was adopted, without a checkpoint. */
  readonly checkpoint: CheckpointId | null
  /** The hand-off that made this owner; null for one that registered the workspace or was adopted. */
  readonly handoff: HandoffId | null
  readonly witnessed: boolean
  readonly sinceMs: number
}

/**
 * What a request is judged by, read in the transaction that writes the result.
 * `handoffs`, ascending by `seq`: every row of the workspace that {@link isSettled} denies, the newest one that the present owner
 * is source of, the one that made it owner, and the one the request names (loading all rows is right too). `checkpoints`:
 * at least the head and those the request names. `owners`: at least the newest two of the current generation.
 */
export interface GatewayRecord {
  readonly workspace: WorkspaceRow
  readonly handoffs: readonly HandoffRow[]
  readonly checkpoints: ReadonlyMap<CheckpointId, CheckpointRow>
  readonly owners: readonly OwnerRecord[]
}

/** Of a workspace that was never adopted. */
export const FIRST_GENERATION = 1

/** States of the unique index: one row of a workspace at most is in one of them. */
export const BLOCKING_STATES: readonly HandoffState[] = ["open", "copying", "sealed", "staged", "owned"]

/** The row that keeps a new hand-off from being opened, or null. */
export function blocking(record: Pick<GatewayRecord, "handoffs">, rules: Rules = ALL_RULES): HandoffRow | null {
  const blocks = (row: HandoffRow): boolean =>
    BLOCKING_STATES.includes(row.state) || (!rules.liveFrees && row.state === "live")
  return record.handoffs.findLast(blocks) ?? null
}

/** Nothing is left to be told to either side. */
export function isSettled(row: HandoffRow): boolean {
  if (row.state === "done" || row.state === "superseded") return true
  // The source of a reclaim is lost; should it come back, the epoch tells it.
  if (row.state === "live") return row.kind === "reclaim"
  return row.state === "abandoned" && row.targetUndone && (row.kind === "reclaim" || isSourceClosed(row))
}

function isSourceClosed(row: HandoffRow): boolean {
  return row.sourceFence === "released" || row.sourceFence === "taken_over"
}

export function rowOf(record: Pick<GatewayRecord, "handoffs">, id: HandoffId): HandoffRow | null {
  return record.handoffs.find((row) => row.id === id) ?? null
}

/**
 * The row as an answer may show it. Before its owner object is in the blob store a flipped row looks staged: a host that heard
 * of an epoch that a restored database then forgets would refuse the gateway for ever.
 */
export function visibleRow(row: HandoffRow): HandoffRow {
  if (row.witnessed || row.newEpoch === null) return row
  return { ...row, state: "staged", newEpoch: null }
}

/** The flip that no answer may show yet, or null. */
export function unwitnessed(record: Pick<GatewayRecord, "handoffs">): HandoffRow | null {
  return record.handoffs.find((row) => row.state === "owned" && !row.witnessed) ?? null
}

/** The workspace as an answer may show it: before the witness, as it was before the flip. */
export function visibleWorkspace(record: GatewayRecord): WorkspaceRow {
  const row = unwitnessed(record)
  if (row === null) return record.workspace
  const before = record.owners.findLast((owner) => owner.epoch === row.epoch)
  return {
    ...record.workspace,
    ownerHost: row.source,
    ownerIncarnation: row.sourceIncarnation,
    epoch: row.epoch,
    headCheckpoint: row.checkpoint,
    ownerSinceMs: before?.sinceMs ?? row.startedAtMs,
  }
}

/** The record of a workspace's first push: the registering host owns it at epoch 1. The gateway witnesses this owner too. */
export function newRecord(workspace: WorkspaceRow): GatewayRecord {
  const owner: OwnerRecord = {
    workspace: workspace.id,
    generation: workspace.generation,
    epoch: workspace.epoch,
    host: workspace.ownerHost,
    incarnation: workspace.ownerIncarnation,
    checkpoint: workspace.headCheckpoint,
    handoff: null,
    witnessed: false,
    sinceMs: workspace.ownerSinceMs,
  }
  return { workspace, handoffs: [], checkpoints: new Map(), owners: [owner] }
}

/** Content of the create-only object `<tenant>/<workspace>/owners/<generation>-<epoch>`. */
export interface OwnerObject {
  readonly generation: number
  readonly epoch: number
  readonly handoff: HandoffId | null
  readonly host: HostId
  readonly incarnation: Incarnation
  readonly checkpoint: CheckpointId | null
}

export function isSameObject(one: OwnerObject, other: OwnerObject): boolean {
  return (
    one.generation === other.generation &&
    one.epoch === other.epoch &&
    one.handoff === other.handoff &&
    one.host === other.host &&
    one.incarnation === other.incarnation &&
    one.checkpoint === other.checkpoint
  )
}

/** What the gateway writes before it asks `witness(id)` for a flipped row; null where the row was not flipped. */
export function ownerObject(record: GatewayRecord, row: HandoffRow): OwnerObject | null {
  if (row.newEpoch === null) return null
  return {
    generation: record.workspace.generation,
    epoch: row.newEpoch,
    handoff: row.id,
    host: row.target,
    incarnation: row.targetIncarnation,
    checkpoint: row.checkpoint,
  }
}

/** Transitions that a host asks for, and the two that the gateway asks itself: flip and witness. */
import type { CheckpointRow, HandoffRow } from "../protocol/handoff.ts"
import {
  blocking,
  type GatewayRecord,
  type OwnerRecord,
  isSameObject,
  ownerObject,
  rowOf,
  unwitnessed,
  visibleRow,
} from "./record.ts"
import type {
  CheckpointStepRequest,
  CommitRequest,
  Decision,
  FlipRequest,
  HostIdentity,
  OfferedCheckpoint,
  PlainStepRequest,
  Refusal,
  WitnessRequest,
} from "./request.ts"
import {
  accepted,
  isHost,
  isRefusal,
  type Judging,
  refused,
  refusedBehind,
  refusedFor,
  repeated,
  rowFor,
  withRow,
} from "./transition.ts"

export function commit(judging: Judging, request: CommitRequest): Decision {
  const { record } = judging
  if (isCommitted(record, request.checkpoint)) return repeated(record, null)
  const refusal = commitRefusal(judging, request.by, request.epoch, request.checkpoint)
  if (refusal !== null) return refusal
  return accepted(withHead(withCheckpoint(judging, request.by, request.checkpoint), request.checkpoint.id), null)
}

export function copying(judging: Judging, request: CheckpointStepRequest): Decision {
  const { record } = judging
  const row = rowFor(judging, request, "source")
  if (isRefusal(row)) return row
  if (isCommitted(record, request.checkpoint)) return repeated(record, row.id)
  if (row.state === "abandoned" || row.state === "superseded") return refusedFor(record, "closed", row)
  const refusal = commitRefusal(judging, request.by, request.epoch, request.checkpoint)
  if (refusal !== null) return refusal
  // A flipped row has moved the epoch, a sealed one refuses commits: what is left is open or copying.
  const committed = withHead(withCheckpoint(judging, request.by, request.checkpoint), request.checkpoint.id)
  return accepted(withRow({ ...judging, record: committed }, row, { state: "copying" }), row.id)
}

function isCommitted(record: GatewayRecord, offered: OfferedCheckpoint): boolean {
  return record.checkpoints.get(offered.id)?.committed === true
}

function commitRefusal(
  { record, rules }: Judging,
  by: HostIdentity,
  epoch: number,
  offered: OfferedCheckpoint,
): Refusal | null {
  const { workspace } = record
  // Until the flip is witnessed the old owner must see what it saw before: a sealed hand-off, not a new epoch.
  const sealed = unwitnessed(record) ?? sealedRow(record)
  const isOwner = isHost(by, workspace.ownerHost, workspace.ownerIncarnation, rules)
  const isCurrent = epoch === workspace.epoch && offered.epoch === workspace.epoch
  if (rules.commitEpoch && sealed?.state !== "owned" && !(isOwner && isCurrent)) return refused(record, "stale_epoch")
  if (rules.commitCas && sealed !== null) return refusedFor(record, "sealed", sealed)
  if (rules.commitCas && offered.parent !== workspace.headCheckpoint) {
    return refused(record, "head_moved", { head: workspace.headCheckpoint })
  }
  if (!offered.blobsVerified) return refused(record, "damaged_data", { checkpoint: offered.id })
  return null
}

function sealedRow(record: GatewayRecord): HandoffRow | null {
  return record.handoffs.findLast((row) => row.state === "sealed" || row.state === "staged") ?? null
}

export function sealed(judging: Judging, request: CheckpointStepRequest): Decision {
  const { record, rules } = judging
  const row = rowFor(judging, request, "source")
  if (isRefusal(row)) return row
  const offered = request.checkpoint
  if (rules.idempotent && row.checkpoint === offered.id) return repeated(record, row.id)
  if (row.state === "abandoned" || row.state === "superseded") return refusedFor(record, "closed", row)
  if (row.state !== "open" && row.state !== "copying") {
    return refused(record, "sealed_with", { handoff: row.id, checkpoint: row.checkpoint })
  }
  const { workspace } = record
  const isOwner = isHost(request.by, workspace.ownerHost, workspace.ownerIncarnation, rules)
  const isCurrent = row.epoch === workspace.epoch && offered.epoch === workspace.epoch
  if (!isOwner || !isCurrent) return refused(record, "stale_epoch", { handoff: row.id })
  if (!offered.blobsVerified) return refused(record, "damaged_data", { checkpoint: offered.id })
  const stored = withCheckpoint(judging, request.by, offered)
  const next = rules.headAtSeal ? withHead(stored, offered.id) : stored
  return accepted(
    withRow({ ...judging, record: next }, row, {
      state: "sealed",
      checkpoint: offered.id,
      sourceFence: "fenced",
    }),
    row.id,
  )
}

export function staged(judging: Judging, request: PlainStepRequest): Decision {
  const { record, rules } = judging
  const row = rowFor(judging, request, "target")
  if (isRefusal(row)) return row
  switch (row.state) {
    case "sealed":
      return accepted(withRow(judging, row, { state: "staged" }), row.id)
    case "staged":
    case "owned":
    case "live":
    case "done":
      return rules.idempotent ? repeated(record, row.id) : refusedFor(record, "closed", row)
    case "open":
    case "copying":
      return refusedFor(record, "not_sealed", row)
    case "abandoned":
    case "superseded":
      return refusedFor(record, "closed", row)
  }
}

export function flip(judging: Judging, request: FlipRequest): Decision {
  const { record, rules } = judging
  const row = rowOf(record, request.id)
  if (row === null) return refused(record, "not_found", { handoff: request.id })
  if (request.by !== "gateway" && !isHost(request.by, row.target, row.targetIncarnation, rules)) {
    return refused(record, "not_allowed", { handoff: row.id, reason: "only the target may ask this" })
  }
  if (request.epoch !== row.epoch) return refused(record, "stale_epoch", { handoff: row.id })
  switch (row.state) {
    case "owned":
    case "live":
    case "done":
      return repeated(record, row.id)
    case "staged":
      return flipStaged(judging, row)
    case "open":
    case "copying":
      return refusedFor(record, "not_staged", row)
    case "sealed":
      return rules.flipCas ? refusedFor(record, "not_staged", row) : flipStaged(judging, row)
    case "abandoned":
    case "superseded":
      return rules.flipCas ? refusedFor(record, "closed", row) : flipStaged(judging, row)
  }
}

/** The commit point of the whole hand-off: before it everything rolls back, after it everything rolls forward. */
function flipStaged(judging: Judging, row: HandoffRow): Decision {
  const { record, context, rules } = judging
  const { workspace } = record
  const isOwner =
    row.source === workspace.ownerHost && (!rules.incarnation || row.sourceIncarnation === workspace.ownerIncarnation)
  const behind = refusedBehind(judging)
  if (behind !== null) return behind
  if (rules.flipCas && (row.epoch !== workspace.epoch || !isOwner)) {
    return refused(record, "stale_epoch", { handoff: row.id })
  }
  const epoch = workspace.epoch + 1
  const owner: OwnerRecord = {
    workspace: workspace.id,
    generation: workspace.generation,
    epoch,
    host: row.target,
    incarnation: row.targetIncarnation,
    checkpoint: row.checkpoint,
    handoff: row.id,
    witnessed: false,
    sinceMs: context.nowMs,
  }
  const moved: GatewayRecord = {
    ...record,
    owners: [...record.owners, owner],
    workspace: {
      ...workspace,
      ownerHost: row.target,
      ownerIncarnation: row.targetIncarnation,
      epoch,
      headCheckpoint: row.checkpoint,
      ownerSinceMs: context.nowMs,
    },
  }
  return accepted(withRow({ ...judging, record: moved }, row, { state: "owned", newEpoch: epoch }), row.id)
}

export function witness(judging: Judging, request: WitnessRequest): Decision {
  const { record } = judging
  const row = rowOf(record, request.id)
  if (row === null) return refused(record, "not_found", { handoff: request.id })
  const expected = ownerObject(record, row)
  if (expected === null) return refusedFor(record, "not_staged", row)
  if (!isSameObject(request.found, expected)) return refused(record, "gateway_behind", { handoff: row.id })
  if (row.witnessed) return repeated(record, row.id)
  return accepted(withWitness(judging, row, expected.epoch), row.id)
}

/** From now on the flip may be told: sources that were still waiting for a release are taken over. */
function withWitness(judging: Judging, flipped: HandoffRow, epoch: number): GatewayRecord {
  const { record } = judging
  const handoffs = record.handoffs.map((row) =>
    row.state === "abandoned" && row.epoch < epoch && row.sourceFence !== "released"
      ? { ...row, sourceFence: "taken_over" as const, updatedAtMs: judging.context.nowMs }
      : row,
  )
  const { generation } = record.workspace
  const owners = record.owners.map((owner) =>
    owner.epoch === epoch && owner.generation === generation ? { ...owner, witnessed: true } : owner,
  )
  const changes: Partial<HandoffRow> =
    flipped.kind === "reclaim" ? { witnessed: true, sourceFence: "taken_over" } : { witnessed: true }
  return withRow({ ...judging, record: { ...record, handoffs, owners } }, flipped, changes)
}

export function live(judging: Judging, request: PlainStepRequest): Decision {
  const { record } = judging
  const row = rowFor(judging, request, "target")
  if (isRefusal(row)) return row
  if (row.state === "live" || row.state === "done") return repeated(record, row.id)
  if (row.state === "abandoned" || row.state === "superseded") return refusedFor(record, "closed", row)
  if (row.state === "owned" && row.witnessed) return accepted(withRow(judging, row, { state: "live" }), row.id)
  return refusedFor(record, "not_owner", row)
}

export function done(judging: Judging, request: PlainStepRequest): Decision {
  const { record } = judging
  const row = rowFor(judging, request, "source")
  if (isRefusal(row)) return row
  if (row.state === "done") return repeated(record, row.id)
  if (row.state === "abandoned" || row.state === "superseded") return refusedFor(record, "closed", row)
  if (row.state !== "live") return refusedFor(record, "not_live", row)
  return accepted(withRow(judging, row, { state: "done" }), row.id)
}

export function release(judging: Judging, request: PlainStepRequest): Decision {
  const { record, rules } = judging
  const row = rowFor(judging, request, "source")
  if (isRefusal(row)) return row
  const seen = visibleRow(row)
  if (seen.state === "owned" || seen.state === "live" || seen.state === "done" || seen.state === "superseded") {
    return refused(record, "taken_over", { handoff: row.id })
  }
  if (seen.state !== "abandoned") return refusedFor(record, "handoff_open", row)
  if (row.sourceFence === "released") return repeated(record, row.id)
  const inTheWay = blocking(record, rules)
  // A reclaim whose flip isn't witnessed looks open: that is all the source may know.
  if (inTheWay?.kind === "reclaim" && (inTheWay.state !== "owned" || !inTheWay.witnessed)) {
    return refusedFor(record, "reclaim_open", inTheWay)
  }
  if (row.sourceFence === "taken_over" || record.workspace.epoch !== row.epoch) {
    return refused(record, "taken_over", { handoff: row.id })
  }
  const behind = refusedBehind(judging)
  if (behind !== null) return behind
  return accepted(withRow(judging, row, { sourceFence: "released" }), row.id)
}

export function undone(judging: Judging, request: PlainStepRequest): Decision {
  const { record } = judging
  const row = rowFor(judging, request, "target")
  if (isRefusal(row)) return row
  if (row.state !== "abandoned") {
    return refusedFor(record, visibleRow(row).newEpoch === null ? "handoff_open" : "already_owned", row)
  }
  if (row.targetUndone) return repeated(record, row.id)
  return accepted(withRow(judging, row, { targetUndone: true }), row.id)
}

function withCheckpoint({ record, context }: Judging, by: HostIdentity, offered: OfferedCheckpoint): GatewayRecord {
  const row: CheckpointRow = {
    id: offered.id,
    workspace: record.workspace.id,
    epoch: offered.epoch,
    creatorHost: by.host,
    creatorIncarnation: by.incarnation,
    parent: offered.parent,
    kind: offered.kind,
    committed: true,
    createdAtMs: context.nowMs,
  }
  return { ...record, checkpoints: new Map(record.checkpoints).set(row.id, row) }
}

function withHead(record: GatewayRecord, head: OfferedCheckpoint["id"]): GatewayRecord {
  return { ...record, workspace: { ...record.workspace, headCheckpoint: head } }
}

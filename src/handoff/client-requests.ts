/** Transitions that a client asks for: open, abandon, reclaim. */
import type { HandoffRow } from "../protocol/handoff.ts"
import { BLOCKING_STATES, blocking, type GatewayRecord, rowOf, unwitnessed, visibleWorkspace } from "./record.ts"
import type { AbandonRequest, Decision, OpenRequest, ReclaimRequest } from "./request.ts"
import {
  abandonment,
  accepted,
  isHost,
  type Judging,
  refusedBehind,
  refused,
  refusedFor,
  repeated,
  withRow,
} from "./transition.ts"

export function open(judging: Judging, request: OpenRequest): Decision {
  const { record, rules } = judging
  // An id that was abandoned before its open arrived is known, too: the late open finds it closed.
  if (rowOf(record, request.id) !== null) return repeated(record, request.id)
  const { workspace } = record
  const inTheWay = blocking(record, rules)
  if (rules.openSerial && inTheWay !== null) return refusedFor(record, "handoff_open", inTheWay)
  if (rules.openEpoch && request.epoch !== workspace.epoch) return refused(record, "stale_epoch")
  if (!isHost(request.source, workspace.ownerHost, workspace.ownerIncarnation, rules)) {
    return refused(record, "not_owner")
  }
  const behind = refusedBehind(judging)
  if (behind !== null) return behind
  if (request.target.host === request.source.host) {
    return refused(record, "invalid_request", { reason: "target and source are one host" })
  }
  return accepted(
    withNewRow(judging, {
      ...freshRow(judging),
      id: request.id,
      kind: request.kind,
      source: request.source.host,
      sourceIncarnation: request.source.incarnation,
      target: request.target.host,
      targetIncarnation: request.target.incarnation,
      openedBy: request.openedBy,
      protocol: request.protocol,
    }),
    request.id,
  )
}

export function abandon(judging: Judging, request: AbandonRequest): Decision {
  const { record } = judging
  const row = rowOf(record, request.id)
  if (row === null) return accepted(withNewRow(judging, neverOpened(judging, request)), request.id)
  switch (row.state) {
    case "abandoned":
      return repeated(record, row.id)
    case "open":
    case "copying":
    case "sealed":
    case "staged":
      return accepted(withRow(judging, row, abandonment(row, request.closedBy)), row.id)
    case "owned":
      // Before the witness nobody may hear of the flip; a moment later this is refused for good.
      return row.witnessed ? refused(record, "already_owned", { handoff: row.id }) : refusedFor(record, "busy", row)
    case "live":
    case "done":
    case "superseded":
      return refused(record, "already_owned", { handoff: row.id })
  }
}

export function reclaim(judging: Judging, request: ReclaimRequest): Decision {
  const { record, rules } = judging
  if (rowOf(record, request.id) !== null) return repeated(record, request.id)
  const hidden = unwitnessed(record)
  if (hidden !== null) return refusedFor(record, "busy", hidden)
  const { workspace } = record
  const inTheWay = blocking(record, rules)
  if (!rules.reclaimAny && inTheWay !== null) return refusedFor(record, "handoff_open", inTheWay)
  if (request.epoch !== workspace.epoch) return refused(record, "stale_epoch")
  const behind = refusedBehind(judging)
  if (behind !== null) return behind
  if (workspace.headCheckpoint === null) return refused(record, "no_checkpoint")
  if (isHost(request.by, workspace.ownerHost, workspace.ownerIncarnation, rules)) {
    return refused(record, "not_lost", { reason: "the asking host is the owner" })
  }
  if (rules.reclaimProof && !isProved(record, request)) {
    return refused(record, "not_lost", { reason: `no proof: ${request.proof}` })
  }
  const reclaimed: HandoffRow = {
    ...freshRow(judging),
    id: request.id,
    kind: "reclaim",
    source: workspace.ownerHost,
    sourceIncarnation: workspace.ownerIncarnation,
    target: request.by.host,
    targetIncarnation: request.by.incarnation,
    state: "sealed",
    checkpoint: workspace.headCheckpoint,
    openedBy: request.openedBy,
    proof: request.proof,
    lost: request.lost,
    protocol: request.protocol,
  }
  return accepted(withNewRow({ ...judging, record: closeOthers(judging, request.openedBy) }, reclaimed), request.id)
}

/** Every open row is abandoned; the row by which the lost owner came is superseded. */
function closeOthers(judging: Judging, closedBy: string): GatewayRecord {
  const { record, context, rules } = judging
  const close = (row: HandoffRow): HandoffRow => {
    const updatedAtMs = context.nowMs
    if (row.newEpoch === record.workspace.epoch && (row.state === "owned" || row.state === "live")) {
      return { ...row, state: "superseded", closedBy, updatedAtMs }
    }
    if (BLOCKING_STATES.includes(row.state)) return { ...row, ...abandonment(row, closedBy), updatedAtMs }
    if (!rules.releaseUntilFlip && row.state === "abandoned" && row.sourceFence !== "released") {
      return { ...row, sourceFence: "taken_over", updatedAtMs }
    }
    return row
  }
  return { ...record, handoffs: record.handoffs.map(close) }
}

function isProved(record: GatewayRecord, request: ReclaimRequest): boolean {
  return request.proof === "fenced" ? isOwnerFenced(record) : request.isConfirmed
}

/**
 * The owner's last hand-off was abandoned after it had sealed and before it was released: it can't lift its fence without a
 * release, and that is closed from the flip on. So nothing is lost by a reclaim, and no proof of loss is needed.
 */
function isOwnerFenced(record: GatewayRecord): boolean {
  const { workspace } = record
  const last = record.handoffs.findLast(
    (row) =>
      row.kind !== "reclaim" &&
      row.source === workspace.ownerHost &&
      row.sourceIncarnation === workspace.ownerIncarnation,
  )
  return last?.state === "abandoned" && last.sourceFence === "fenced" && last.epoch === visibleWorkspace(record).epoch
}

type FreshRow = Omit<
  HandoffRow,
  "id" | "kind" | "source" | "sourceIncarnation" | "target" | "targetIncarnation" | "openedBy" | "protocol"
>

function freshRow({ record, context }: Judging): FreshRow {
  return {
    workspace: record.workspace.id,
    seq: record.workspace.handoffSeq + 1,
    epoch: record.workspace.epoch,
    state: "open",
    checkpoint: null,
    newEpoch: null,
    sourceFence: "unknown",
    targetUndone: false,
    witnessed: false,
    closedBy: null,
    proof: null,
    lost: null,
    startedAtMs: context.nowMs,
    updatedAtMs: context.nowMs,
  }
}

/** The row of an id that nobody opened: its hosts are the owner, nobody was told anything, so nothing is left to undo. */
function neverOpened(judging: Judging, request: AbandonRequest): HandoffRow {
  const owner = visibleWorkspace(judging.record)
  return {
    ...freshRow(judging),
    id: request.id,
    epoch: owner.epoch,
    kind: "push",
    source: owner.ownerHost,
    sourceIncarnation: owner.ownerIncarnation,
    target: owner.ownerHost,
    targetIncarnation: owner.ownerIncarnation,
    state: "abandoned",
    sourceFence: "released",
    targetUndone: true,
    openedBy: request.closedBy,
    closedBy: request.closedBy,
    protocol: 0,
  }
}

function withNewRow({ record }: Judging, row: HandoffRow): GatewayRecord {
  return {
    ...record,
    workspace: { ...record.workspace, handoffSeq: row.seq },
    handoffs: [...record.handoffs, row],
  }
}

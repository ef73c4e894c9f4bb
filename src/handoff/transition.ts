/** The small moves that every transition is made of. */
import type { ErrorCode } from "../protocol/errors.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { HandoffId, HostId, Incarnation } from "../protocol/ids.ts"
import { type GatewayRecord, rowOf, visibleRow, visibleWorkspace } from "./record.ts"
import type { Answer, DecideContext, Decision, HostIdentity, Refusal, RefusalDetails } from "./request.ts"
import type { Rules } from "./rules.ts"

/** What every transition is given besides its request. */
export interface Judging {
  readonly record: GatewayRecord
  readonly context: DecideContext
  readonly rules: Rules
}

/** The answer that shows what may be seen of the row and its workspace. */
export function answerOf(record: GatewayRecord, id: HandoffId | null): Answer {
  const row = id === null ? null : rowOf(record, id)
  return { handoff: row === null ? null : visibleRow(row), workspace: visibleWorkspace(record) }
}

export function accepted(record: GatewayRecord, id: HandoffId | null): Decision {
  return { kind: "accepted", record, answer: answerOf(record, id) }
}

export function repeated(record: GatewayRecord, id: HandoffId | null): Decision {
  return { kind: "repeat", answer: answerOf(record, id) }
}

/** A refusal; owner and epoch, as far as they may be seen, are always in it. */
export function refused(record: GatewayRecord, code: ErrorCode, details: RefusalDetails = {}): Refusal {
  const workspace = visibleWorkspace(record)
  const owner = { ownerHost: workspace.ownerHost, epoch: workspace.epoch, sinceMs: workspace.ownerSinceMs }
  return { kind: "refused", code, details: { ...owner, ...details } }
}

/** A refusal because of a hand-off: which, in what state, opened by whom, since when. */
export function refusedFor(record: GatewayRecord, code: ErrorCode, row: HandoffRow): Refusal {
  const seen = visibleRow(row)
  return refused(record, code, {
    handoff: seen.id,
    state: seen.state,
    openedBy: seen.openedBy,
    sinceMs: seen.startedAtMs,
  })
}

/** While a host has heard of a newer record than this one, nothing that moves ownership may be done by it. */
export function refusedBehind({ record, rules }: Judging): Refusal | null {
  const { behind } = record.workspace
  return behind === null || !rules.behind ? null : refused(record, "gateway_behind", { behind })
}

/** A target hears of a hand-off from `sealed` on: before that it has nothing to undo. */
export function abandonment(row: HandoffRow, closedBy: string): Partial<HandoffRow> {
  return { state: "abandoned", closedBy, targetUndone: row.state === "open" || row.state === "copying" }
}

/** The record with one row changed; everything else keeps its reference. */
export function withRow({ record, context }: Judging, row: HandoffRow, changes: Partial<HandoffRow>): GatewayRecord {
  const next = { ...row, ...changes, updatedAtMs: context.nowMs }
  return { ...record, handoffs: record.handoffs.map((each) => (each.id === row.id ? next : each)) }
}

/** Whether the asker is this host, with the disk it had then. */
export function isHost(asker: HostIdentity, host: HostId, incarnation: Incarnation, rules: Rules): boolean {
  return asker.host === host && (!rules.incarnation || asker.incarnation === incarnation)
}

/** The row as its source or target may speak of it, or the refusal: unknown id, another host, another disk, another epoch. */
export function rowFor(
  { record, rules }: Judging,
  request: { readonly id: HandoffId; readonly by: HostIdentity; readonly epoch: number },
  role: "source" | "target",
): HandoffRow | Refusal {
  const row = rowOf(record, request.id)
  if (row === null) return refused(record, "not_found", { handoff: request.id })
  const [host, incarnation] =
    role === "source" ? [row.source, row.sourceIncarnation] : [row.target, row.targetIncarnation]
  if (!isHost(request.by, host, incarnation, rules)) {
    return refused(record, "not_allowed", { handoff: row.id, reason: `only the ${role} may ask this` })
  }
  if (request.epoch !== row.epoch) return refused(record, "stale_epoch", { handoff: row.id })
  return row
}

export function isRefusal(value: HandoffRow | Refusal): value is Refusal {
  return value.kind === "refused"
}

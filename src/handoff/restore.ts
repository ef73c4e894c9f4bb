/**
 * A gateway whose database went back takes the owner from the store's newest owner object (specification, section 7). It begins a
 * generation above that one's, so that whatever was said under the lost records is told from what is said now.
 */
import type { HandoffRow } from "../protocol/handoff.ts"
import { compareStamps, type Stamp } from "./adopt.ts"
import { BLOCKING_STATES, isSameObject, type GatewayRecord, type OwnerObject } from "./record.ts"
import type { Decision, RestoreRequest } from "./request.ts"
import { abandonment, accepted, type Judging, refused, repeated, withRow } from "./transition.ts"

/** Hand-offs that nobody here knows of any more were numbered below this much more than the record says. */
const LOST_HANDOFFS_MAX = 1_000_000

/** Whether the record is older than what the store says. A flip of its own that isn't witnessed yet is not. */
export function isRestored({ workspace }: Pick<GatewayRecord, "workspace">, newest: OwnerObject): boolean {
  return compareStamps(workspace, newest) < 0
}

/** The object that begins the new generation, in the store before the record says so. */
export function restoredObject(newest: OwnerObject): OwnerObject {
  return { ...newest, ...stampOf(newest), handoff: null }
}

function stampOf({ generation, epoch }: OwnerObject): Stamp {
  return { generation: generation + 1, epoch }
}

/** The record as the store knows it. What was open is over: its outcome is not known here, and nobody acts on it any more. */
export function restore(judging: Judging, { newest, found, checkpoint }: RestoreRequest): Decision {
  const { record, context } = judging
  if (!isRestored(record, newest)) return repeated(record, null)
  if (!isSameObject(found, restoredObject(newest))) return refused(record, "gateway_behind")
  const stamp = stampOf(newest)
  const owner = {
    workspace: record.workspace.id,
    ...stamp,
    host: newest.host,
    incarnation: newest.incarnation,
    checkpoint: newest.checkpoint,
    handoff: null,
    witnessed: true,
    sinceMs: context.nowMs,
  }
  let next: GatewayRecord = {
    ...record,
    workspace: {
      ...record.workspace,
      ...stamp,
      ownerHost: newest.host,
      ownerIncarnation: newest.incarnation,
      headCheckpoint: newest.checkpoint,
      handoffSeq: record.workspace.handoffSeq + LOST_HANDOFFS_MAX,
      ownerSinceMs: context.nowMs,
      behind: null,
    },
    owners: [...record.owners, owner],
    checkpoints:
      checkpoint === null ? record.checkpoints : new Map([...record.checkpoints, [checkpoint.id, checkpoint]]),
  }
  for (const row of record.handoffs) {
    const changes = outcomeOf(row, newest)
    if (changes !== null) next = withRow({ ...judging, record: next }, row, changes)
  }
  return accepted(next, null)
}

/**
 * The hand-off that made this owner has been flipped and witnessed: it goes on from there, for the target may not have heard of it. Every
 * other one is undone at its target, and its source isn't the owner any more.
 */
function outcomeOf(row: HandoffRow, newest: OwnerObject): Partial<HandoffRow> | null {
  if (row.id === newest.handoff) return { state: "owned", newEpoch: newest.epoch, witnessed: true }
  if (BLOCKING_STATES.includes(row.state) && row.state !== "owned") {
    return { ...abandonment(row, "restore"), sourceFence: "taken_over" }
  }
  if (row.state === "owned" || row.state === "live") return { state: "superseded", closedBy: "restore" }
  const isReleased = row.sourceFence === "released" || row.sourceFence === "taken_over"
  return row.state === "abandoned" && row.kind !== "reclaim" && !isReleased ? { sourceFence: "taken_over" } : null
}

/**
 * A gateway takes its record of a workspace from a host that lives under another one's, or under its own lost one's (specification,
 * section 7). The newer (generation, epoch) wins; the record that wins begins a generation above both, so that whoever still speaks
 * for an older one is refused.
 */
import type { Claim } from "../protocol/claims.ts"
import type { HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import {
  BLOCKING_STATES,
  type GatewayRecord,
  isSameObject,
  newRecord,
  type OwnerObject,
  unwitnessed,
} from "./record.ts"
import type { AdoptRequest, Decision, HostIdentity } from "./request.ts"
import type { Rules } from "./rules.ts"
import { abandonment, accepted, isHost, type Judging, refused, refusedFor, repeated, withRow } from "./transition.ts"

export interface Stamp {
  readonly generation: number
  readonly epoch: number
}

/** Negative when the first one is older. */
export function compareStamps(one: Stamp, other: Stamp): number {
  return one.generation - other.generation || one.epoch - other.epoch
}

/** Whether the host owns what it claims: it is live, and no hand-off that somebody else may still decide is open there. */
export function isOwnersClaim(claim: Claim, rules: Pick<Rules, "adoptLive">): boolean {
  if (claim.epoch === null || claim.epoch < 1) return false
  return !rules.adoptLive || (claim.isLive && claim.open.length === 0)
}

/**
 * The stamp under which a gateway adopts the owner that makes this claim; null where its record needs no change. `known` is that
 * record, null when there is none. Epochs grow past those of every owner here before: hosts here compare them.
 */
export function adoptionStamp(known: WorkspaceRow | null, claim: Claim, by: HostIdentity, rules: Rules): Stamp | null {
  if (!isOwnersClaim(claim, rules)) return null
  const epoch = claim.epoch ?? 0
  if (known === null) return { generation: claim.generation + 1, epoch }
  const order = compareStamps({ generation: claim.generation, epoch }, known)
  const generation = Math.max(known.generation, known.behind?.generation ?? 0, claim.generation) + 1
  if (isHost(by, known.ownerHost, known.ownerIncarnation, rules)) {
    const isCurrent = order === 0 || (order < 0 && epoch <= known.epoch)
    const isSeenNewer = known.behind !== null && known.behind.host !== by.host
    return isCurrent && !isSeenNewer ? null : { generation, epoch: Math.max(known.epoch, epoch) }
  }
  return order > 0 ? { generation, epoch: Math.max(known.epoch + 1, epoch) } : null
}

/** Two hosts are the owner of one and the same epoch: nobody but a person can say which. */
export function isConflict(known: WorkspaceRow, claim: Claim, by: HostIdentity, rules: Rules): boolean {
  if (!isOwnersClaim(claim, rules) || isHost(by, known.ownerHost, known.ownerIncarnation, rules)) return false
  return compareStamps({ generation: claim.generation, epoch: claim.epoch ?? 0 }, known) === 0
}

/** Content of the object that is in the store before anything else is done. */
export function adoptedObject(known: WorkspaceRow | null, stamp: Stamp, by: HostIdentity): OwnerObject {
  const { host, incarnation } = by
  return { ...stamp, handoff: null, host, incarnation, checkpoint: known?.headCheckpoint ?? null }
}

/** The record of a workspace of which this gateway had none. Its store has no checkpoint of it: the next one is full. */
export function adoptedRecord(
  stamp: Stamp,
  claim: Claim,
  by: HostIdentity,
  name: string,
  nowMs: number,
): GatewayRecord {
  const record = newRecord({
    id: claim.workspace,
    name,
    ownerHost: by.host,
    ownerIncarnation: by.incarnation,
    ...stamp,
    headCheckpoint: null,
    handoffSeq: claim.handoffSeq,
    ownerSinceMs: nowMs,
    behind: null,
  })
  return { ...record, owners: record.owners.map((owner) => ({ ...owner, witnessed: true })) }
}

/**
 * Takes the claim into a record that is there. Accepted also when only the number of hand-offs or `behind` changes; the caller then
 * tells the host how the workspace stands.
 */
export function adopt(judging: Judging, request: AdoptRequest): Decision {
  const { record, rules } = judging
  const { workspace } = record
  const { claim, by } = request
  const hidden = unwitnessed(record)
  if (hidden !== null) return refusedFor(record, "busy", hidden)
  if (isConflict(workspace, claim, by, rules)) {
    return refused(record, "already_owned", { reason: "two hosts claim this epoch" })
  }
  const handoffSeq = rules.adoptSeq ? Math.max(workspace.handoffSeq, claim.handoffSeq) : workspace.handoffSeq
  const stamp = adoptionStamp(workspace, claim, by, rules)
  if (stamp === null) {
    const behind = behindOf(workspace, claim, by)
    if (behind === workspace.behind && handoffSeq === workspace.handoffSeq) return repeated(record, null)
    return accepted({ ...record, workspace: { ...workspace, handoffSeq, behind } }, null)
  }
  const expected = adoptedObject(workspace, stamp, by)
  if (request.found === null || !isSameObject(request.found, expected)) return refused(record, "gateway_behind")
  return accepted(adopted(judging, stamp, by, handoffSeq), null)
}

/**
 * A host that isn't owner can't be believed to know who is, but that there is a newer record it does know. When it was the one of which
 * that was believed, and it has heard of none, it is believed no more.
 */
function behindOf(workspace: WorkspaceRow, claim: Claim, by: HostIdentity): WorkspaceRow["behind"] {
  const seen = { generation: claim.generation, epoch: claim.seenEpoch }
  const others = workspace.behind?.host === by.host ? null : workspace.behind
  if (claim.isLive || compareStamps(seen, others ?? workspace) <= 0) return others
  return { ...seen, host: by.host }
}

/**
 * What is believed of a workspace whose owner has been given to another gateway: that one has adopted it, or will.
 */
export function behindOwner(workspace: WorkspaceRow): NonNullable<WorkspaceRow["behind"]> {
  const { generation, epoch, ownerHost: host } = workspace
  return { generation: generation + 1, epoch, host }
}

function adopted(judging: Judging, stamp: Stamp, by: HostIdentity, handoffSeq: number): GatewayRecord {
  const { record, context } = judging
  const { workspace } = record
  const owner = {
    workspace: workspace.id,
    ...stamp,
    host: by.host,
    incarnation: by.incarnation,
    checkpoint: workspace.headCheckpoint,
    handoff: null,
    witnessed: true,
    sinceMs: context.nowMs,
  }
  const changed: WorkspaceRow = {
    ...workspace,
    ...stamp,
    ownerHost: by.host,
    ownerIncarnation: by.incarnation,
    handoffSeq,
    ownerSinceMs: context.nowMs,
    behind: null,
  }
  let next: GatewayRecord = { ...record, workspace: changed, owners: [...record.owners, owner] }
  for (const row of record.handoffs) {
    const changes = closing(judging, row, by)
    if (changes !== null) next = withRow({ ...judging, record: next }, row, changes)
  }
  return next
}

/** What was open here is over: the owner lives without it. Targets undo it as ever; sources that were on hold are taken over. */
function closing({ rules }: Judging, row: HandoffRow, by: HostIdentity): Partial<HandoffRow> | null {
  const isSource = isHost(by, row.source, row.sourceIncarnation, rules)
  const sourceFence = isSource ? ("released" as const) : ("taken_over" as const)
  if (row.state === "owned" || row.state === "live") {
    if (!isHost(by, row.target, row.targetIncarnation, rules)) return { state: "superseded", closedBy: "adopt" }
    // Its receipt got lost: it is live.
    return row.state === "owned" ? { state: "live" } : null
  }
  if (BLOCKING_STATES.includes(row.state)) return { ...abandonment(row, "adopt"), sourceFence }
  // Also a release that nobody has heard of yet: the source isn't the owner any more.
  return row.state === "abandoned" && row.kind !== "reclaim" && row.sourceFence !== sourceFence ? { sourceFence } : null
}

/** What the gateway is asked, and what the core answers. Table of section 4 of the specification. */
import type { Claim } from "../protocol/claims.ts"
import type { ErrorCode } from "../protocol/errors.ts"
import type { CheckpointRow, HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import type { CheckpointId, HandoffId, HostId, Incarnation } from "../protocol/ids.ts"
import type { GatewayRecord, OwnerObject } from "./record.ts"

/** A host, as its token and its own data folder name it. */
export interface HostIdentity {
  readonly host: HostId
  readonly incarnation: Incarnation
}

/** A checkpoint as a request brings it. */
export interface OfferedCheckpoint {
  readonly id: CheckpointId
  readonly epoch: number
  readonly parent: CheckpointId | null
  readonly kind: "live" | "sealed"
  /** The gateway found the manifest and every blob it names in the store, with its stored size, just before this request. */
  readonly blobsVerified: boolean
}

/** The gateway did its preflights of both sides before it asks; their failure has codes of its own. */
export interface OpenRequest {
  readonly request: "open"
  readonly id: HandoffId
  readonly kind: "push" | "pull"
  readonly source: HostIdentity
  readonly target: HostIdentity
  readonly epoch: number
  readonly openedBy: string
  readonly protocol: number
}
export interface CommitRequest {
  readonly request: "commit"
  readonly by: HostIdentity
  readonly epoch: number
  readonly checkpoint: OfferedCheckpoint
}
/** copying(id, c) and sealed(id, c), by the source. */
export interface CheckpointStepRequest {
  readonly request: "copying" | "sealed"
  readonly id: HandoffId
  readonly by: HostIdentity
  readonly epoch: number
  readonly checkpoint: OfferedCheckpoint
}
/** staged, live, undone by the target; done, release by the source (a gateway that drives a source names that source). */
export interface PlainStepRequest {
  readonly request: "staged" | "live" | "done" | "release" | "undone"
  readonly id: HandoffId
  readonly by: HostIdentity
  readonly epoch: number
}
/** By the gateway for a target that it can call; by the target itself when it is a laptop. */
export interface FlipRequest {
  readonly request: "flip"
  readonly id: HandoffId
  readonly by: HostIdentity | "gateway"
  readonly epoch: number
}
/** After the create-only write: what the store holds now under that name, by whomever it was written. */
export interface WitnessRequest {
  readonly request: "witness"
  readonly id: HandoffId
  readonly found: OwnerObject
}
export interface AbandonRequest {
  readonly request: "abandon"
  readonly id: HandoffId
  readonly closedBy: string
}
export interface ReclaimRequest {
  readonly request: "reclaim"
  readonly id: HandoffId
  readonly by: HostIdentity
  readonly epoch: number
  readonly proof: "destroyed" | "fenced" | "attested"
  /**
   * `destroyed`: the provisioner said so of this incarnation, or another one answers under its name. `attested`: the user typed
   * the host's name after being told what it means. `fenced` is judged from the record alone.
   */
  readonly isConfirmed: boolean
  readonly openedBy: string
  readonly lost: string | null
  readonly protocol: number
}
/** By the gateway, of a workspace whose newest owner object is newer than its record. */
export interface RestoreRequest {
  readonly request: "restore"
  /** The newest object in the store. */
  readonly newest: OwnerObject
  /** What the store holds now under the name of `restoredObject`. */
  readonly found: OwnerObject
  /** The row of the newest object's checkpoint, from its manifest; null: it has none. */
  readonly checkpoint: CheckpointRow | null
}
/** By the gateway, of a host whose claim it has asked for. Of a workspace without a record: `adoptedRecord`. */
export interface AdoptRequest {
  readonly request: "adopt"
  readonly by: HostIdentity
  readonly claim: Claim
  /** What the store holds under the name of `adoptedObject`; null while that isn't written. */
  readonly found: OwnerObject | null
}
export type Request =
  | RestoreRequest
  | AdoptRequest
  | OpenRequest
  | CommitRequest
  | CheckpointStepRequest
  | PlainStepRequest
  | FlipRequest
  | WitnessRequest
  | AbandonRequest
  | ReclaimRequest

/** Only what may be seen: see `visibleRow` and `visibleWorkspace`. The head is `workspace.headCheckpoint`. */
export interface Answer {
  readonly handoff: HandoffRow | null
  readonly workspace: WorkspaceRow
}

/** Facts a refusal carries; plain JSON. Which are there depends on the code. */
export interface RefusalDetails {
  readonly ownerHost?: HostId
  readonly epoch?: number
  readonly sinceMs?: number
  readonly head?: CheckpointId | null
  readonly checkpoint?: CheckpointId | null
  /** The hand-off in the way. */
  readonly handoff?: HandoffId
  readonly state?: HandoffRow["state"]
  readonly openedBy?: string
  readonly reason?: string
  readonly behind?: WorkspaceRow["behind"]
}

export interface Refusal {
  readonly kind: "refused"
  readonly code: ErrorCode
  readonly details: RefusalDetails
}

export type Decision =
  /** Write what differs (by reference) from the record that was given, then answer. */
  | { readonly kind: "accepted"; readonly record: GatewayRecord; readonly answer: Answer }
  /** Nothing to write; the effect was recorded before. */
  | { readonly kind: "repeat"; readonly answer: Answer }
  | Refusal

export interface DecideContext {
  readonly nowMs: number
}

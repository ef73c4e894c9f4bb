/**
 * The host's half of the hand-off, pure: journal + word or event → new journal + effects.
 *
 * `onWord` (host-words.ts), `onEvent` and `onRestart` (host-events.ts) each give a {@link Step}. The runtime, for one workspace
 * one step at a time: write the returned journal with fsync when it is another object, execute the effects in order, then feed
 * the events that they completed with (see {@link Effect}) to `onEvent`, in order. An effect that fails ends its list: the rest
 * isn't done, the failure goes to whoever waits; the word comes again, or a client abandons. A crash loses the rest of a list;
 * `onRestart` finds it again, and may be fed at any time (after a failed `fence` or `lift` it must be). Every answer of the gateway that shows a workspace is first fed back as `heard-epoch`, a refusal as
 * `refused`; for a row that an `ask`, a poll or the answer to `release` brings, `wordFor(row, workspace, host)` goes to `onWord`.
 * The `answer` effect is what the one who brought the word gets; the rest runs on. "Unknown hand-off" is no word: nothing is fed.
 */
import type { ErrorCode } from "../protocol/errors.ts"
import type { HostJournal, JournalEntry, Word, WorkspaceRow } from "../protocol/handoff.ts"
import type { CheckpointId, HandoffId, Incarnation, WorkspaceId } from "../protocol/ids.ts"
import { FIRST_GENERATION } from "./record.ts"

export type StageWord = Extract<Word, { word: "stage" }>

/** What the reducer must know of the host itself. */
export interface HostFacts {
  readonly incarnation: Incarnation
  /** False for a laptop: it flips its own hand-offs when it is the target. */
  readonly canBeCalled: boolean
}

export type HostRequest = "sealed" | "staged" | "flip" | "live" | "done" | "release" | "undone" | "abandon"

export type Effect =
  /** Puts the markers at the agents in force. `id` null: not for a hand-off. */
  | { readonly effect: "fence"; readonly id: HandoffId | null }
  /** Ends running turns and then, with every marker in force, checks that none runs; fails (`session_busy`) when one stays. */
  | { readonly effect: "drain"; readonly id: HandoffId | null }
  /** Captures a sealed checkpoint and uploads it. Completes with `captured`. */
  | { readonly effect: "capture"; readonly id: HandoffId; readonly parent: CheckpointId | null }
  /** Asks the gateway. `epoch` is that of the row. Completes with `acknowledged`, `refused` or `sealed-with`; `release`: with the word. */
  | {
      readonly effect: "send"
      readonly request: HostRequest
      readonly id: HandoffId
      readonly epoch: number
      readonly checkpoint: CheckpointId | null
    }
  /** Saves what is in the target's directory and stores, under refs. Completes with `backed-up`. */
  | { readonly effect: "backup"; readonly word: StageWord }
  /** Applies the checkpoint over whatever is there (also over its own half) and verifies. Completes with `applied`. */
  | {
      readonly effect: "apply"
      readonly id: HandoffId
      readonly checkpoint: CheckpointId
      readonly backupRef: string
    }
  /** Removes the markers: prompts are accepted from now on, under this epoch. */
  | { readonly effect: "lift"; readonly epoch: number }
  /** The copy is marked as handed off for `status`; temporary files go. */
  | { readonly effect: "mark-handed-off"; readonly id: HandoffId }
  /**
   * Saves tree and newer session records before anything covers them. With an `id`: what the user changed since the backup or the
   * staging of that hand-off, before its backup is restored or its apply is done again (an effect that looks for such changes
   * itself, and saves them, does this one too). Without: the tree as it is after news of a newer epoch, under
   * `refs/decamp/left/<epoch>`.
   */
  | { readonly effect: "save-left"; readonly id: HandoffId | null; readonly epoch: number }
  /** Brings back exactly what `backup` saved. Completes with `restored`. */
  | { readonly effect: "restore-backup"; readonly id: HandoffId; readonly backupRef: string }
  /** The gateway has sealed another capture than this one: say what differs between the two. */
  | {
      readonly effect: "report-difference"
      readonly id: HandoffId
      readonly captured: CheckpointId | null
      readonly sealedWith: CheckpointId
    }
  /** Asks the gateway for this row and the epoch; then `heard-epoch` and its word. */
  | { readonly effect: "ask"; readonly id: HandoffId }
  /** The answer to a word, or to an event that brought news. */
  | { readonly effect: "answer"; readonly answer: WordAnswer }

export type WordAnswer =
  | { readonly answer: "accepted" }
  | { readonly answer: "closed" }
  /** Not for the state this host is in; nothing changed. */
  | { readonly answer: "ignored" }
  | { readonly answer: "resolve_first"; readonly id: HandoffId }
  /** The news are older than what was heard; the host stays as it is. */
  | { readonly answer: "gateway_behind"; readonly seenEpoch: number; readonly seenGeneration: number }

export type HostEvent =
  | { readonly event: "captured"; readonly id: HandoffId; readonly checkpoint: CheckpointId }
  | { readonly event: "backed-up"; readonly word: StageWord; readonly backupRef: string }
  /** `isVerified` false: the tree or the sessions differ from the manifest; the hand-off stays sealed. */
  | { readonly event: "applied"; readonly id: HandoffId; readonly isVerified: boolean }
  | { readonly event: "restored"; readonly id: HandoffId }
  /** The gateway answered 200 to this request (also as a repeat). */
  | { readonly event: "acknowledged"; readonly id: HandoffId; readonly request: HostRequest }
  | {
      readonly event: "refused"
      readonly id: HandoffId
      readonly request: HostRequest
      readonly code: ErrorCode
    }
  | { readonly event: "sealed-with"; readonly id: HandoffId; readonly checkpoint: CheckpointId }
  /** How the gateway's record stands: `owner` is the incarnation that it names, `head` its newest checkpoint. */
  | {
      readonly event: "heard-epoch"
      readonly generation: number
      readonly epoch: number
      readonly owner: Incarnation
      readonly head: CheckpointId | null
    }
  /** The owner's own commit was accepted. */
  | { readonly event: "committed"; readonly head: CheckpointId }
  /** The user broke off (Ctrl-C) before the gateway said sealed. */
  | { readonly event: "cancelled"; readonly id: HandoffId }

/** The event that every answer of the gateway brings. */
export function heardOf({ generation, epoch, ownerIncarnation, headCheckpoint }: WorkspaceRow): HostEvent {
  return { event: "heard-epoch", generation, epoch, owner: ownerIncarnation, head: headCheckpoint }
}

export interface Step {
  /** The same object when nothing changed. */
  readonly journal: HostJournal
  readonly effects: readonly Effect[]
}

/** Journal of the host that registers a workspace by its first push: live owner, not fenced. */
export function newOwnerJournal(workspace: WorkspaceId, epoch: number, generation: number): HostJournal {
  return { ...unknownJournal(workspace), ownEpoch: epoch, seenEpoch: epoch, seenGeneration: generation, fence: "none" }
}

/** Journal of a host that holds no record of the workspace: fenced, owner of nothing. Also for what a plain pull brings. */
export function unknownJournal(workspace: WorkspaceId): HostJournal {
  return {
    workspace,
    ownEpoch: null,
    seenEpoch: 0,
    seenGeneration: FIRST_GENERATION,
    fence: "not-owner",
    knownHead: null,
    lastClosedSeq: 0,
    entries: [],
  }
}

/** Whether this host accepts prompts and commits for the workspace. */
export function isLiveOwner(journal: HostJournal): boolean {
  return journal.fence === "none" && journal.ownEpoch !== null
}

/** A target that is live waits only for the gateway's receipt: nothing of it can be undone any more. */
export function isUnsettled(entry: JournalEntry): boolean {
  return entry.phase !== "live" && entry.phase !== "closed"
}

export function entryOf(journal: HostJournal, id: HandoffId): JournalEntry | null {
  return journal.entries.find((entry) => entry.id === id) ?? null
}

/** What a person can do now about a hand-off (specification, section 5, table). Data; the CLI makes sentences of it. */
import type { HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import type { HostId } from "../protocol/ids.ts"
import { visibleRow } from "./record.ts"

/** Who looks, and what is known of the machines. */
export interface Viewer {
  readonly host: HostId
  readonly isSourceReachable: boolean
  readonly isTargetReachable: boolean
  /** The target is a laptop: only it can run its own leg. */
  readonly isTargetCallable: boolean
}

export type NextCommand = "continue" | "abandon" | "reclaim"

export type Situation =
  /** Nothing was changed at the target; everything is still at the source. */
  | "not-sealed"
  /** A sealed checkpoint waits for the target. */
  | "waits-for-target"
  /** The target owns it and doesn't answer yet. */
  | "owned-not-live"
  /** The target is live; the source hasn't been told. */
  | "source-not-told"
  /** Undone; the source is on hold until it hears of its release. */
  | "undone-source-fenced"
  /** Undone and released at the gateway; a source that is still on hold comes back when it asks. */
  | "undone"
  | "done"
  | "taken-over"

export interface NextStep {
  readonly situation: Situation
  /** Commands that apply, the one to try first in front. Empty: there is only waiting, or nothing to do. */
  readonly commands: readonly NextCommand[]
  /** Host for which everything waits, null when for none. */
  readonly waitsFor: HostId | null
  /** `reclaim` loses nothing and needs no proof of loss. */
  readonly isReclaimSafe: boolean
}

/** The next step for this row, as the viewer sees it. `workspace` is the visible one. */
export function nextStep(row: HandoffRow, workspace: WorkspaceRow, viewer: Viewer): NextStep {
  const seen = visibleRow(row)
  const canRunTarget = viewer.host === seen.target || (viewer.isTargetCallable && viewer.isTargetReachable)
  switch (seen.state) {
    case "open":
    case "copying": {
      const canRun = viewer.host === seen.source || viewer.isSourceReachable
      return canRun ? step("not-sealed", ["continue", "abandon"]) : step("not-sealed", ["abandon"], seen.source)
    }
    case "sealed":
    case "staged":
      if (canRunTarget) return step("waits-for-target", ["continue", "abandon"])
      // A laptop runs its own leg; a host that can be called may be back when the command is typed.
      return step("waits-for-target", viewer.isTargetCallable ? ["continue", "abandon"] : ["abandon"], seen.target)
    case "owned":
      return canRunTarget
        ? step("owned-not-live", ["continue"])
        : step("owned-not-live", ["continue", "reclaim"], seen.target)
    case "live":
      return step("source-not-told", [])
    case "abandoned":
      return undoneStep(seen, workspace, viewer)
    case "done":
      return step("done", [])
    case "superseded":
      return step("taken-over", [])
  }
}

function undoneStep(row: HandoffRow, workspace: WorkspaceRow, viewer: Viewer): NextStep {
  if (row.sourceFence === "released") return step("undone", [])
  if (row.sourceFence === "taken_over" || workspace.epoch !== row.epoch) return step("taken-over", [])
  if (row.kind === "reclaim") return step("undone", [])
  if (viewer.host === row.source || viewer.isSourceReachable) return step("undone-source-fenced", ["continue"])
  const isReclaimSafe = row.sourceFence === "fenced"
  return { situation: "undone-source-fenced", commands: ["reclaim"], waitsFor: row.source, isReclaimSafe }
}

function step(situation: Situation, commands: readonly NextCommand[], waitsFor: HostId | null = null): NextStep {
  return { situation, commands, waitsFor, isReclaimSafe: false }
}

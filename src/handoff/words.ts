/** What a host is told next about one hand-off: read from the record each time, so a lost word is simply said again. */
import type { HandoffRow, Word, WorkspaceRow } from "../protocol/handoff.ts"
import { visibleRow } from "./record.ts"
import type { HostIdentity } from "./request.ts"
import { ALL_RULES, type Rules } from "./rules.ts"

/**
 * The word for this host about this row, or null when there is nothing to tell it (it may be at work, or wait). `workspace` is
 * the visible one; so a laptop can apply this to the rows and the workspace that it was answered. Order over several rows of one
 * host: ascending `seq`; a host that answers `resolve_first(id)` is told that row's word first.
 */
export function wordFor(
  row: HandoffRow,
  workspace: WorkspaceRow,
  host: HostIdentity,
  rules: Rules = ALL_RULES,
): Word | null {
  const seen = visibleRow(row)
  const isNamed = (name: string, incarnation: string): boolean =>
    host.host === name && (!rules.incarnation || host.incarnation === incarnation)
  // A reclaim has no source leg: the lost owner learns of the new epoch, not of the hand-off.
  const { generation } = workspace
  const base = { workspace: seen.workspace, id: seen.id, seq: seen.seq, generation, to: host.incarnation }
  if (isNamed(seen.source, seen.sourceIncarnation) && seen.kind !== "reclaim")
    return wordForSource(seen, workspace, base)
  if (isNamed(seen.target, seen.targetIncarnation)) return wordForTarget(seen, workspace, base)
  return null
}

type WordBase = Pick<Word, "workspace" | "id" | "seq" | "generation" | "to">

function wordForSource(row: HandoffRow, workspace: WorkspaceRow, base: WordBase): Word | null {
  const takenOver: Word = { word: "taken-over", ...base, epoch: workspace.epoch }
  switch (row.state) {
    case "open":
    case "copying":
      return { word: "seal", ...base, epoch: row.epoch }
    case "sealed":
    case "staged":
    case "owned":
      // `owned` is told to the source when the target is live: before that its `done` would be refused.
      return null
    case "live":
    case "done":
      return row.newEpoch === null ? null : { word: "owned", ...base, newEpoch: row.newEpoch }
    case "superseded":
      return takenOver
    case "abandoned":
      if (row.sourceFence === "released") return { word: "released", ...base, head: workspace.headCheckpoint }
      if (row.sourceFence === "taken_over") return takenOver
      return { word: "abandoned", ...base }
  }
}

function wordForTarget(row: HandoffRow, workspace: WorkspaceRow, base: WordBase): Word | null {
  switch (row.state) {
    case "open":
    case "copying":
    case "staged":
    case "live":
    case "done":
      return null
    case "sealed":
      if (row.checkpoint === null) return null
      return { word: "stage", ...base, epoch: row.epoch, checkpoint: row.checkpoint }
    case "owned":
      return row.newEpoch === null ? null : { word: "owned", ...base, newEpoch: row.newEpoch }
    case "superseded":
      return wordForSuperseded(row, workspace, base)
    case "abandoned":
      return { word: "abandoned", ...base }
  }
}

/** A reclaim closed this row. While it hasn't flipped, the target is the owner still and may come back to life. */
function wordForSuperseded(row: HandoffRow, workspace: WorkspaceRow, base: WordBase): Word {
  if (row.newEpoch === workspace.epoch) return { word: "owned", ...base, newEpoch: row.newEpoch }
  return { word: "taken-over", ...base, epoch: workspace.epoch }
}

/**
 * What the answer `closed` to a word proves, as the request that records it: a host that has closed a hand-off keeps nothing of
 * it and can't ask for itself. Null when it proves nothing new.
 */
export function closedMeans(word: Word["word"], role: "source" | "target"): "done" | "undone" | null {
  if (word === "owned" && role === "source") return "done"
  if (word === "abandoned" && role === "target") return "undone"
  return null
}

/** Text of log, diff, restore and prune. Rules: top of render.ts. */
import type { DiffOutput, LogOutput, PruneOutput, RestoreOutput, StateRef } from "../protocol/output.ts"
import { bytesText, oneLine, table, timeText } from "./render.ts"

/** `cp_` and twelve digits: `diff` and `restore` take a beginning. */
const SHORT_ID = 15

export function logText(output: LogOutput, nowMs: number): string {
  const { workspace, checkpoints, backups, directory } = output
  const lines =
    checkpoints.length === 0
      ? [`${workspace.name}   no checkpoint yet: decamp push makes one`]
      : [`${workspace.name}   ${count(checkpoints.length, "checkpoint")}, newest first`]
  lines.push(
    ...table(
      checkpoints.map((each) => [
        each.isHere ? "→" : "",
        each.id.slice(0, SHORT_ID),
        timeText(each.createdAtMs, nowMs),
        each.host,
        each.kind,
        sessionsText(each.sessions, each.sessionsChanged),
        sizesText(each.storedBytes, each.newBytes),
        each.isPinned ? "pinned" : "",
      ]),
    ),
  )
  if (output.isCut) lines.push("  older ones are not listed; diff and restore take their ids too")
  if (checkpoints.some(({ isHere }) => isHere)) lines.push("  → the one this directory is at")
  if (directory === null || backups.length === 0) return lines.join("\n")
  lines.push(`saved in ${oneLine(directory)}:`)
  lines.push(...table(backups.map(({ ref, createdAtMs }) => [ref, timeText(createdAtMs, nowMs)])))
  return lines.join("\n")
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`
}

function sessionsText(sessions: number | null, changed: number | null): string {
  if (sessions === null) return ""
  if (sessions === 0 && (changed ?? 0) === 0) return "no sessions"
  return changed === null || changed === 0
    ? count(sessions, "session")
    : `${count(sessions, "session")}, ${changed} changed`
}

function sizesText(storedBytes: number | null, newBytes: number | null): string {
  if (storedBytes === null) return ""
  return newBytes === null ? bytesText(storedBytes) : `${bytesText(newBytes)} new of ${bytesText(storedBytes)}`
}

function nameOf(state: StateRef): string {
  switch (state.kind) {
    case "checkpoint":
      return state.id.slice(0, SHORT_ID)
    case "backup":
      return state.ref
    case "directory":
      return "this directory"
  }
}

const LETTERS = { added: "A", modified: "M", deleted: "D" } as const

/** `A`, `M` or `D` and a path, a line each; then what else differs. */
export function diffText(output: DiffOutput): string {
  const { files, fileCount, head, branch } = output
  const lines = files.map(({ path, change }) => `${LETTERS[change]} ${oneLine(path)}`)
  if (fileCount > files.length) lines.push(`and ${fileCount - files.length} more files`)
  if (branch !== null) lines.push(`branch ${branch.from ?? "(none)"} → ${branch.to ?? "(none)"}`)
  if (head !== null) lines.push(`HEAD ${shortOid(head.from)} → ${shortOid(head.to)}${distance(head)}`)
  if (lines.length === 0) lines.push(`nothing differs between ${nameOf(output.from)} and ${nameOf(output.to)}`)
  return [...lines, ...output.notices.map((notice) => `  ${oneLine(notice)}`)].join("\n")
}

function shortOid(oid: string | null): string {
  return oid === null ? "(no commit)" : oid.slice(0, 10)
}

function distance({ ahead, behind }: NonNullable<DiffOutput["head"]>): string {
  if (ahead === null || behind === null) return ""
  const parts = [
    ahead === 0 ? "" : `${count(ahead, "commit")} more`,
    behind === 0 ? "" : `${count(behind, "commit")} fewer`,
  ]
  return ` (${parts.filter((part) => part !== "").join(", ")})`
}

export function restoreText(output: RestoreOutput): string {
  const what = nameOf(output.restored)
  if (output.result === "nothing_to_do") return `${output.directory} is as ${what} already. Nothing was changed.`
  return [
    ...output.notices.map((notice) => `  ${oneLine(notice)}`),
    ...(output.backup === null ? [] : [`  saved first: ${output.backup} (decamp restore brings it back)`]),
    `✔ ${output.directory} is as ${what} now`,
  ].join("\n")
}

export function pruneText(output: PruneOutput, nowMs: number): string {
  const verb = output.result === "planned" ? "would remove" : "removed"
  const line = ({ ref, createdAtMs }: PruneOutput["removed"][number]): string[] => [ref, timeText(createdAtMs, nowMs)]
  const rows = [
    ...output.removed.map((each) => [verb, ...line(each)]),
    ...output.inUse.map((each) => ["kept", ...line(each), "an unfinished hand-off needs it"]),
  ]
  const stay =
    output.remaining === 0 ? "none is left" : `${output.remaining} ${output.remaining === 1 ? "stays" : "stay"}`
  const end = {
    done: `✔ ${count(output.removed.length, "backup")} removed, ${stay}`,
    planned: `${count(output.removed.length, "backup")} would be removed, ${output.remaining || "none"} would stay. Nothing was changed.`,
    nothing_to_do: `nothing to remove: ${output.remaining === 0 ? "there are no backups" : `${stay}, none is that old`}`,
  }[output.result]
  return [...table(rows), end].join("\n")
}

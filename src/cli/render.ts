/**
 * Every word to the person. Rules: data on standard output, everything else on standard error; one verb a line; say what will
 * happen before it does; every failure ends with "nothing was changed" or with the state and the commands that leave it; never
 * "unknown error"; ids only where they can be pasted into the next command; times local and short (ISO stays in `--json`); the
 * words of ARCHITECTURE.md. No colours. Nothing claims that a program is stopped from writing: it is "on hold".
 */
import type { AppError } from "../protocol/errors.ts"
import type { NotTravelling } from "../protocol/manifest.ts"
import type { HandoffOutput, MoveOutput, SessionOutcome, StatusOutput, WorkspacesOutput } from "../protocol/output.ts"

const NAMED_AT_MOST = 8

export function bytesText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  const units = ["KB", "MB", "GB", "TB"]
  let value = bytes / 1000
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit] ?? ""}`
}

export function durationText(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
}

/** Local time of day; with the date when it was another day. */
export function timeText(ms: number, nowMs: number): string {
  const [at, now] = [new Date(ms), new Date(nowMs)]
  const two = (value: number): string => String(value).padStart(2, "0")
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`
  if (at.toDateString() === now.toDateString()) return clock
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`
}

/** One line without control characters: names and reasons come from other machines, which must not paint on this terminal. */
export function oneLine(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, " ")
}

/** The same for a whole text, whose line ends are ours. */
export function plainText(text: string): string {
  return text.split("\n").map(oneLine).join("\n")
}

/** Left-aligned columns. */
export function table(rows: readonly (readonly string[])[], indent = "  "): string[] {
  const plain = rows.map((row) => row.map(oneLine))
  const widths: number[] = []
  for (const row of plain) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, Bun.stringWidth(cell))))
  return plain.map((row) => {
    const cells = row.map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - Bun.stringWidth(cell)))
    return `${indent}${cells.join("  ")}`.trimEnd()
  })
}

/** What the gateway's place means for the lid. */
export interface MoveWords {
  readonly isEmbedded: boolean
  readonly hostName: string
  /** What stays was told while it ran. */
  readonly isLeftSaid: boolean
  /** A notice that was told while it ran. */
  readonly hasSaid: (text: string) => boolean
}

export function moveText(output: MoveOutput, words: MoveWords): string {
  return [
    ...sessionLines(output.sessions),
    ...(words.isLeftSaid ? [] : leftLines(output.willNotTravel)),
    ...output.notices.filter((notice) => !words.hasSaid(notice)).map((notice) => `  ${oneLine(notice)}`),
    ...output.backups
      .filter((ref) => !output.notices.some((notice) => notice.includes(ref)))
      .map((ref) => `  saved first: ${ref}`),
    ...resultLines(output, words),
  ].join("\n")
}

function resultLines(output: MoveOutput, { isEmbedded, hostName }: MoveWords): string[] {
  const { workspace, owner, epoch } = output
  const sizes = `${bytesText(output.bytesSent)} sent, ${bytesText(output.bytesReceived)} received`
  switch (output.result) {
    case "already_owner":
      return [`${workspace.name}: ${owner.host} owns it already (epoch ${epoch}). Nothing was changed.`]
    case "nothing_new":
      return [`${workspace.name}: nothing new${output.checkpoint === null ? "" : ` since ${output.checkpoint.id}`}.`]
    case "planned": {
      const planned =
        output.plannedBytes === undefined ? "" : ` At most ${bytesText(output.plannedBytes)} would be sent.`
      return [`${workspace.name}: this would move.${planned} Nothing was changed.`]
    }
    case "done":
      break
  }
  const stopped = output.agentsStoppedMs
  const pause = stopped === null ? [] : [`  the agents were stopped for ${durationText(stopped)}`]
  if (output.handoff === null) return [`✔ ${workspace.name}: ${output.checkpoint?.id ?? "code"} · ${sizes}`, ...pause]
  if (owner.host === hostName) {
    return [`✔ ${owner.host} owns ${workspace.name} now (epoch ${epoch}), in ${output.directory} · ${sizes}`, ...pause]
  }
  // A host of this machine sleeps with it.
  const lid = owner.kind === "local" && isEmbedded ? "" : " You may close the lid."
  return [
    `✔ ${owner.host} owns ${workspace.name} now (epoch ${epoch}).${lid} Bring it back with: decamp pull --migrate`,
    `  ${sizes}`,
    ...pause,
  ]
}

export function sessionLines(sessions: readonly SessionOutcome[]): string[] {
  return table(
    sessions.map(({ agent, id, title, outcome, reason, undo }) => [
      agent,
      title === "" ? id : title,
      outcome,
      [
        outcome === "skipped" || outcome === "failed" ? id : "",
        reason ?? "",
        undo === "unavailable" ? "undo: unavailable" : "",
      ]
        .filter((part) => part !== "")
        .join(" · "),
    ]),
  )
}

/** What stays behind, in a line. */
export function leftLines(items: readonly NotTravelling[]): string[] {
  if (items.length === 0) return []
  const named = items.slice(0, NAMED_AT_MOST).map(({ path, kind, reason }) => oneLine(`${path} (${reason || kind})`))
  const more = items.length - named.length
  return [`will not travel: ${named.join(", ")}${more > 0 ? `, and ${more} more (--json names all)` : ""}`]
}

export function statusText(output: StatusOutput, nowMs: number): string {
  const { workspace, owner, handoff } = output
  const where = owner.isHere || owner.directory === null ? "" : ` in ${owner.directory}`
  const lines = [
    `${workspace.name}   ${owner.host} owns it since ${timeText(owner.sinceMs, nowMs)} (epoch ${owner.epoch})${where}`,
    ...table(output.sessions.map(({ agent, title, id, state }) => [agent, title === "" ? id : title, state])),
    `here: ${output.here}${heldText(output)}`,
    ...(output.autosync ? ["autosync: on"] : []),
  ]
  if (output.checkpoint === null) lines.push("no checkpoint yet: decamp push makes one")
  if (output.changes.length + output.commits.length > 0) lines.push("not in the last checkpoint:")
  lines.push(...table(output.commits.map(({ oid, subject }) => ["commit", oid.slice(0, 10), subject])))
  lines.push(...table(output.changes.slice(0, NAMED_AT_MOST).map(({ path, change }) => [change, path])))
  const more = output.changes.length - NAMED_AT_MOST
  if (more > 0) lines.push(`  and ${more} more files (--json names all)`)
  if (handoff !== null) {
    const since = timeText(handoff.startedAtMs, nowMs)
    lines.push(`hand-off: ${handoff.source} → ${handoff.target}, ${handoff.state}, since ${since}`)
    lines.push(...(handoff.next ?? []).map((command) => `  type: ${command}`))
  }
  lines.push(...output.backups.map(({ ref, createdAtMs }) => `backup: ${ref} (${timeText(createdAtMs, nowMs)})`))
  lines.push(...output.leftBehind.map((item) => `left behind: ${oneLine(item)}`), ...leftLines(output.willNotTravel))
  lines.push(...output.notices.map(oneLine))
  return lines.join("\n")
}

export function workspacesText({ workspaces }: WorkspacesOutput, nowMs: number): string {
  if (workspaces.length === 0) return "no workspaces yet: decamp push, in a git repository, makes one"
  const rows = workspaces.map(({ name, id, owner, epoch, checkpointAtMs, sessions, handoff }) => [
    name,
    id,
    `${owner.host}:${owner.directory ?? "?"}`,
    `epoch ${epoch}`,
    checkpointAtMs === null ? "no checkpoint" : `checkpoint ${timeText(checkpointAtMs, nowMs)}`,
    sessions === null ? "" : `${sessions} session${sessions === 1 ? "" : "s"}`,
    handoff === null ? "" : `hand-off ${handoff}`,
  ])
  return table(rows, "").join("\n")
}

export function handoffText(output: HandoffOutput): string {
  const { workspace, owner } = output
  const own = `${owner.host} owns ${workspace.name} (epoch ${owner.epoch})`
  const head = {
    done: `✔ undone: ${own}, as before`,
    nothing_to_do: `nothing to undo: ${own}`,
    waiting: `undone: ${own}; a host has still to hear of it (decamp status)`,
  }[output.result]
  return [head, ...output.notices.map((notice) => `  ${notice}`)].join("\n")
}

/** What is known of a move after it failed or was interrupted. */
export interface Aftermath {
  readonly name: string
  readonly owner: string
  readonly isHere: boolean
  readonly state: string | null
  readonly next: readonly string[]
}

/** How a failure reads: what went wrong, with what it lists, what is true now, and what to type. */
export function errorText(error: AppError, after: Aftermath | "unchanged" | null): string {
  const mark = error.code === "interrupted" ? "interrupted" : `✘ ${error.code}: ${error.message}`
  const listed = Object.values(error.details ?? {}).flatMap((value) =>
    Array.isArray(value) ? value.map((item) => oneLine(itemText(item))) : [],
  )
  const more = listed.length - NAMED_AT_MOST
  const isSaid = /nothing was changed/i
  return [
    mark,
    ...listed.slice(0, NAMED_AT_MOST).map((line) => `    ${line}`),
    ...(more > 0 ? [`    and ${more} more (--json names all)`] : []),
    ...(after === "unchanged" && isSaid.test(error.hint ?? "") ? [] : afterLines(after)),
    ...(error.hint === undefined ? [] : [`  ${error.hint}`]),
  ].join("\n")
}

function afterLines(after: Aftermath | "unchanged" | null): string[] {
  if (after === null) return []
  if (after === "unchanged") return ["  Nothing was changed."]
  if (after.state === null) return [`  The hand-off is over: ${after.owner} owns ${after.name}.`]
  const owns = after.isHere ? `${after.name} is still yours` : `${after.owner} owns ${after.name}`
  if (after.state === "abandoned") {
    const commands = after.next.map((command) => `    ${command}`)
    return [`  The hand-off is undone: ${owns}. A host has still to hear of it.`, ...commands]
  }
  return [`  ${owns}; the hand-off is in state ${after.state}. Type:`, ...after.next.map((command) => `    ${command}`)]
}

function itemText(item: unknown): string {
  if (typeof item === "string") return item
  if (typeof item !== "object" || item === null) return String(item)
  return Object.values(item)
    .filter((value) => typeof value === "string" || typeof value === "number")
    .join("  ")
}

export interface Timing {
  readonly step: string
  readonly ms: number
}

/** Steps of one name together, largest first. Shares are of their sum: steps of two hosts may run side by side. */
export function timingText(timing: readonly Timing[], wallMs: number, agentsStoppedMs: number | null): string {
  const sums = new Map<string, number>()
  for (const { step, ms } of timing) sums.set(step, (sums.get(step) ?? 0) + ms)
  const all = [...sums.values()].reduce((sum, ms) => sum + ms, 0)
  const rows = [...sums]
    .toSorted(([, a], [, b]) => b - a)
    .map(([step, ms]) => [step, durationText(ms), `${all === 0 ? 0 : Math.round((ms / all) * 100)} %`])
  const stopped = agentsStoppedMs === null ? "" : `agents stopped ${durationText(agentsStoppedMs)}`
  return table([["step", "time", "share"], ...rows, ["total", durationText(wallMs), stopped]]).join("\n")
}

/** What a prompt typed here would meet. */
function heldText({ sessions }: StatusOutput): string {
  const fences = new Set(sessions.map(({ fence }) => fence))
  if (fences.has("advisory")) return "; prompts are refused in this directory, as far as could be proved"
  return fences.has("enforced") ? "; prompts are refused in this directory" : ""
}

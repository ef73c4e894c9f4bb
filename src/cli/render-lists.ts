/** Text of the lists: sessions and session files. Rules: top of render.ts. */
import type { z } from "zod"
import type { ClankImportOutput, ClankRow } from "../protocol/clank.ts"
import type { sessionFileOutputSchema, sessionsOutputSchema } from "../protocol/output.ts"
import { oneLine, sessionLines, table, timeText } from "./render.ts"

export function sessionsText(output: z.infer<typeof sessionsOutputSchema>, nowMs: number): string {
  const absent = output.fromClank.filter(({ isHere }) => isHere !== true)
  const known =
    absent.length === 0 ? [] : ["known from clank, and not in the agents here:", ...clankLines(absent, nowMs)]
  if (output.sessions.length === 0) return [`no sessions in ${output.directory}`, ...known].join("\n")
  const rows = output.sessions.map(({ agent, id, title, state, updatedAtMs, parentId }) => [
    agent,
    id,
    title,
    state,
    timeText(updatedAtMs, nowMs),
    parentId === null ? "" : `child of ${parentId}`,
  ])
  return [...table(rows, ""), ...known].join("\n")
}

/** Everything that clank's lists had, newest first. */
export function clankListText(sessions: readonly ClankRow[], nowMs: number): string {
  return sessions.length === 0
    ? "nothing was imported from clank: decamp sessions import-clank FILE"
    : clankLines(sessions, nowMs).join("\n")
}

function clankLines(sessions: readonly ClankRow[], nowMs: number): string[] {
  return table(
    sessions.map(({ backend, nativeId, title, directory, branch, updatedAtMs, isHere }) => [
      backend,
      nativeId === "" ? "never begun" : nativeId,
      title,
      isHere === null ? "can't be told" : isHere ? "here" : "not in the agents here",
      updatedAtMs === null ? "" : timeText(updatedAtMs, nowMs),
      directory === "" ? branch : directory,
    ]),
    "",
  )
}

export function clankImportText(output: ClankImportOutput): string {
  const { file, added, updated, unchanged, unreadable, notices, sessions } = output
  const here = sessions.filter(({ isHere }) => isHere === true).length
  return [
    ...unreadable.map(({ row, reason }) => `✘ ${oneLine(row)}: ${oneLine(reason)}`),
    ...notices.map((notice) => `! ${oneLine(notice)}`),
    `✔ read ${file}: ${added} new, ${updated} changed, ${unchanged} known already`,
    `  ${here} of ${sessions.length} are in the agents here; decamp sessions list --clank shows them all`,
  ].join("\n")
}

export function sessionFileText(output: z.infer<typeof sessionFileOutputSchema>, verb: string): string {
  return [...sessionLines(output.sessions), `✔ ${verb} ${output.file}`].join("\n")
}

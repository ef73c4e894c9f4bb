/** Text of the lists: sessions and session files. Rules: top of render.ts. */
import type { z } from "zod"
import type { sessionFileOutputSchema, sessionsOutputSchema } from "../protocol/output.ts"
import { sessionLines, table, timeText } from "./render.ts"

export function sessionsText(output: z.infer<typeof sessionsOutputSchema>, nowMs: number): string {
  if (output.sessions.length === 0) return `no sessions in ${output.directory}`
  const rows = output.sessions.map(({ agent, id, title, state, updatedAtMs, parentId }) => [
    agent,
    id,
    title,
    state,
    timeText(updatedAtMs, nowMs),
    parentId === null ? "" : `child of ${parentId}`,
  ])
  return table(rows, "").join("\n")
}

export function sessionFileText(output: z.infer<typeof sessionFileOutputSchema>, verb: string): string {
  return [...sessionLines(output.sessions), `✔ ${verb} ${output.file}`].join("\n")
}

/**
 * What Codex's hooks run: `decamp hook codex MARKS`. Input and answers as in 0.169.0, which are those of Claude Code's hooks: a prompt in a
 * session with a mark is refused with the mark's words.
 */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import { isThreadId } from "./places.ts"

const inputSchema = z.object({ session_id: z.string(), hook_event_name: z.string() })

/** Events at which Codex is to run the hook. */
export const HOOK_EVENTS = ["UserPromptSubmit"] as const

/** @returns what Codex is told, "" for nothing */
export async function codexHook(args: readonly string[], input: string): Promise<string> {
  const [marks] = args
  const { session_id: id, hook_event_name: event } = inputSchema.parse(JSON.parse(input))
  if (marks === undefined || !isThreadId(id) || event !== "UserPromptSubmit") return ""
  const words = await readTextIfExists(join(marks, id))
  if (words === null) return await noteOf(marks, id)
  return JSON.stringify({ decision: "block", reason: words.trim() || "This session is on another host: decamp status" })
}

/** What the model is told about a move, once. */
async function noteOf(marks: string, id: string): Promise<string> {
  const file = join(marks, `note-${id}`)
  const note = await readTextIfExists(file)
  if (note === null) return ""
  await rm(file, { force: true })
  const output = { hookEventName: "UserPromptSubmit", additionalContext: note.trim() }
  return JSON.stringify({ hookSpecificOutput: output })
}

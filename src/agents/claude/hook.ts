/**
 * What Claude Code's hooks run: `decamp hook claude MARKS`. Input and answers as in 2.1.197. A prompt in a session with a mark is
 * refused with the mark's words; a change of the settings is acknowledged, which proves that a window has read them.
 */
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import { isSessionId } from "./places.ts"

const inputSchema = z.object({ session_id: z.string(), hook_event_name: z.string() })

/** Events at which Claude Code is to run the hook. */
export const HOOK_EVENTS = ["UserPromptSubmit", "ConfigChange"] as const

/** Folder, in that of the marks, of one file for each session whose window has read the settings. */
export function acksFolder(marks: string): string {
  return join(marks, ".acks")
}

/** @returns what Claude Code is told, "" for nothing */
export async function claudeHook(args: readonly string[], input: string): Promise<string> {
  const [marks] = args
  const { session_id: id, hook_event_name: event } = inputSchema.parse(JSON.parse(input))
  if (marks === undefined || !isSessionId(id)) return ""
  if (event === "ConfigChange") {
    await mkdir(acksFolder(marks), { recursive: true, mode: 0o700 })
    await writeFile(join(acksFolder(marks), id), String(Date.now()), { mode: 0o600 })
    return ""
  }
  if (event !== "UserPromptSubmit") return ""
  const words = await readTextIfExists(join(marks, id))
  if (words === null) return ""
  const reason = words.trim() || "This session is on another host: decamp status"
  return JSON.stringify({ decision: "block", reason })
}

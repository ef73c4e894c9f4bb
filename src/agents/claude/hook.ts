/**
 * What Claude Code's hooks run: `decamp hook claude MARKS`. Input and answers as in 2.1.197. A prompt in a session with a mark is
 * refused with the mark's words, and so is what begins without one; a change of the settings is acknowledged, which proves that a window has read them.
 */
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { readTextIfExists } from "../../lib/files.ts"
import { isSessionId } from "./places.ts"
import { acksFolder, placedCommand, removeHooks } from "./settings-hooks.ts"
import { repair, staleWindows, startRepair, windowAbove } from "./stale-windows.ts"

const inputSchema = z.object({ session_id: z.string(), hook_event_name: z.string() })

/** @returns what Claude Code is told, "" for nothing */
export async function claudeHook(args: readonly string[], input: string): Promise<string> {
  const [marks, verb, path, pid] = args
  if (marks !== undefined && verb === "repair" && path !== undefined) {
    await repair(path, Number(pid))
    if ((await staleWindows(marks)).length === 0) await removeHooks(marks)
    return ""
  }
  const { session_id: id, hook_event_name: event } = inputSchema.parse(JSON.parse(input))
  if (marks === undefined || !isSessionId(id)) return ""
  if (event === "ConfigChange") {
    await mkdir(acksFolder(marks), { recursive: true, mode: 0o700 })
    await writeFile(join(acksFolder(marks), id), String(Date.now()), { mode: 0o600 })
    return ""
  }
  if (event === "SessionEnd") {
    await repairAfter(marks, id)
    return ""
  }
  if (!isGate(event)) return ""
  const words = await wordsOf(marks, id)
  if (words !== null) return refusal(event, words)
  const stale = await repairAfter(marks, id)
  if (stale.isHere) {
    return refusal(
      event,
      `This session went on at another host and is back; this window does not know it. ${leaveWords(id)}`,
    )
  }
  // Nothing is left that the hooks are needed for: whoever sees it first takes them away.
  if (event !== "UserPromptSubmit") return ""
  if (stale.count === 0) await removeHooks(marks)
  return await noteFor(marks, id)
}

const MAX_NOTE = 2_000

/** The host's note to the model about a move, which is given once: `note-SESSION` beside the marks. */
async function noteFor(marks: string, id: string): Promise<string> {
  const path = join(marks, `note-${id}`)
  const text = await readTextIfExists(path)
  if (text === null) return ""
  await rm(path, { force: true })
  const hookSpecificOutput = { hookEventName: "UserPromptSubmit", additionalContext: text.slice(0, MAX_NOTE) }
  return JSON.stringify({ hookSpecificOutput })
}

/** A mark that is there and can't be read holds too. */
async function wordsOf(marks: string, id: string): Promise<string | null> {
  const text = await readTextIfExists(join(marks, id)).catch(() => "")
  return text === null ? null : text.trim() || "This session is on another host: decamp status"
}

/** Where this hook was run by a window that its session has left behind, what the window writes now is put right afterwards. */
async function repairAfter(marks: string, id: string): Promise<{ readonly isHere: boolean; readonly count: number }> {
  const stale = await staleWindows(marks)
  const window = await windowAbove(stale, id)
  const command = await placedCommand(marks)
  if (window !== null && command !== null) await startRepair(command, marks, window.path, window.pid)
  return { isHere: window !== null, count: stale.length }
}

/** What to type in a window that does not know what came. */
export function leaveWords(id: string): string {
  return `Type /exit, then: claude --resume ${id}`
}

/**
 * Events at which a session can be kept from going on: turns begin also without a prompt, by `!` or when a shell in the background ends,
 * and their tools are held; `/compact` asks the model and writes.
 */
const GATES = ["UserPromptSubmit", "PreToolUse", "PostToolBatch", "PreCompact"] as const
type Gate = (typeof GATES)[number]

function isGate(event: string): event is Gate {
  return GATES.some((gate) => gate === event)
}

function refusal(event: Gate, reason: string): string {
  if (event === "PreToolUse") {
    const decision = { permissionDecision: "deny", permissionDecisionReason: reason }
    return JSON.stringify({ hookSpecificOutput: { hookEventName: event, ...decision } })
  }
  // A tool that is denied does not end a turn.
  if (event === "PostToolBatch") return JSON.stringify({ continue: false, stopReason: reason })
  return JSON.stringify({ decision: "block", reason })
}

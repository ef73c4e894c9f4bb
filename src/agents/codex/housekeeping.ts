/** Lines that Codex adds to a rollout without anybody having said anything. Seen in 0.169.0. */
import { z } from "zod"

/**
 * A resume adds `thread_settings_applied`; a prompt that a hook blocked adds that, `task_started`, `turn_context` and `task_complete`;
 * a legacy rollout gets its settings once more when it is opened.
 */
const EVENTS: ReadonlySet<unknown> = new Set([
  "thread_settings_applied",
  "task_started",
  "turn_started",
  "task_complete",
  "turn_complete",
  "token_count",
])
const TYPES: ReadonlySet<string> = new Set(["turn_context", "world_state"])

const lineSchema = z.object({ type: z.string(), payload: z.record(z.string(), z.unknown()) })
const contextSchema = z.object({
  type: z.literal("message"),
  role: z.enum(["developer", "user"]),
  content: z.array(z.object({ text: z.string() })),
})

/** Whether a line says nothing that belongs to the conversation. A line that can't be read says something. */
export function isHousekeeping(text: string): boolean {
  const line = parse(text)
  if (line === null) return false
  if (TYPES.has(line.type)) return true
  if (line.type === "event_msg")
    return EVENTS.has(line.payload["type"]) && (line.payload["last_agent_message"] ?? null) === null
  if (line.type !== "response_item") return false
  const message = contextSchema.safeParse(line.payload).data
  if (message === undefined) return false
  // What every turn begins with: instructions, and where it runs.
  return message.role === "developer" || message.content.every((part) => part.text.startsWith("<environment_context>"))
}

function parse(text: string): z.infer<typeof lineSchema> | null {
  try {
    return lineSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

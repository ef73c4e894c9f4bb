/** Lines that Claude Code adds to a transcript without anybody having said anything. Seen in 2.1.197. */
import { z } from "zod"

/** A prompt that a hook blocked adds `queue-operation` twice, `system`/`informational` and `last-prompt`; an exit adds `last-prompt`. */
const TYPES: ReadonlySet<string> = new Set([
  "queue-operation",
  "last-prompt",
  "mode",
  "permission-mode",
  "file-history-snapshot",
  "custom-title",
  "ai-title",
  "agent-name",
  "agent-color",
  "agent-setting",
  "relocated",
  "tag",
  "summary",
])
const SUBTYPES: ReadonlySet<string | undefined> = new Set(["informational", "local_command"])

const lineSchema = z.object({
  type: z.string(),
  subtype: z.string().optional(),
  isMeta: z.boolean().optional(),
  message: z.object({ model: z.string().optional(), content: z.unknown() }).optional(),
  isApiErrorMessage: z.boolean().optional(),
})

/** Whether a line says nothing that belongs to the conversation. A line that can't be read says something. */
export function isHousekeeping(text: string): boolean {
  try {
    const line = lineSchema.safeParse(JSON.parse(text)).data
    if (line === undefined) return false
    if (line.type === "assistant") return isFiller(line)
    if (line.type === "user") return isCommand(line)
    return TYPES.has(line.type) || (line.type === "system" && SUBTYPES.has(line.subtype))
  } catch {
    return false
  }
}

/** "No response requested.": put behind a turn that was killed, as soon as the session is opened, also when its next prompt is blocked. */
function isFiller({ message, isApiErrorMessage }: z.infer<typeof lineSchema>): boolean {
  return message?.model === "<synthetic>" && isApiErrorMessage !== true
}

/** `/model`, `/rename`, `/compact` that a hook blocked: Claude Code notes them as the user's, and nobody answers. */
function isCommand({ isMeta, message }: z.infer<typeof lineSchema>): boolean {
  if (isMeta === true) return true
  return typeof message?.content === "string" && /^<(?:command-name>|local-command-)/.test(message.content)
}

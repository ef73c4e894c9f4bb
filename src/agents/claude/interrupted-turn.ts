/** Closing the transcript of a turn whose process has ended, with the lines that Claude Code 2.1.197 writes at Esc. Only adds lines. */
import { open, type FileHandle } from "node:fs/promises"
import { z } from "zod"

const REJECTED =
  "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was a file edit, the new_string was NOT written to the file). STOP what you are doing and wait for the user to tell you how to proceed."
const TAIL_BYTES = 256 * 1024
const MAX_BYTES = 16 * 1024 * 1024

const lineSchema = z.looseObject({
  type: z.string(),
  uuid: z.string().optional(),
  parentUuid: z.string().nullish(),
  leafUuid: z.string().optional(),
  isSidechain: z.boolean().optional(),
  isMeta: z.boolean().optional(),
  promptId: z.string().optional(),
  lastPrompt: z.string().optional(),
  message: z.looseObject({ id: z.string().optional(), content: z.unknown() }).optional(),
})
type Line = z.infer<typeof lineSchema>
const usesSchema = z.array(z.looseObject({ type: z.string(), id: z.string().optional() }))

/** What each line of a session repeats. */
const COMMON = ["userType", "entrypoint", "cwd", "sessionId", "version", "gitBranch"] as const

/** @returns false when its end can't be read, or the file does not end with a whole line */
export async function closeTranscript(path: string, now: Date = new Date()): Promise<boolean> {
  const file = await open(path, "r+")
  try {
    const { size } = await file.stat()
    const lines = await tailOf(file, size)
    const leaf = lines?.findLast((line) => line.uuid !== undefined && line.isSidechain !== true)
    if (lines === null || leaf === undefined) return false
    const added = Buffer.from(closing(lines, leaf, now))
    // At the end that was read: a process that came meanwhile has moved it.
    if ((await file.stat()).size !== size) return false
    await file.write(added, 0, added.byteLength, size)
    await file.sync()
    return true
  } finally {
    await file.close()
  }
}

/** Id of the newest message of a transcript, "" without one. What Claude Code adds by itself, as at a refused prompt, is none. */
export async function newestMessage(path: string): Promise<string> {
  const file = await open(path, "r")
  try {
    const lines = await tailOf(file, (await file.stat()).size)
    return lines?.findLast(isMessage)?.uuid ?? ""
  } finally {
    await file.close()
  }
}

/**
 * Names the newest message as the one to go on from, where the last record names one that does not know it: an open window that was
 * left behind writes such a record at each refused prompt and at its end.
 */
export async function nameNewest(path: string): Promise<void> {
  const file = await open(path, "r+")
  try {
    const { size } = await file.stat()
    const lines = (await tailOf(file, size)) ?? []
    const newest = lines.findLast(isMessage)
    const last = lines.findLast(({ type }) => type === "last-prompt")
    if (newest?.uuid === undefined || typeof last?.leafUuid !== "string") return
    const parents = new Map(lines.map(({ uuid, parentUuid }) => [uuid, parentUuid ?? null]))
    let at: string | null = last.leafUuid
    for (let steps = 0; at !== null && at !== newest.uuid && steps <= lines.length; steps += 1)
      at = parents.get(at) ?? null
    if (at === newest.uuid || (await file.stat()).size !== size) return
    await file.write(Buffer.from(`${JSON.stringify({ ...last, leafUuid: newest.uuid })}\n`), 0, null, size)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** What a person or the model said: not what a command like /exit leaves behind. */
function isMessage({ type, isSidechain, isMeta, message }: Line): boolean {
  if (isSidechain === true || isMeta === true) return false
  if (type === "assistant") return true
  return type === "user" && !/^<(local-command|command-)/.test(String(message?.content))
}

function closing(lines: readonly Line[], leaf: Line, now: Date): string {
  const common = Object.fromEntries(COMMON.flatMap((key) => (leaf[key] === undefined ? [] : [[key, leaf[key]]])))
  const promptId = lines.findLast((line) => line.promptId !== undefined)?.promptId
  const made: object[] = []
  let parentUuid = leaf.uuid
  const say = (content: object[], more: object): void => {
    const uuid = crypto.randomUUID()
    const head = { parentUuid, isSidechain: false, ...(promptId === undefined ? {} : { promptId }), type: "user" }
    made.push({ ...head, message: { role: "user", content }, uuid, timestamp: now.toISOString(), ...more, ...common })
    parentUuid = uuid
  }
  const uses = leaf.type === "assistant" ? (usesSchema.safeParse(leaf.message?.content).data ?? []) : []
  const open = uses.filter(({ type }) => type === "tool_use")
  for (const { id } of open) {
    say([{ type: "tool_result", content: REJECTED, is_error: true, tool_use_id: id }], {
      toolUseResult: "User rejected tool use",
      sourceToolAssistantUUID: leaf.uuid,
    })
  }
  const text = open.length > 0 ? "[Request interrupted by user for tool use]" : "[Request interrupted by user]"
  const interrupted = leaf.type === "assistant" ? leaf.message?.id : undefined
  say([{ type: "text", text }], interrupted === undefined ? {} : { interruptedMessageId: interrupted })
  const lastPrompt = lines.findLast((line) => line.type === "last-prompt")?.lastPrompt
  // Claude Code goes on from the leaf that the last of these names.
  if (lastPrompt !== undefined) {
    made.push({ type: "last-prompt", lastPrompt, leafUuid: parentUuid, sessionId: leaf["sessionId"] })
  }
  return made.map((line) => `${JSON.stringify(line)}\n`).join("")
}

/** Whole lines of the end, at least one with an id; null when the last is not whole. */
async function tailOf(file: FileHandle, size: number): Promise<Line[] | null> {
  for (let length = TAIL_BYTES; ; length *= 4) {
    const start = Math.max(0, size - length)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start)
    const bytes = buffer.subarray(0, bytesRead)
    if (bytes.at(-1) !== 10) return null
    const from = start === 0 ? 0 : bytes.indexOf(10) + 1
    const lines = bytes.subarray(from).toString("utf8").split("\n").flatMap(parse)
    if (lines.some(({ uuid }) => uuid !== undefined) || start === 0 || length >= MAX_BYTES) return lines
  }
}

function parse(text: string): Line[] {
  try {
    const line = lineSchema.safeParse(JSON.parse(text))
    return line.success ? [line.data] : []
  } catch {
    return []
  }
}

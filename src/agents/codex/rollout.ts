/**
 * What a rollout says about its session, from its first lines and its end, without reading all of it. Facts seen in Codex 0.169.0:
 * the first line is `session_meta`; a turn lies between `task_started` and `task_complete` or `turn_aborted`; a change of directory
 * appends `thread_settings_applied`, and every turn begins with a `turn_context`.
 */
import { open, type FileHandle } from "node:fs/promises"
import { z } from "zod"

export interface RolloutHead {
  readonly id: string
  /** The thread that spawned this one as a sub-agent. */
  readonly parentId: string | null
  /** The conversation's first thread: for sub-agents of any depth the one that a person talks to. */
  readonly rootId: string
  /** Directory in which it began. */
  readonly cwd: string
  readonly createdAtMs: number
  readonly version: string
  readonly provider: string | null
  /** `legacy` or `paginated`. */
  readonly historyMode: string
  /** Beginning of the first prompt, "" when there is none yet. */
  readonly firstPrompt: string
}

export interface RolloutTail {
  /** Directory of the newest turn or settings; null when it was never changed. */
  readonly cwd: string | null
  readonly isUnfinished: boolean
  /** Time of the last line, 0 when none tells. */
  readonly lastAtMs: number
  readonly provider: string | null
  /** Newest version of Codex that the lines read name. */
  readonly version: string | null
}

const lineSchema = z.object({
  timestamp: z.string().optional(),
  type: z.string(),
  payload: z.record(z.string(), z.unknown()),
})
type Line = z.infer<typeof lineSchema>

const metaSchema = z.object({
  id: z.string().min(1),
  session_id: z.string().optional(),
  parent_thread_id: z.string().nullish(),
  timestamp: z.string().optional(),
  cwd: z.string(),
  cli_version: z.string().optional(),
  model_provider: z.string().nullish(),
  history_mode: z.string().optional(),
  source: z.unknown(),
})
const spawnSchema = z.object({
  subagent: z.object({ thread_spawn: z.object({ parent_thread_id: z.string() }) }),
})

/** First bytes that are read of a file, and the most that are read to find the end of its first line and its first prompt. */
const HEAD_BYTES = 64 * 1024
const HEAD_MAX_BYTES = 4 * 1024 * 1024
const PROMPT_MAX_BYTES = 1024 * 1024
const TITLE_CHARACTERS = 120

/** Reads the session's own record and its first prompt; null when the file does not begin with one. */
export async function readHead(file: FileHandle, size: number): Promise<RolloutHead | null> {
  let lines: string[] = []
  let firstPrompt = ""
  for (let length = HEAD_BYTES; ; length *= 4) {
    lines = (await bytesAt(file, 0, Math.min(size, length))).toString("utf8").split("\n").slice(0, -1)
    firstPrompt = firstPromptOf(lines.slice(1))
    // A first line of 64 KiB is rare; behind it the prompt is looked for in 1 MiB.
    if (length >= size || length >= (lines.length === 0 ? HEAD_MAX_BYTES : PROMPT_MAX_BYTES) || firstPrompt !== "")
      break
  }
  const first = parseLine(lines[0] ?? "")
  const meta = metaSchema.safeParse(first?.type === "session_meta" ? first.payload : null)
  if (!meta.success) return null
  const { id, session_id: rootId, cwd } = meta.data
  const parentId =
    meta.data.parent_thread_id ??
    spawnSchema.safeParse(meta.data.source).data?.subagent.thread_spawn.parent_thread_id ??
    null
  return {
    id,
    parentId,
    rootId: rootId ?? parentId ?? id,
    cwd,
    createdAtMs: timeOf(meta.data.timestamp ?? first?.timestamp),
    version: meta.data.cli_version ?? "",
    provider: meta.data.model_provider ?? null,
    historyMode: meta.data.history_mode ?? "legacy",
    firstPrompt,
  }
}

const itemSchema = z.object({
  type: z.literal("UserMessage"),
  content: z.array(z.object({ text: z.string().optional() })),
})

function firstPromptOf(lines: readonly string[]): string {
  for (const text of lines) {
    if (!text.includes('"UserMessage"') && !text.includes('"user_message"')) continue
    const payload = parseLine(text)?.payload
    const item = itemSchema.safeParse(payload?.["item"])
    const message = payload?.["type"] === "user_message" ? payload["message"] : null
    const words = item.success ? item.data.content.flatMap((part) => part.text ?? []).join(" ") : message
    if (typeof words === "string" && words.trim() !== "") return oneLine(words)
  }
  return ""
}

function oneLine(text: string): string {
  const plain = text.replaceAll(/\s+/g, " ").trim()
  return plain.length > TITLE_CHARACTERS ? `${plain.slice(0, TITLE_CHARACTERS - 1)}…` : plain
}

/** How far back the end is read at first, and at most: a turn may hold large outputs. */
const TAIL_BYTES = 32 * 1024
const TAIL_MAX_BYTES = 64 * 1024 * 1024
const WINDOW_MAX_BYTES = 4 * 1024 * 1024

interface Finding {
  cwd: string | null
  isUnfinished: boolean | null
  lastAtMs: number
  provider: string | null
  version: string | null
}

/** Reads the end as far back as the beginning of the last turn, at most 64 MiB; a turn that is longer counts as unfinished. */
export async function readTail(file: FileHandle, size: number): Promise<RolloutTail> {
  const found: Finding = { cwd: null, isUnfinished: null, lastAtMs: 0, provider: null, version: null }
  let held: Buffer = Buffer.alloc(0)
  let window = TAIL_BYTES
  for (let end = size; end > 0 && size - end < TAIL_MAX_BYTES; window = Math.min(window * 4, WINDOW_MAX_BYTES)) {
    const start = Math.max(0, end - window)
    const bytes = Buffer.concat([await bytesAt(file, start, end - start), held])
    // What stands before the first line end is whole only at the file's beginning.
    const first = start === 0 ? 0 : bytes.indexOf(10) + 1
    held = start > 0 && first === 0 ? bytes : bytes.subarray(0, first)
    if (start === 0 || first > 0) {
      const lines = bytes.subarray(first).toString("utf8").split("\n")
      // Without its end, the last line is still being written; later windows end with the rest of a whole one.
      if (end === size) lines.pop()
      for (const line of lines.toReversed()) look(found, line)
    }
    if (found.isUnfinished !== null && found.cwd !== null) break
    end = start
  }
  return { ...found, isUnfinished: found.isUnfinished ?? size > TAIL_MAX_BYTES }
}

const settingsSchema = z.object({
  type: z.literal("thread_settings_applied"),
  thread_settings: z.object({ cwd: z.string().optional(), model_provider_id: z.string().optional() }),
})

/** Lines come newest first: what is known already is not looked for again. */
function look(found: Finding, text: string): void {
  const isEvent =
    /"type":"(task_started|turn_started|task_complete|turn_complete|turn_aborted|thread_settings_applied)"/.test(text)
  const isOther = text.includes('"turn_context"') || text.includes('"session_meta"')
  if (!isEvent && !isOther && found.lastAtMs !== 0) return
  const line = parseLine(text)
  if (line === null) return
  found.lastAtMs ||= timeOf(line.timestamp)
  const { payload } = line
  if (line.type === "turn_context" && typeof payload["cwd"] === "string") found.cwd ??= payload["cwd"]
  if (line.type === "session_meta" && typeof payload["cli_version"] === "string")
    found.version ??= payload["cli_version"]
  if (line.type !== "event_msg") return
  const kind = payload["type"]
  if (kind === "task_started" || kind === "turn_started") found.isUnfinished ??= true
  if (kind === "task_complete" || kind === "turn_complete" || kind === "turn_aborted") found.isUnfinished ??= false
  const settings = settingsSchema.safeParse(payload)
  if (!settings.success) return
  found.cwd ??= settings.data.thread_settings.cwd ?? null
  found.provider ??= settings.data.thread_settings.model_provider_id ?? null
}

/** Opens a rollout and reads both ends. Null: it is not one. */
export async function readRollout(
  path: string,
): Promise<{ readonly head: RolloutHead; readonly tail: RolloutTail } | null> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    const head = await readHead(file, size)
    return head === null ? null : { head, tail: await readTail(file, size) }
  } finally {
    await file.close()
  }
}

function parseLine(text: string): Line | null {
  try {
    return lineSchema.safeParse(JSON.parse(text)).data ?? null
  } catch {
    return null
  }
}

function timeOf(text: string | undefined): number {
  const time = Date.parse(text ?? "")
  return Number.isNaN(time) ? 0 : time
}

async function bytesAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
  return buffer.subarray(0, bytesRead)
}

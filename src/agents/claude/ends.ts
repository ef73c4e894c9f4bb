/** What a transcript says about its session, from its first lines and its end, without reading all of it. Seen in 2.1.197. */
import { open, type FileHandle } from "node:fs/promises"
import { z } from "zod"

export interface TranscriptEnds {
  /** Directory of its first line that names one, "" when none does. */
  readonly firstCwd: string
  /** Directories that its last lines name, newest first; where it was moved to comes first. */
  readonly lastCwds: readonly string[]
  /** Name given by the user, else one that Claude Code made, else the beginning of the first prompt; "" without any. */
  readonly title: string
  readonly createdAtMs: number
  /** Time of the last line that tells. */
  readonly lastAtMs: number
  /** Name of its plan's file, without the ending; "" when it made none. */
  readonly slug: string
  /** Newest version that the last lines name. */
  readonly version: string
  /** The last turn has no end. */
  readonly isUnfinished: boolean
  /** Claude Code keeps transcripts of sub-agents in files of their own; one at this place is none of a person's. */
  readonly hasMessages: boolean
}

const lineSchema = z.object({
  type: z.string(),
  timestamp: z.string().optional(),
  cwd: z.string().optional(),
  version: z.string().optional(),
  slug: z.string().optional(),
  isSidechain: z.boolean().optional(),
  isMeta: z.boolean().optional(),
  subtype: z.string().optional(),
  message: z.object({ content: z.unknown(), stop_reason: z.string().nullish() }).optional(),
  customTitle: z.string().optional(),
  aiTitle: z.string().optional(),
  summary: z.string().optional(),
  relocatedCwd: z.string().optional(),
})
type Line = z.infer<typeof lineSchema>

const HEAD_BYTES = 64 * 1024
const TAIL_BYTES = 64 * 1024
const MAX_BYTES = 32 * 1024 * 1024
const TITLE_CHARACTERS = 120

/** Reads both ends. */
export async function readEnds(path: string): Promise<TranscriptEnds> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    const head = await headLines(file, size)
    const tail = await tailLines(file, size)
    const messages = tail.filter(
      (line) => line.isSidechain !== true && ["user", "assistant", "system"].includes(line.type),
    )
    const last = messages.findLast((line) => isTurn(line))
    const cwds = tail.flatMap((line) => line.relocatedCwd ?? line.cwd ?? []).toReversed()
    const named = tail.findLast(({ customTitle }) => customTitle !== undefined)?.customTitle
    const made = tail.findLast(({ aiTitle, summary }) => (aiTitle ?? summary) !== undefined)
    return {
      firstCwd: head.find(({ cwd }) => cwd !== undefined)?.cwd ?? "",
      lastCwds: [...new Set(cwds)],
      title: named ?? made?.aiTitle ?? made?.summary ?? firstPrompt(head),
      createdAtMs: timeOf(head.find(({ timestamp }) => timestamp !== undefined)),
      lastAtMs: timeOf(tail.findLast(({ timestamp }) => timestamp !== undefined)),
      slug: tail.findLast(({ slug }) => slug !== undefined)?.slug ?? "",
      version: tail.findLast(({ version }) => version !== undefined)?.version ?? "",
      isUnfinished: last !== undefined && isOpen(last),
      hasMessages: messages.length > 0 || head.some(({ type }) => type === "user"),
    }
  } finally {
    await file.close()
  }
}

/** Lines up to the first prompt, in windows that grow to 4 MiB. */
async function headLines(file: FileHandle, size: number): Promise<Line[]> {
  for (let length = HEAD_BYTES; ; length *= 4) {
    const text = (await bytesAt(file, 0, Math.min(size, length))).toString("utf8")
    const lines = text.split("\n").slice(0, -1).flatMap(parse)
    if (firstPrompt(lines) !== "" || length >= size || length >= MAX_BYTES / 8) return lines
  }
}

/** Whole lines of the end, at least back to the last message. */
async function tailLines(file: FileHandle, size: number): Promise<Line[]> {
  for (let length = TAIL_BYTES; ; length *= 4) {
    const start = Math.max(0, size - length)
    const bytes = await bytesAt(file, start, size - start)
    const from = start === 0 ? 0 : bytes.indexOf(10) + 1
    const lines = bytes.subarray(from).toString("utf8").split("\n").slice(0, -1).flatMap(parse)
    if (start === 0 || length >= MAX_BYTES || lines.some((line) => line.isSidechain !== true && isTurn(line)))
      return lines
  }
}

/** Lines that a turn consists of: not what a command printed, nor notices. */
function isTurn(line: Line): boolean {
  if (line.type === "system") return line.subtype === "turn_duration"
  if (line.type !== "user" && line.type !== "assistant") return false
  return line.isMeta !== true && !/^<(local-command|command-)/.test(textOf(line))
}

function isOpen(line: Line): boolean {
  if (line.type === "system") return false
  if (line.type === "assistant")
    return !["end_turn", "stop_sequence", "max_tokens", "refusal"].includes(line.message?.stop_reason ?? "")
  return !textOf(line).startsWith("[Request interrupted")
}

const partsSchema = z.array(z.object({ type: z.string(), text: z.string().optional() }))

function textOf(line: Line): string {
  const content = line.message?.content
  if (typeof content === "string") return content
  return (partsSchema.safeParse(content).data ?? []).flatMap(({ text }) => text ?? []).join(" ")
}

function firstPrompt(lines: readonly Line[]): string {
  const first = lines.find((line) => line.type === "user" && isTurn(line) && textOf(line).trim() !== "")
  if (first === undefined) return ""
  const plain = textOf(first).replaceAll(/\s+/g, " ").trim()
  return plain.length > TITLE_CHARACTERS ? `${plain.slice(0, TITLE_CHARACTERS - 1)}…` : plain
}

function parse(text: string): Line[] {
  try {
    const line = lineSchema.safeParse(JSON.parse(text))
    return line.success ? [line.data] : []
  } catch {
    return []
  }
}

function timeOf(line: Line | undefined): number {
  const time = Date.parse(line?.timestamp ?? "")
  return Number.isNaN(time) ? 0 : time
}

async function bytesAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
  return buffer.subarray(0, bytesRead)
}

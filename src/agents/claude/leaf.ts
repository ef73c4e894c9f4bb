/**
 * Where Claude Code goes on with a transcript: at the leaf that its last `last-prompt` record names (2.1.197). It writes that record when
 * it ends, so a transcript of a window that is open has none for the newest turns. As long as those follow on the named leaf, they are
 * found; where a dangling tool call was dropped they branch off before it, and would be lost without anybody noticing (measured).
 */
import { appendFile, open, stat, utimes } from "node:fs/promises"
import { z } from "zod"

const lineSchema = z.object({
  type: z.string(),
  uuid: z.string().optional(),
  parentUuid: z.string().nullish(),
  isSidechain: z.boolean().optional(),
  leafUuid: z.string().optional(),
  lastPrompt: z.string().optional(),
})
type Line = z.infer<typeof lineSchema>

const WINDOW_BYTES = 256 * 1024
/** Further back it is not looked for. */
const MAX_BYTES = 16 * 1024 * 1024

/** Adds the record that Claude Code itself would write at its end, where its turns would be lost otherwise. */
export async function mendLeaf(path: string, sessionId: string): Promise<void> {
  const lines = await linesFromLeaf(path)
  const [leaf, ...after] = lines
  if (leaf?.leafUuid === undefined) return
  const messages = after.filter(({ uuid, isSidechain }) => uuid !== undefined && isSidechain !== true)
  const newest = messages.at(-1)?.uuid
  if (newest === undefined || follows(messages, newest, leaf.leafUuid)) return
  const { mtime } = await stat(path)
  const { lastPrompt = "" } = leaf
  await appendFile(path, `${JSON.stringify({ type: "last-prompt", lastPrompt, leafUuid: newest, sessionId })}\n`)
  await utimes(path, mtime, mtime)
}

/** Whether the way from the newest message back to the first that is not among them passes the leaf. */
function follows(messages: readonly Line[], newest: string, leaf: string): boolean {
  const parents = new Map(messages.map(({ uuid, parentUuid }) => [uuid, parentUuid ?? null]))
  let at: string | null = newest
  for (let steps = 0; at !== null && steps <= parents.size; steps += 1) {
    if (at === leaf) return true
    at = parents.get(at) ?? null
  }
  return false
}

/** The last record that names a leaf, and every line after it; none when there is no such record. */
async function linesFromLeaf(path: string): Promise<readonly Line[]> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    for (let length = WINDOW_BYTES; ; length *= 4) {
      const start = Math.max(0, size - length)
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start)
      const bytes = buffer.subarray(0, bytesRead)
      const lines = bytes
        .subarray(start === 0 ? 0 : bytes.indexOf(10) + 1)
        .toString("utf8")
        .split("\n")
        .flatMap(parse)
      const at = lines.findLastIndex(({ type }) => type === "last-prompt")
      if (at !== -1) return lines.slice(at)
      if (start === 0 || length >= MAX_BYTES) return []
    }
  } finally {
    await file.close()
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

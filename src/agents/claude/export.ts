/** Taking sessions out of Claude Code's home: files are read, nothing is started and nothing is written there. */
import { createReadStream } from "node:fs"
import { open } from "node:fs/promises"
import { dirname, join } from "node:path"
import { AppError, toAppError } from "../../protocol/errors.ts"
import type { BlobSink } from "../../protocol/blob.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { NotTravelling, SessionEntry } from "../../protocol/manifest.ts"
import type { AgentScope, SessionExport, SessionProblem } from "../agent.ts"
import { portableText, type Binding } from "../transcript/bound-text.ts"
import { writeCarried } from "../transcript/carried.ts"
import { contentOf } from "../transcript/contents.ts"
import { PROVIDER, titleOf } from "./listing.ts"
import { placesOf } from "./places.ts"
import {
  bindingOf,
  carriedKey,
  layOut,
  placeOf,
  portableFile,
  relativeDirectory,
  type ClaudeMemory,
  type LaidPiece,
} from "./store.ts"
import { namesIn, transcriptsOfScope, type Transcript } from "./transcripts.ts"

interface Context {
  readonly memory: ClaudeMemory
  readonly scope: AgentScope
  readonly sink: BlobSink
  readonly aliases: readonly string[]
}

/** Exports the scope's sessions; one whose digest is known is answered by its known entry. `only`: this one and no other. */
export async function exportSessions(
  memory: ClaudeMemory,
  scope: AgentScope,
  sink: BlobSink,
  known: ReadonlyMap<string, SessionEntry>,
  version: string,
  only?: string,
): Promise<SessionExport> {
  const found = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
  const transcripts = found.transcripts.filter(({ id }) => only === undefined || id === only)
  const context = { memory, scope, sink, aliases: found.aliases }
  const sessions: SessionEntry[] = []
  const skipped: SessionProblem[] = []
  for (const transcript of transcripts) {
    try {
      sessions.push(await entryOf(context, transcript, known.get(transcript.id)))
    } catch (error) {
      skipped.push({ id: transcript.id, reason: toAppError(error).message.slice(0, 500) })
    }
  }
  const part = { agent: "claude", version, schemaStamp: "", shared: [] } satisfies SessionExport["part"]
  return { part, sessions, skipped, notTravelling: await leftBehind(transcripts) }
}

async function entryOf(
  context: Context,
  transcript: Transcript,
  known: SessionEntry | undefined,
): Promise<SessionEntry> {
  const { memory, scope, sink, aliases } = context
  const directory = relativeDirectory(scope, aliases, transcript.directory)
  const binding = await bindingOf(scope, aliases, directory)
  const place = placeOf(scope, transcript)
  const laid = await layOut(memory, scope, place, binding)
  if (laid.digest === known?.digest) return known
  const stored = new Set<string>(known?.blobs)
  const blobs = [await put(sink, laid.header)]
  for (const piece of laid.pieces) {
    if (!(await putPiece(sink, piece, binding, stored))) {
      // What it arrived in is neither known any more nor to be made again: then it is laid out as if it had begun here.
      memory.laid.delete(piece.path)
      if (piece.layout === null) throw new AppError("session_busy", "it was written to while it was read")
      await writeCarried(carriedKey(scope, transcript.id, piece.name), null)
      const again = await layOut(memory, scope, place, binding)
      if (again.digest === laid.digest) throw new AppError("session_busy", "it was written to while it was read")
      return await entryOf(context, transcript, known)
    }
    blobs.push(...piece.blobs)
  }
  const { ends } = transcript
  return {
    agent: "claude",
    id: transcript.id,
    parentId: null,
    title: titleOf(transcript),
    createdAtMs: ends.createdAtMs,
    updatedAtMs: ends.lastAtMs,
    directory,
    wasRunning: ends.isUnfinished,
    digest: laid.digest,
    blobs,
    newestMessageAtMs: ends.lastAtMs,
    provider: PROVIDER,
  }
}

/** Puts what is not stored already. False: it can't be made again from the file. */
async function putPiece(
  sink: BlobSink,
  piece: LaidPiece,
  binding: Binding,
  stored: ReadonlySet<string>,
): Promise<boolean> {
  const toPortable = portableText(binding)
  const [only] = piece.blobs
  if (piece.layout === null) {
    if (only === undefined || stored.has(only)) return true
    if (piece.kind === "raw") return (await sink.put(createReadStream(piece.path), { compress: true })).id === only
    return (await put(sink, await portableFile(piece.path, toPortable))) === only
  }
  const file = await open(piece.path, "r")
  try {
    let from = 0
    for (const chunk of piece.layout.chunks) {
      if (!stored.has(chunk.id)) {
        const content = await contentOf(file, from, chunk, toPortable)
        if (content === null) return false
        await put(sink, content)
      }
      from += chunk.bytes
    }
    return true
  } finally {
    await file.close()
  }
}

async function put(sink: BlobSink, content: string | Uint8Array): Promise<BlobId> {
  const bytes = typeof content === "string" ? Buffer.from(content) : content
  return (await sink.put(once(bytes), { compress: true })).id
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content
}

/** What belongs to the directory and not to a session. */
async function leftBehind(transcripts: readonly Transcript[]): Promise<NotTravelling[]> {
  const left: NotTravelling[] = []
  for (const project of new Set(transcripts.map(({ path }) => dirname(path)))) {
    const memory = join(project, "memory")
    if ((await namesIn(memory)).length === 0) continue
    left.push({
      kind: "config",
      path: memory,
      reason: "Claude Code's own notes about this directory stay on this host",
    })
  }
  return left
}

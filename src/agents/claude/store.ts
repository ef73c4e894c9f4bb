/** One home of Claude Code as an agent object works with it: its sessions, and what was learnt of their contents. */
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { readFile, realpath, stat } from "node:fs/promises"
import { join, relative } from "node:path"
import { blobIdSchema, type BlobId } from "../../protocol/ids.ts"
import type { AgentScope } from "../agent.ts"
import { portableText, type Binding } from "../transcript/bound-text.ts"
import { readCarried, type CarriedKey } from "../transcript/carried.ts"
import { decode, idOf, layoutOf, sessionDigest, type Layout } from "../transcript/contents.ts"
import { encodeHeader } from "./header.ts"
import { piecesOf, TRANSCRIPT, type Piece, type SessionPlace } from "./pieces.ts"
import { placesOf, projectName } from "./places.ts"
import type { Transcript, TranscriptMemory } from "./transcripts.ts"

/** A piece with what it consists of: chunks of lines, or one content. */
export interface LaidPiece extends Piece {
  /** Of lines. */
  readonly layout: Layout | null
  readonly blobs: readonly BlobId[]
}

export interface LaidSession {
  readonly pieces: readonly LaidPiece[]
  readonly header: string
  readonly digest: string
}

interface Known {
  readonly state: string
  readonly laid: Pick<LaidPiece, "layout" | "blobs">
}

/** What an agent object remembers while it lives. */
export interface ClaudeMemory {
  readonly transcripts: TranscriptMemory
  readonly laid: Map<string, Known>
}

export function claudeMemory(): ClaudeMemory {
  return { transcripts: new Map(), laid: new Map() }
}

/** Directory of a session from the workspace's top, "" at the top. */
export function relativeDirectory(scope: AgentScope, aliases: readonly string[], directory: string): string {
  for (const top of [scope.topLevel, ...aliases]) {
    if (directory === top || directory.startsWith(`${top}/`)) return relative(top, directory)
  }
  return ""
}

/** What a session's text is bound to here. `directory`: from the workspace's top. */
export async function bindingOf(scope: AgentScope, aliases: readonly string[], directory: string): Promise<Binding> {
  const { home, projects } = placesOf(scope.env)
  const real = await realpath(home).catch(() => home)
  const folders = [scope.topLevel, ...aliases].map((top) => join(projects, projectName(join(top, directory))))
  const [first = projects, ...others] = folders
  return {
    directories: [scope.topLevel, ...aliases],
    homes: real === home ? [home] : [home, real],
    projects: [first, ...others],
  }
}

/** Where a session's pieces lie. */
export function placeOf(scope: AgentScope, { id, path, ends }: Transcript): SessionPlace {
  return { places: placesOf(scope.env), id, transcript: path, slug: ends.slug }
}

/** Under which a file of lines is remembered when it has arrived. */
export function carriedKey(scope: AgentScope, id: string, name: string): CarriedKey {
  const part = name === TRANSCRIPT ? "" : `.${createHash("sha256").update(name).digest("hex").slice(0, 16)}`
  return { env: scope.env, agent: "claude", id: `${id}${part}` }
}

/** What a session consists of now; each file is read once for each state it is in. */
export async function layOut(
  memory: ClaudeMemory,
  scope: AgentScope,
  place: SessionPlace,
  binding: Binding,
): Promise<LaidSession> {
  const pieces: LaidPiece[] = []
  const toPortable = portableText(binding)
  for (const piece of await piecesOf(place)) {
    const { size, mtimeMs, ctimeMs, ino } = await stat(piece.path)
    const state = JSON.stringify([size, mtimeMs, ctimeMs, ino, piece.kind === "raw" ? null : binding])
    const known = memory.laid.get(piece.path)
    const laid = known?.state === state ? known.laid : await read(scope, place.id, piece, toPortable)
    memory.laid.set(piece.path, { state, laid })
    pieces.push({ ...piece, ...laid })
  }
  const header = encodeHeader(
    pieces.map(({ name, blobs, mtimeMs }) => ({
      name,
      contents: blobs.length,
      mtimeMs: name.startsWith("file-history/") ? Math.floor(mtimeMs) : null,
    })),
  )
  return { pieces, header, digest: sessionDigest("claude", [idOf(header), ...pieces.flatMap(({ blobs }) => blobs)]) }
}

async function read(
  scope: AgentScope,
  id: string,
  piece: Piece,
  toPortable: (text: string) => string,
): Promise<Pick<LaidPiece, "layout" | "blobs">> {
  if (piece.kind === "raw") return { layout: null, blobs: [await hashFile(piece.path)] }
  if (piece.kind === "text") return { layout: null, blobs: [idOf(await portableFile(piece.path, toPortable))] }
  const layout = await layoutOf(piece.path, await readCarried(carriedKey(scope, id, piece.name)), toPortable)
  return { layout, blobs: layout.chunks.map((chunk) => chunk.id) }
}

/** A small file of text as it travels. */
export async function portableFile(path: string, toPortable: (text: string) => string): Promise<string> {
  return toPortable(decode(await readFile(path)))
}

async function hashFile(path: string): Promise<BlobId> {
  const hash = createHash("sha256")
  for await (const piece of createReadStream(path)) hash.update(piece)
  return blobIdSchema.parse(hash.digest("hex"))
}

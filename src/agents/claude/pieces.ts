/** The files of one session: its transcript, those of its sub-agents, tool results, backups of edited files, its todo list, its plan. */
import { readdir, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { isMissing } from "../../lib/files.ts"
import type { ClaudePlaces } from "./places.ts"

/** `lines`: only ever added to, portable; `text`: portable as a whole; `raw`: as it is. */
export type PieceKind = "lines" | "text" | "raw"

export interface Piece {
  /** Name by which it travels: `transcript`, `session/…`, `file-history/…`, `tasks/…`, `plans/…`. */
  readonly name: string
  readonly kind: PieceKind
  readonly path: string
  readonly size: number
  readonly mtimeMs: number
}

/** Name of the piece that makes the session. */
export const TRANSCRIPT = "transcript"

/** Where the pieces of a session lie. */
export interface SessionPlace {
  readonly places: ClaudePlaces
  readonly id: string
  /** The transcript's file. */
  readonly transcript: string
  /** Name of its plan's file, without the ending; "" when it has none. */
  readonly slug: string
}

/** Names that may arrive; none of their parts leads upwards. */
const NAME =
  /^(?:session(?:\/[\w.@+-]{1,200}){1,4}|file-history\/[\w.@+-]{1,200}|tasks\/[\w.@+-]{1,200}|plans\/[\w-]{1,200}\.md)$/

/** Name of the piece that is a session's plan. */
export function planOf(slug: string): string {
  return `plans/${slug}.md`
}

/** Path of a piece here; null for a name that is none. */
export function pathOf({ places, id, transcript }: SessionPlace, name: string): string | null {
  if (name === TRANSCRIPT) return transcript
  if (!NAME.test(name) || name.split("/").some((part) => part.startsWith("."))) return null
  const [root, ...rest] = name.split("/")
  if (root === "session") return join(dirname(transcript), id, ...rest)
  if (root === "plans") return join(places.plans, ...rest)
  return join(root === "tasks" ? places.tasks : places.fileHistory, id, ...rest)
}

/** Every piece that is there, the transcript first, the others by name. */
export async function piecesOf(place: SessionPlace): Promise<readonly Piece[]> {
  const { places, id, transcript, slug } = place
  const others = [
    ...(await filesBelow(join(dirname(transcript), id), "session", 3)),
    ...(await filesBelow(join(places.fileHistory, id), "file-history", 0)),
    ...(await filesBelow(join(places.tasks, id), "tasks", 0)),
    ...(slug === "" ? [] : [planOf(slug)]),
  ].toSorted()
  const pieces: Piece[] = []
  for (const name of [TRANSCRIPT, ...others]) {
    const path = pathOf(place, name)
    if (path === null) continue
    try {
      const { size, mtimeMs } = await stat(path)
      pieces.push({ name, kind: kindOf(name), path, size, mtimeMs })
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  return pieces
}

/** How a piece is treated follows from its name alone, so that it need not be believed. */
export function kindOf(name: string): PieceKind {
  if (name === TRANSCRIPT || (name.startsWith("session/") && name.endsWith(".jsonl"))) return "lines"
  return name.startsWith("tasks/") || name.startsWith("plans/") ? "text" : "raw"
}

async function filesBelow(folder: string, name: string, depth: number): Promise<string[]> {
  const found: string[] = []
  try {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      // Locks and the like are this machine's.
      if (entry.name.startsWith(".")) continue
      if (entry.isFile()) found.push(`${name}/${entry.name}`)
      if (entry.isDirectory() && depth > 0) {
        found.push(...(await filesBelow(join(folder, entry.name), `${name}/${entry.name}`, depth - 1)))
      }
    }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  return found
}

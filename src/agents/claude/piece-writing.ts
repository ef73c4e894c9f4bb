/** Writing the files of a session: lines are added to what is there, other files are replaced whole. */
import { copyFile, mkdir, open, rename, rm, stat, utimes } from "node:fs/promises"
import { dirname } from "node:path"
import { isMissing, syncFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { BlobSource } from "../../protocol/blob.ts"
import type { AgentScope } from "../agent.ts"
import { readCarried, writeCarried } from "../transcript/carried.ts"
import { compareWith, type TextRules } from "../transcript/compare.ts"
import { decode } from "../transcript/contents.ts"
import type { UndoLog } from "../transcript/undo-steps.ts"
import { extendTranscript, placeTranscript, type Arriving } from "../transcript/writing.ts"
import type { ArrivingPiece } from "./header.ts"
import { mendLeaf } from "./leaf.ts"
import { kindOf, pathOf, TRANSCRIPT, type SessionPlace } from "./pieces.ts"
import { carriedKey, type LaidPiece } from "./store.ts"

interface Target {
  readonly scope: AgentScope
  readonly place: SessionPlace
  readonly source: BlobSource
  readonly rules: TextRules
  readonly updatedAtMs: number
}

/** A todo list or a plan is small; anything larger is none. */
const TEXT_MAX_BYTES = 16 * 1024 * 1024

/** Makes one file here what arrives. @throws {AppError} damaged_data */
export async function writePiece(
  target: Target,
  piece: ArrivingPiece,
  here: LaidPiece | null,
  undo: UndoLog,
): Promise<void> {
  const path = pathOf(target.place, piece.name)
  if (path === null) {
    throw new AppError("damaged_data", `session ${target.place.id} came with a file ${JSON.stringify(piece.name)}`)
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  if (kindOf(piece.name) === "lines") return await writeLines(target, path, piece, here, undo)
  const isSame = here !== null && here.blobs[0] === piece.blobs[0] && here.blobs.length === piece.blobs.length
  if (!isSame) await replaceFile(target, path, piece, here, undo)
  if (piece.mtimeMs !== null) await utimes(path, new Date(piece.mtimeMs), new Date(piece.mtimeMs))
}

async function writeLines(
  { scope, place, source, rules, updatedAtMs }: Target,
  path: string,
  piece: ArrivingPiece,
  here: LaidPiece | null,
  undo: UndoLog,
): Promise<void> {
  const arriving: Arriving = {
    source,
    chunks: piece.blobs,
    toBound: rules.toBound,
    checkFirst: (line) => checkLine(place.id, line),
    updatedAtMs: piece.name === TRANSCRIPT ? updatedAtMs : 0,
  }
  const key = carriedKey(scope, place.id, piece.name)
  const before = await readCarried(key)
  const layout = here?.layout ?? null
  const local = layout === null ? null : { path, layout }
  const carried =
    local === null
      ? await placeTranscript(path, arriving, undo)
      : await extendTranscript(local, await compareWith(local, { source, chunks: piece.blobs }, rules), arriving, undo)
  if (piece.name === TRANSCRIPT) await mendLeaf(path, place.id)
  await undo.note({ do: "carried", id: key.id, before })
  await writeCarried(key, carried)
}

/** A transcript consists of records; which one comes first is not fixed. */
function checkLine(id: string, line: string): void {
  try {
    const record: unknown = JSON.parse(line)
    if (typeof record === "object" && record !== null && "type" in record) return
  } catch {
    // Said below.
  }
  throw new AppError("damaged_data", `what arrived as session ${id} is not its transcript`)
}

async function replaceFile(
  { source, rules }: Target,
  path: string,
  piece: ArrivingPiece,
  here: LaidPiece | null,
  undo: UndoLog,
): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`
  const [blob] = piece.blobs
  if (blob === undefined || piece.blobs.length > 1) {
    throw new AppError("damaged_data", `the file ${piece.name} came without its contents`)
  }
  try {
    const file = await open(temporary, "wx", 0o600)
    try {
      if (kindOf(piece.name) === "text") await file.writeFile(rules.toBound(await readText(source, blob)))
      else for await (const part of source.open(blob)) await file.writeFile(part)
      await file.sync()
    } finally {
      await file.close()
    }
    const before = here?.mtimeMs ?? (await mtimeOf(path))
    if (before === null) await undo.note({ do: "add", path })
    else await keepForUndo(path, before, undo)
    await rename(temporary, path)
    await syncFolder(dirname(path))
  } finally {
    await rm(temporary, { force: true })
  }
}

/** A file may be there that the session here does not name: a plan, or what is left of a session that was removed. */
async function mtimeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).mtimeMs
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

async function readText(source: BlobSource, blob: ArrivingPiece["blobs"][number]): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(blob)) {
    size += piece.byteLength
    if (size > TEXT_MAX_BYTES) throw new AppError("damaged_data", "a todo list or plan has more than 16 MiB")
    pieces.push(piece)
  }
  return decode(Buffer.concat(pieces))
}

async function keepForUndo(path: string, mtimeMs: number, undo: UndoLog): Promise<void> {
  const saved = undo.place()
  await copyFile(path, saved)
  await undo.note({ do: "replace", path, saved, mtimeMs })
}

/** Takes a file away that was removed at the other side. */
export async function removePiece(piece: LaidPiece, undo: UndoLog): Promise<void> {
  await keepForUndo(piece.path, piece.mtimeMs, undo)
  await rm(piece.path)
}

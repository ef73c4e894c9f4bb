/** Writing transcripts: what is there is kept byte for byte as far as it is the same, and every change can be taken back. */
import { createHash } from "node:crypto"
import { open, rename, rm, stat, truncate, utimes } from "node:fs/promises"
import { dirname } from "node:path"
import { privateFolder, syncFolder } from "../../lib/files.ts"
import { AppError } from "../../protocol/errors.ts"
import type { BlobSource } from "../../protocol/blob.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { Carried } from "./carried.ts"
import { readChunk, type Parting } from "./compare.ts"
import { linesOf, piecesOf, splitLines, type Chunk, type Layout } from "./contents.ts"
import { saveTail, type UndoLog } from "./undo-steps.ts"

export interface Arriving {
  readonly source: BlobSource
  readonly chunks: readonly BlobId[]
  readonly toBound: (text: string) => string
  /** Throws when the transcript does not begin as it must. */
  readonly checkFirst: (line: string) => void
  /** Becomes the file's modification time: agents show it as the time of the last change. */
  readonly updatedAtMs: number
}

/**
 * Makes a new transcript and gives it its name when it is whole and read back.
 * @throws {AppError} damaged_data when it reads back otherwise; what `checkFirst` throws
 */
export async function placeTranscript(path: string, arriving: Arriving, undo: UndoLog): Promise<Carried> {
  await privateFolders(dirname(path))
  const temporary = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`
  try {
    await (await open(temporary, "wx", 0o600)).close()
    const carried = await appendChunks(temporary, arriving, { chunks: [], skipLines: 0, bytes: 0 })
    await undo.note({ do: "add", path })
    await rename(temporary, path)
    await syncFolder(dirname(path))
    return carried
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Makes folders that are missing; those that are there keep their mode. */
async function privateFolders(folder: string): Promise<void> {
  const isThere = await stat(folder).then(
    () => true,
    () => false,
  )
  if (!isThere) await privateFolder(folder)
}

/** Takes away what the file has after the parting, and adds what arrives. */
export async function extendTranscript(
  local: { readonly path: string; readonly layout: Layout },
  parting: Parting,
  arriving: Arriving,
  undo: UndoLog,
): Promise<Carried> {
  const { path, layout } = local
  const { mtimeMs } = await stat(path)
  await checkStill(local)
  const saved = undo.place()
  await saveTail(path, parting.bytes, saved)
  await undo.note({ do: "tail", path, offset: parting.bytes, saved, mtimeMs })
  await truncate(path, parting.bytes)
  const chunks = layout.chunks.slice(0, parting.sameChunks)
  return await appendChunks(path, arriving, { chunks, skipLines: parting.sameLines, bytes: parting.bytes })
}

/** What was compared is what is there: a line that has come since is no one's to take away. */
async function checkStill({ path, layout }: { readonly path: string; readonly layout: Layout }): Promise<void> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    const more = await linesOf(file, layout.wholeBytes, size).next()
    if (size >= layout.wholeBytes && more.done === true) return
  } finally {
    await file.close()
  }
  throw new AppError("session_busy", `${path} was written to meanwhile`)
}

interface Before {
  /** Leading chunks that the file has already. */
  readonly chunks: readonly Chunk[]
  /** Lines of the chunks after those that it has too. */
  readonly skipLines: number
  /** Bytes of the file. */
  readonly bytes: number
}

/** Appends arriving lines, reads the whole file back, and answers what is to be remembered of it. */
async function appendChunks(path: string, arriving: Arriving, before: Before): Promise<Carried> {
  const written = createHash("sha256")
  const counts: number[] = []
  const file = await open(path, "a")
  try {
    let skip = before.skipLines
    for (const chunk of arriving.chunks.slice(before.chunks.length)) {
      const lines = splitLines(await readChunk(arriving.source, chunk))
      if (before.bytes === 0 && counts.length === 0) {
        arriving.checkFirst(arriving.toBound(lines[0] ?? ""))
      }
      counts.push(lines.length)
      const bound = Buffer.from(arriving.toBound(lines.slice(skip).join("")))
      skip = Math.max(0, skip - lines.length)
      written.update(bound)
      await file.appendFile(bound)
    }
    await file.sync()
  } finally {
    await file.close()
  }
  const carried = await readBack(path, arriving.chunks, before, counts, written.digest("hex"))
  const at = new Date(arriving.updatedAtMs)
  if (arriving.updatedAtMs > 0) await utimes(path, at, at)
  return carried
}

async function readBack(
  path: string,
  ids: readonly BlobId[],
  before: Before,
  counts: readonly number[],
  written: string,
): Promise<Carried> {
  const whole = createHash("sha256")
  const tail = createHash("sha256")
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    for await (const piece of piecesOf(file, 0, before.bytes)) whole.update(piece)
    for await (const piece of piecesOf(file, before.bytes, size)) {
      whole.update(piece)
      tail.update(piece)
    }
    if (tail.digest("hex") !== written) {
      throw new AppError("damaged_data", `what was written to ${path} read back otherwise`)
    }
    const chunks = [...before.chunks]
    const from = chunks.reduce((sum, { bytes }) => sum + bytes, 0)
    chunks.push(...(await measure(linesOf(file, from, size), ids.slice(chunks.length), counts)))
    return { chunks, sha256: whole.digest("hex") }
  } finally {
    await file.close()
  }
}

/** How many bytes of the file each chunk's lines take. */
async function measure(
  groups: AsyncIterable<string>,
  ids: readonly BlobId[],
  counts: readonly number[],
): Promise<Chunk[]> {
  const bytes = ids.map(() => 0)
  let [chunk, lines] = [0, 0]
  for await (const group of groups) {
    for (const line of splitLines(group)) {
      while (chunk < counts.length && lines >= (counts[chunk] ?? 0)) [chunk, lines] = [chunk + 1, 0]
      bytes[chunk] = (bytes[chunk] ?? 0) + Buffer.byteLength(line)
      lines += 1
    }
  }
  return ids.map((id, index) => ({ id, bytes: bytes[index] ?? 0 }))
}

/** Copies the whole lines of a transcript, as `change` makes them. */
export async function copyTranscript(
  local: { readonly path: string; readonly layout: Layout },
  to: string,
  change: (lines: string) => string,
  undo: UndoLog,
): Promise<void> {
  const { mtimeMs } = await stat(local.path)
  await undo.note({ do: "add", path: to })
  const temporary = `${to}.${crypto.randomUUID().slice(0, 8)}.tmp`
  const from = await open(local.path, "r")
  const file = await open(temporary, "wx", 0o600)
  try {
    for await (const group of linesOf(from, 0, local.layout.wholeBytes)) await file.appendFile(change(group))
    await file.sync()
    await file.utimes(new Date(mtimeMs), new Date(mtimeMs))
  } finally {
    await file.close()
    await from.close()
  }
  await rename(temporary, to)
  await syncFolder(dirname(to))
}

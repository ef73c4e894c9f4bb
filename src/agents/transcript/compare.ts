/** Where an arriving session and the one that is here part ways: by chunks as far as they are the same ones, then line by line. */
import { open } from "node:fs/promises"
import { AppError } from "../../protocol/errors.ts"
import type { BlobSource } from "../../protocol/blob.ts"
import type { BlobId } from "../../protocol/ids.ts"
import { decode, linesOf, splitLines, type Layout } from "./contents.ts"
import { isSameButForPaths, isSameText } from "./bound-text.ts"

/** What one side has after the point where they part. */
export type Rest = "nothing" | "housekeeping" | "turns"

export interface Parting {
  /** Leading chunks that are the same on both sides. */
  readonly sameChunks: number
  /** Lines of the following chunks that say the same on both sides. */
  readonly sameLines: number
  /** Bytes of the file here up to there. */
  readonly bytes: number
  readonly here: Rest
  readonly arriving: Rest
}

/** How lines are read. */
export interface TextRules {
  readonly toPortable: (text: string) => string
  readonly toBound: (text: string) => string
  /** Whether a line says nothing that belongs to the conversation. */
  readonly isHousekeeping: (line: string) => boolean
}

/** A chunk has at most this many bytes, or is one line. */
const CHUNK_MAX_BYTES = 256 * 1024 * 1024

/** One arriving chunk as text: whole lines. @throws {AppError} damaged_data */
export async function readChunk(source: BlobSource, id: BlobId): Promise<string> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(id)) {
    size += piece.byteLength
    if (size > CHUNK_MAX_BYTES) throw new AppError("damaged_data", `content ${id} has more than 256 MiB`)
    pieces.push(piece)
  }
  const text = decode(Buffer.concat(pieces))
  if (!text.endsWith("\n")) throw new AppError("damaged_data", `content ${id} does not end with a whole line`)
  return text
}

async function* arrivingLines(source: BlobSource, chunks: readonly BlobId[]): AsyncGenerator<string> {
  for (const id of chunks) yield* splitLines(await readChunk(source, id))
}

async function* localLines(path: string, from: number, to: number): AsyncGenerator<string> {
  const file = await open(path, "r")
  try {
    for await (const group of linesOf(file, from, to)) yield* splitLines(group)
  } finally {
    await file.close()
  }
}

/** Compares the file here with arriving chunks. A line is the same when it is once both are bound here, or portable. */
export async function compareWith(
  local: { readonly path: string; readonly layout: Layout },
  arriving: { readonly source: BlobSource; readonly chunks: readonly BlobId[] },
  text: TextRules,
): Promise<Parting> {
  const { chunks, wholeBytes } = local.layout
  const first = chunks.findIndex(({ id }, index) => arriving.chunks[index] !== id)
  const sameChunks = first === -1 ? chunks.length : first
  let bytes = chunks.slice(0, sameChunks).reduce((sum, chunk) => sum + chunk.bytes, 0)
  let sameLines = 0
  const mine = localLines(local.path, bytes, wholeBytes)
  const theirs = arrivingLines(arriving.source, arriving.chunks.slice(sameChunks))
  try {
    let [a, b] = [await mine.next(), await theirs.next()]
    while (a.done !== true && b.done !== true) {
      if (!isSameLine(a.value, b.value, text)) break
      sameLines += 1
      bytes += Buffer.byteLength(a.value)
      ;[a, b] = [await mine.next(), await theirs.next()]
    }
    return {
      sameChunks,
      sameLines,
      bytes,
      here: await restOf(a, mine, text.isHousekeeping),
      // A placeholder is no JSON: arriving lines are looked at as they would stand here.
      arriving: await restOf(b, theirs, (line) => text.isHousekeeping(text.toBound(line))),
    }
  } finally {
    await mine.return(undefined)
    await theirs.return(undefined)
  }
}

function isSameLine(here: string, arriving: string, { toBound, toPortable }: TextRules): boolean {
  return toBound(arriving) === here || isSameText(toPortable(here), arriving) || isSameButForPaths(here, arriving)
}

async function restOf(
  first: IteratorResult<string>,
  lines: AsyncGenerator<string>,
  isHousekeeping: (line: string) => boolean,
): Promise<Rest> {
  if (first.done === true) return "nothing"
  if (!isHousekeeping(first.value)) return "turns"
  for await (const line of lines) if (!isHousekeeping(line)) return "turns"
  return "housekeeping"
}

/**
 * A transcript as contents that travel: whole lines in portable form, in chunks of at most 128 KiB cut at line ends from the beginning,
 * so that a session that grew keeps all chunks but its last. One piece of the file is in memory at a time.
 */
import { createHash } from "node:crypto"
import { open, type FileHandle } from "node:fs/promises"
import { AppError } from "../../protocol/errors.ts"
import { blobIdSchema, type BlobId } from "../../protocol/ids.ts"
import type { AgentName } from "../../protocol/manifest.ts"
import type { Carried } from "./carried.ts"

const CHUNK_BYTES = 128 * 1024
const PIECE_BYTES = 1024 * 1024
/** A line is one record; images lie in them as base64. */
const LINE_MAX_BYTES = 256 * 1024 * 1024

export interface Chunk {
  readonly id: BlobId
  /** Bytes of the file here that it stands for. */
  readonly bytes: number
}

export interface Layout {
  readonly chunks: readonly Chunk[]
  /** Bytes of the file's whole lines: what follows is still being written, or was cut off. */
  readonly wholeBytes: number
}

/**
 * The chunks of a transcript. Where its beginning is what once arrived here, they are the ones that it arrived in.
 * @throws {AppError} damaged_data when it is not UTF-8 text
 */
export async function layoutOf(
  path: string,
  carried: Carried | null,
  toPortable: (text: string) => string,
): Promise<Layout> {
  const file = await open(path, "r")
  try {
    const { size } = await file.stat()
    const kept = carried !== null && (await beginsWith(file, size, carried)) ? carried.chunks : []
    const from = totalBytes(kept)
    const chunks = [...kept]
    for await (const { content, bytes } of cutChunks(linesOf(file, from, size), toPortable)) {
      chunks.push({ id: idOf(content), bytes })
    }
    return { chunks, wholeBytes: totalBytes(chunks) }
  } finally {
    await file.close()
  }
}

/** The contents of one chunk, made again from the file; null when they are not what the chunk says. */
export async function contentOf(
  file: FileHandle,
  from: number,
  chunk: Chunk,
  toPortable: (text: string) => string,
): Promise<Uint8Array | null> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(chunk.bytes), 0, chunk.bytes, from)
  const content = Buffer.from(toPortable(buffer.subarray(0, bytesRead).toString("utf8")))
  return idOf(content) === chunk.id ? content : null
}

export function totalBytes(chunks: readonly Chunk[]): number {
  return chunks.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** SHA-256 of contents, hexadecimal: the id of the blob that holds them. */
export function idOf(content: string | Uint8Array): BlobId {
  return blobIdSchema.parse(createHash("sha256").update(content).digest("hex"))
}

/** Digest of a session from the ids of its contents, in order. */
export function sessionDigest(agent: AgentName, ids: readonly string[]): string {
  return createHash("sha256")
    .update(`decamp ${agent} session 1\n${ids.join("\n")}`)
    .digest("hex")
}

async function beginsWith(file: FileHandle, size: number, { chunks, sha256 }: Carried): Promise<boolean> {
  const bytes = totalBytes(chunks)
  return bytes <= size && (await hashOf(file, bytes)) === sha256
}

/** SHA-256 of a file's first bytes, hexadecimal. */
export async function hashOf(file: FileHandle, bytes: number): Promise<string> {
  const hash = createHash("sha256")
  for await (const piece of piecesOf(file, 0, bytes)) hash.update(piece)
  return hash.digest("hex")
}

export async function* piecesOf(file: FileHandle, from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to;) {
    const length = Math.min(PIECE_BYTES, to - at)
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, at)
    if (bytesRead === 0) return
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

/** Whole lines with their ends, as text, in groups of about 1 MiB. @throws {AppError} damaged_data when they are not UTF-8 */
export async function* linesOf(file: FileHandle, from: number, to: number): AsyncGenerator<string> {
  let held: Buffer[] = []
  let heldBytes = 0
  for await (const piece of piecesOf(file, from, to)) {
    const end = piece.lastIndexOf(10) + 1
    if (end === 0) {
      held.push(piece)
      heldBytes += piece.byteLength
      if (heldBytes > LINE_MAX_BYTES)
        throw new AppError("damaged_data", "a line of the transcript has more than 256 MiB")
      continue
    }
    yield decode(Buffer.concat([...held, piece.subarray(0, end)]))
    held = [piece.subarray(end)]
    heldBytes = piece.byteLength - end
  }
}

export function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw new AppError("damaged_data", "the transcript is not UTF-8 text", { cause: error })
  }
}

/** Cuts groups of lines into chunks. */
export async function* cutChunks(
  groups: AsyncIterable<string>,
  toPortable: (text: string) => string,
): AsyncGenerator<{ readonly content: string; readonly bytes: number }> {
  let [content, contentBytes, bytes] = ["", 0, 0]
  for await (const group of groups) {
    const lines = splitLines(group)
    const portable = splitLines(toPortable(group))
    for (const [index, line] of portable.entries()) {
      const size = Buffer.byteLength(line)
      if (contentBytes > 0 && contentBytes + size > CHUNK_BYTES) {
        yield { content, bytes }
        ;[content, contentBytes, bytes] = ["", 0, 0]
      }
      content += line
      contentBytes += size
      bytes += Buffer.byteLength(lines[index] ?? "")
    }
  }
  if (contentBytes > 0) yield { content, bytes }
}

/** The lines of a text, each with its end; a last one without an end is none. */
export function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n/g) ?? []
}

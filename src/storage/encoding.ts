/** From plain bytes to stored ones and back, in bounded memory. Stored: as they are, or one zstd frame at level 1. */
import { constants, createZstdCompress, createZstdDecompress } from "node:zlib"
import type { BlobRef } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { blobIdSchema } from "../protocol/ids.ts"

/** Content is cut into pieces of this size: the same bytes give the same stored bytes, however they arrived. */
const PIECE_BYTES = 64 * 1024
/** Content of so many bytes at most is held whole and encoded at once: the way through a stream costs twice the time. */
const WHOLE_BYTES = 4 * 1024 * 1024
/** Compression that saves less than this share of the first piece isn't worth its time. */
const WORTH = 0.95
const COMPRESS = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }
/** 8 MiB. Level 1 needs 512 KiB: a frame that wants more memory than this was not made here. */
const DECOMPRESS = { params: { [constants.ZSTD_d_windowLogMax]: 23 } }

type Write = (part: Uint8Array) => Promise<void>

/** Encodes a stream; what is stored goes to `write`, in order. Answers what the plain bytes were. */
export async function encode(
  content: AsyncIterable<Uint8Array>,
  mayCompress: boolean,
  write: Write,
): Promise<Pick<BlobRef, "id" | "plainSize" | "encoding">> {
  const hash = new Bun.CryptoHasher("sha256")
  let plainSize = 0
  let held: Uint8Array[] = []
  let encoder: Encoder | null = null
  for await (const piece of pieces(content)) {
    hash.update(piece)
    plainSize += piece.byteLength
    held.push(piece)
    if (plainSize <= WHOLE_BYTES) continue
    encoder ??= mayCompress && pays(held[0]) ? zstdEncoder(write) : plainEncoder(write)
    for (const each of held) await encoder.write(each)
    held = []
  }
  await encoder?.end()
  const encoding = encoder?.encoding ?? (await encodeWhole(held, mayCompress, write))
  return { id: blobIdSchema.parse(hash.digest("hex")), plainSize, encoding }
}

async function encodeWhole(
  held: readonly Uint8Array[],
  mayCompress: boolean,
  write: Write,
): Promise<BlobRef["encoding"]> {
  const whole = Buffer.concat(held)
  const isWorth = mayCompress && pays(held[0])
  await write(isWorth ? await Bun.zstdCompress(whole, { level: 1 }) : whole)
  return isWorth ? "zstd" : "plain"
}

interface Encoder {
  readonly encoding: BlobRef["encoding"]
  write(piece: Uint8Array): Promise<void>
  end(): Promise<void>
}

function plainEncoder(write: Write): Encoder {
  return { encoding: "plain", write, end: async () => {} }
}

function zstdEncoder(write: Write): Encoder {
  return { encoding: "zstd", ...zstdStream(write) }
}

function zstdStream(write: Write): { write(piece: Uint8Array): Promise<void>; end(): Promise<void> } {
  const zstd = createZstdCompress(COMPRESS)
  const drained = (async () => {
    for await (const part of zstd) await write(bytesOf(part))
  })()
  const failed = drained.then(async () => await new Promise<never>(() => {}))
  // Told by `write` or `end`; without this a failure between two of them would be an unhandled one.
  failed.catch(() => {})
  return {
    async write(piece) {
      if (zstd.write(piece)) return
      await Promise.race([new Promise<void>((resolve) => zstd.once("drain", resolve)), failed])
    },
    async end() {
      zstd.end()
      await drained
    },
  }
}

function pays(piece: Uint8Array | undefined): boolean {
  if (piece === undefined) return false
  return Bun.zstdCompressSync(piece, { level: 1 }).byteLength < piece.byteLength * WORTH
}

/** The same bytes in pieces of {@link PIECE_BYTES}; only the last is shorter. Each piece is the receiver's own. */
async function* pieces(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece = new Uint8Array(PIECE_BYTES)
  let filled = 0
  for await (const part of content) {
    for (let at = 0; at < part.byteLength;) {
      const taken = Math.min(PIECE_BYTES - filled, part.byteLength - at)
      piece.set(part.subarray(at, at + taken), filled)
      filled += taken
      at += taken
      if (filled < PIECE_BYTES) continue
      yield piece
      piece = new Uint8Array(PIECE_BYTES)
      filled = 0
    }
  }
  if (filled > 0) yield piece.subarray(0, filled)
}

/**
 * Plain bytes of a blob from its stored ones. Never yields more than the ref announces.
 * @throws {AppError} damaged_data with `details.blob` when they are not the blob's (after the last byte)
 */
export async function* plainBytes(ref: BlobRef, stored: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const damaged = (why: string, cause?: unknown): AppError =>
    new AppError("damaged_data", `blob ${ref.id} is damaged: ${why}`, { cause, details: { blob: ref.id } })
  const hash = new Bun.CryptoHasher("sha256")
  let size = 0
  try {
    for await (const part of ref.encoding === "zstd" ? decompressed(stored) : stored) {
      size += part.byteLength
      if (size > ref.plainSize) throw damaged(`more than ${ref.plainSize} bytes`)
      hash.update(part)
      yield part
    }
  } catch (error) {
    throw error instanceof AppError ? error : damaged("it can't be read", error)
  }
  if (size !== ref.plainSize) throw damaged(`${size} of ${ref.plainSize} bytes`)
  if (hash.digest("hex") !== ref.id) throw damaged("its hash differs")
}

async function* decompressed(stored: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const zstd = createZstdDecompress(DECOMPRESS)
  const fed = (async () => {
    try {
      for await (const part of stored) {
        if (!zstd.write(part)) await new Promise<void>((resolve) => zstd.once("drain", resolve).once("close", resolve))
        if (zstd.destroyed) return
      }
      zstd.end()
    } catch (error) {
      zstd.destroy(error instanceof Error ? error : new Error(String(error)))
    }
  })()
  try {
    for await (const part of zstd) yield bytesOf(part)
  } finally {
    zstd.destroy()
    await fed
  }
}

function bytesOf(part: unknown): Uint8Array {
  if (part instanceof Uint8Array) return part
  throw new AppError("internal", "zstd gave something that is no bytes")
}

/** Where a host keeps the blobs of a checkpoint while they are made, sent, received and applied: one private folder, one file a blob. */
import { open, readdir, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { fileSize } from "../lib/files.ts"
import { newMemoryPace } from "../lib/memory.ts"
import type { BlobRef, BlobSink, BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { blobIdSchema, type BlobId } from "../protocol/ids.ts"
import { encode, plainBytes } from "./encoding.ts"

/**
 * Opened on one folder by one process, several times if need be. Files are whole and named by content; after a power cut one may be
 * empty, which readers find (plain bytes are verified) and a new `put` mends.
 */
export interface Spool {
  readonly sink: BlobSink
  /** Every blob that `sink.put` answered or that was received since this spool was opened. */
  refs(): readonly BlobRef[]
  file(id: BlobId): Promise<{ readonly path: string; readonly sizeBytes: number } | null>
  /** Bytes of a blob whose way here broke off, from its first one on. */
  keptBytes(ref: BlobRef): Promise<number>
  /**
   * Takes a blob in, from byte `offset` on, which must be what is kept. What comes is kept when the content breaks off.
   * @throws {AppError} damaged_data when it is not what its manifest says: nothing of it is kept then; wrong_offset
   */
  receive(ref: BlobRef, content: AsyncIterable<Uint8Array>, offset?: number): Promise<void>
  source(refs: readonly BlobRef[]): BlobSource
  /** Removes every blob but these; after a finished hand-off, all. */
  prune(keep?: ReadonlySet<BlobId>): Promise<void>
}

const TEMPORARY = ".tmp"
/** Of a blob that is on its way here. */
const PART = ".part"
/** Temporary files older than this belong to nobody who still writes. */
const ABANDONED_MS = 24 * 3_600_000

/** Parts that are written at this moment, over all spools of this process: two writers of one file would mix their bytes. */
const written = new Set<string>()

/** @param folder private, made by the caller */
export async function openSpool(folder: string): Promise<Spool> {
  await removeAbandoned(folder)
  const seen = new Map<BlobId, BlobRef>()
  const pace = newMemoryPace()
  const pathOf = (id: BlobId): string => join(folder, id)
  const keep = async (temporary: string, ref: BlobRef): Promise<void> => {
    await rename(temporary, pathOf(ref.id))
    seen.set(ref.id, ref)
  }
  return {
    sink: {
      async put(content, options) {
        const ref = await withTemporary(folder, async (temporary) => {
          const made = await writeEncoded(temporary, content, options?.compress !== false)
          await keep(temporary, made)
          return made
        })
        pace(ref.plainSize)
        return ref
      },
    },
    refs: () => [...seen.values()],
    async file(id) {
      const path = pathOf(id)
      const sizeBytes = await fileSize(path)
      return sizeBytes === null ? null : { path, sizeBytes }
    },
    async keptBytes(ref) {
      const part = partPath(folder, ref)
      return written.has(part) ? 0 : ((await fileSize(part)) ?? 0)
    },
    async receive(ref, content, offset = 0) {
      await receiveInto(folder, ref, content, offset, keep)
    },
    source(refs) {
      const known = new Map(refs.map((ref) => [ref.id, ref]))
      return {
        open(id) {
          const ref = known.get(id)
          if (ref === undefined) throw new AppError("damaged_data", `blob ${id} is used but not listed`)
          pace(ref.plainSize)
          return plainBytes(ref, Bun.file(pathOf(id)).stream())
        },
      }
    },
    async prune(kept = new Set()) {
      for (const name of await readdir(folder)) {
        const id = blobIdSchema.safeParse(name.split(".")[0])
        const isOurs = id.success && (name === id.data || name.endsWith(PART))
        if (isOurs && !kept.has(id.data)) await rm(join(folder, name), { force: true })
      }
    },
  }
}

async function receiveInto(
  folder: string,
  ref: BlobRef,
  content: AsyncIterable<Uint8Array>,
  offset: number,
  keep: (part: string, ref: BlobRef) => Promise<void>,
): Promise<void> {
  const shared = partPath(folder, ref)
  const isAlone = !written.has(shared)
  if (!isAlone && offset > 0) throw new AppError("wrong_offset", `blob ${ref.id}: something else receives the rest`)
  // Whoever comes second is on its own, and leaves nothing to go on with.
  const part = isAlone ? shared : partPath(folder, ref, `.${crypto.randomUUID()}`)
  written.add(part)
  try {
    await writeVerified(part, ref, content, offset)
    await keep(part, ref)
  } catch (error) {
    const isDamaged = error instanceof AppError && error.code === "damaged_data"
    if (isDamaged || !isAlone) await rm(part, { force: true })
    throw error
  } finally {
    written.delete(part)
  }
}

async function withTemporary<T>(folder: string, work: (path: string) => Promise<T>): Promise<T> {
  const temporary = join(folder, `${crypto.randomUUID()}${TEMPORARY}`)
  try {
    return await work(temporary)
  } finally {
    await rm(temporary, { force: true })
  }
}

async function writeEncoded(path: string, content: AsyncIterable<Uint8Array>, mayCompress: boolean): Promise<BlobRef> {
  const file = await open(path, "wx", 0o600)
  try {
    const storedHash = new Bun.CryptoHasher("sha256")
    let storedSize = 0
    const encoded = await encode(content, mayCompress, async (part) => {
      storedHash.update(part)
      storedSize += part.byteLength
      await file.writeFile(part)
    })
    return { ...encoded, storedSize, storedSha256: storedHash.digest("hex") }
  } finally {
    await file.close()
  }
}

/** Named by what is stored, so that bytes of another encoding of the same content are never mixed with these. */
function partPath(folder: string, { id, storedSha256 }: BlobRef, own = ""): string {
  return join(folder, `${id}.${storedSha256.slice(0, 16)}${own}${PART}`)
}

async function writeVerified(
  path: string,
  ref: BlobRef,
  content: AsyncIterable<Uint8Array>,
  offset: number,
): Promise<void> {
  const hash = new Bun.CryptoHasher("sha256")
  let size = offset === 0 ? 0 : await hashInto(hash, path)
  if (size !== offset) throw new AppError("wrong_offset", `blob ${ref.id}: ${size} bytes are kept, not ${offset}`)
  const file = await open(path, offset === 0 ? "w" : "a", 0o600)
  try {
    for await (const part of content) {
      size += part.byteLength
      if (size > ref.storedSize) break
      hash.update(part)
      await file.writeFile(part)
    }
    if (size !== ref.storedSize || hash.digest("hex") !== ref.storedSha256) {
      throw new AppError("damaged_data", `blob ${ref.id} is not what its manifest says as stored`, {
        details: { blob: ref.id },
      })
    }
  } finally {
    await file.close()
  }
}

/** Answers how many bytes there were. */
async function hashInto(hash: Bun.CryptoHasher, path: string): Promise<number> {
  let size = 0
  for await (const part of Bun.file(path).stream()) {
    hash.update(part)
    size += part.byteLength
  }
  return size
}

async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(TEMPORARY) && !name.endsWith(PART)) continue
    const path = join(folder, name)
    const facts = await stat(path).catch(() => null)
    if (facts !== null && Date.now() - facts.mtimeMs > ABANDONED_MS) await rm(path, { force: true })
  }
}

/** Where a host keeps the blobs of a checkpoint while they are made, sent, received and applied: one private folder, one file a blob. */
import { open, readdir, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../lib/files.ts"
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
  receive(ref: BlobRef, content: AsyncIterable<Uint8Array>): Promise<void>
  source(refs: readonly BlobRef[]): BlobSource
  /** Removes every blob but these; after a finished hand-off, all. */
  prune(keep?: ReadonlySet<BlobId>): Promise<void>
}

const TEMPORARY = ".tmp"
/** Temporary files older than this belong to nobody who still writes. */
const ABANDONED_MS = 24 * 3_600_000

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
      const sizeBytes = await sizeOf(path)
      return sizeBytes === null ? null : { path, sizeBytes }
    },
    async receive(ref, content) {
      await withTemporary(folder, async (temporary) => {
        await writeVerified(temporary, ref, content)
        await keep(temporary, ref)
      })
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
        const id = blobIdSchema.safeParse(name)
        if (id.success && !kept.has(id.data)) await rm(pathOf(id.data), { force: true })
      }
    },
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

async function writeVerified(path: string, ref: BlobRef, content: AsyncIterable<Uint8Array>): Promise<void> {
  const file = await open(path, "wx", 0o600)
  try {
    const hash = new Bun.CryptoHasher("sha256")
    let size = 0
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

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

async function removeAbandoned(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.endsWith(TEMPORARY)) continue
    const path = join(folder, name)
    const facts = await stat(path).catch(() => null)
    if (facts !== null && Date.now() - facts.mtimeMs > ABANDONED_MS) await rm(path, { force: true })
  }
}

/** A blob sink and source over a folder, for tests of capture and apply. */
import { createReadStream } from "node:fs"
import { open, rename, stat } from "node:fs/promises"
import { join } from "node:path"
import type { BlobRef, BlobSink, BlobSource } from "../../src/protocol/blob.ts"
import { blobIdSchema } from "../../src/protocol/ids.ts"

export interface FileBlobs {
  readonly sink: BlobSink
  readonly source: BlobSource
  /** Every put since the start, in order. */
  readonly stored: readonly BlobRef[]
  /** Ids that were opened, in order. */
  readonly opened: readonly string[]
  readonly folder: string
}

export function fileBlobs(folder: string): FileBlobs {
  const stored: BlobRef[] = []
  const opened: string[] = []
  const put = async (content: AsyncIterable<Uint8Array>): Promise<BlobRef> => {
    const hasher = new Bun.CryptoHasher("sha256")
    const temporary = join(folder, crypto.randomUUID())
    const file = await open(temporary, "wx")
    for await (const part of content) {
      hasher.update(part)
      await file.write(part)
    }
    await file.close()
    const hash = hasher.digest("hex")
    await rename(temporary, join(folder, hash))
    const { size } = await stat(join(folder, hash))
    const id = blobIdSchema.parse(hash)
    const ref: BlobRef = { id, plainSize: size, storedSize: size, storedSha256: hash, encoding: "plain" }
    stored.push(ref)
    return ref
  }
  const source: BlobSource = {
    open(id) {
      opened.push(id)
      return createReadStream(join(folder, id))
    },
  }
  return { sink: { put }, source, stored, opened, folder }
}

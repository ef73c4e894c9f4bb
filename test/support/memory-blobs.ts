/** Blobs in memory, for tests of what writes and reads them. */
import { createHash } from "node:crypto"
import type { BlobRef, BlobSink, BlobSource } from "../../src/protocol/blob.ts"
import { blobIdSchema } from "../../src/protocol/ids.ts"

export interface MemoryBlobs {
  readonly sink: BlobSink
  readonly source: BlobSource
  readonly contents: Map<string, Uint8Array>
  /** Bytes put since the last call that were not there before. */
  newBytes(): number
}

export function memoryBlobs(): MemoryBlobs {
  const contents = new Map<string, Uint8Array>()
  let added = 0
  return {
    contents,
    sink: {
      async put(content): Promise<BlobRef> {
        const bytes = Buffer.concat(await Array.fromAsync(content))
        const id = blobIdSchema.parse(createHash("sha256").update(bytes).digest("hex"))
        if (!contents.has(id)) added += bytes.byteLength
        contents.set(id, bytes)
        const size = bytes.byteLength
        return { id, plainSize: size, storedSize: size, storedSha256: id, encoding: "plain" }
      },
    },
    source: {
      async *open(id) {
        const bytes = contents.get(id)
        if (bytes === undefined) throw new Error(`no blob ${id}`)
        yield bytes
      },
    },
    newBytes() {
      const bytes = added
      added = 0
      return bytes
    },
  }
}

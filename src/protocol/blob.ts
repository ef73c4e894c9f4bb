/** Blobs: immutable contents of checkpoints. A blob's id is the SHA-256 of its plain bytes. */
import { z } from "zod"
import { blobIdSchema, type BlobId } from "./ids.ts"

export const blobRefSchema = z.object({
  id: blobIdSchema,
  plainSize: z.int().nonnegative(),
  storedSize: z.int().nonnegative(),
  /** SHA-256 of the stored bytes, hexadecimal. */
  storedSha256: z.string().regex(/^[0-9a-f]{64}$/),
  encoding: z.enum(["plain", "zstd"]),
})
export type BlobRef = z.infer<typeof blobRefSchema>

/** Where capture and export put contents. Writing the same bytes twice costs nothing and gives the same id. */
export interface BlobSink {
  /** Stores a stream's bytes (bounded memory) and answers what was stored. */
  put(content: AsyncIterable<Uint8Array>, options?: { readonly compress?: boolean }): Promise<BlobRef>
}

/** Where apply and import read contents. */
export interface BlobSource {
  /**
   * Plain bytes of one blob, verified against its id when the stream ends.
   * @throws {AppError} damaged_data when size or hash differ (after the last byte, so use nothing before the end)
   */
  open(id: BlobId): AsyncIterable<Uint8Array>
}

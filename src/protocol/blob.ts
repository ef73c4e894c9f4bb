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

const digestSchema = z.string().regex(/^[0-9a-f]{64}$/)

/** How one object is sent. An address is a path of the gateway, or absolute and below the store that the host knows. */
export const uploadPlanSchema = z.union([
  /** In one piece. */
  z.object({
    url: z.string(),
    /** What must be sent with it, because the address was signed with it. */
    headers: z
      .strictObject({
        /** The server itself refuses other bytes. */
        "x-amz-content-sha256": digestSchema.optional(),
        /** An object that is there stays; the answer is 412 then. */
        "if-none-match": z.literal("*").optional(),
      })
      .default({}),
  }),
  /** In parts; then their tags, to the last address. */
  z.object({
    parts: z.array(
      z.object({
        number: z.int().positive(),
        /** Bytes of the object: the first one, and the first that is not in this part any more. */
        start: z.int().nonnegative(),
        end: z.int().positive(),
        url: z.string(),
        /** Of what an upload that broke off has left of it, perhaps of other bytes; null: nothing. */
        etag: z.string().max(200).nullable(),
      }),
    ),
    completeUrl: z.string(),
  }),
])
export type UploadPlan = z.infer<typeof uploadPlanSchema>

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

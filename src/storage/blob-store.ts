/** Where contents of checkpoints rest. Keys: keys.ts. Every implementation passes blob-store.contract.ts. */
import type { UploadPlan } from "../protocol/blob.ts"

export interface ByteRange {
  /** First byte. */
  readonly start: number
  /** First byte that is not wanted any more. */
  readonly end: number
}

export interface StoredObject {
  /** Of the whole object, also when a range was asked for. */
  readonly sizeBytes: number
  /** The bytes asked for; read lazily, never held whole. To be read, or its stream cancelled. */
  readonly content: Pick<Blob, "text" | "stream">
}

/** Objects are immutable: written once, whole, then only read or deleted. */
export interface BlobStore {
  /**
   * Stores an object of exactly `sizeBytes`, whole or not at all; durable when it returns. Create-only: an object that is there
   * with this size stays as it is, and the content isn't read.
   * @throws {AppError} invalid_request when the content has another size; name_taken when an object of another size is there
   */
  put(key: string, content: AsyncIterable<Uint8Array>, sizeBytes: number): Promise<{ readonly isNew: boolean }>
  /** Null when there is no such object. */
  get(key: string, range?: ByteRange): Promise<StoredObject | null>
  head(key: string): Promise<{ readonly sizeBytes: number } | null>
  /** Sizes by key of every object below a prefix that ends with a slash, in one call. */
  list(prefix: string): Promise<ReadonlyMap<string, number>>
  /** Nothing happens when there is no such object. */
  delete(key: string): Promise<void>
}

/** Of stores that keep what came of an upload that broke off, so that it goes on from there: resumable.contract.ts. */
export interface Resumable {
  /** Bytes of an unfinished upload of this object that are kept; the whole size when the object is there; else 0. */
  keptBytes(key: string, sizeBytes: number): Promise<number>
  /**
   * As {@link BlobStore.put}, with `content` from byte `offset` on; an upload of the same object that seems to be under way is given
   * up for it: its line is dead, or it would not be asked for.
   * @param sha256 of the whole object, in hex: what was kept before is checked with it
   * @throws {AppError} wrong_offset when another number of bytes is kept, with that one in `details.offset`; when what was kept is not
   * the beginning of this object (nothing is kept then); from the upload that is given up
   */
  putFrom(
    key: string,
    content: AsyncIterable<Uint8Array>,
    sizeBytes: number,
    offset: number,
    sha256?: string | null,
  ): Promise<{ readonly isNew: boolean }>
}

/** The store in a directory: its contents are files, and the gateway itself serves them. */
export interface DirectoryStore extends BlobStore, Resumable, Unfinished {
  get(key: string, range?: ByteRange): Promise<(StoredObject & { readonly content: Blob }) | null>
}

export interface DownloadGrant {
  readonly key: string
  /** Stored size. */
  readonly sizeBytes: number
  readonly expiresAtMs: number
}

export interface UploadGrant extends DownloadGrant {
  /** Of the stored bytes, in hex. */
  readonly sha256: string
  /** Published by being there: never in parts, which S3 puts together without a condition. */
  readonly isPublication?: boolean
}

/** Makes addresses that allow one thing for a while, without any other proof. */
export interface Presigner {
  download(grant: DownloadGrant): Promise<string>
  /**
   * How each of these is sent: exactly so many bytes under exactly this key. What an upload of it that broke off has left in the store is
   * not sent again.
   */
  uploads(grants: readonly UploadGrant[]): Promise<readonly UploadPlan[]>
}

/** Of stores that keep what came of uploads that broke off. */
export interface Unfinished {
  /**
   * Removes what uploads have left that began before a time and haven't ended. Answers how many.
   * @param prefix `<tenant>/` or `<tenant>/<workspace>/`
   */
  dropUnfinished(prefix: string, beganBeforeMs: number): Promise<number>
}

/** A store, who signs for it, and where its addresses lead. */
export interface OpenStore {
  readonly store: BlobStore & Unfinished
  readonly presigner: Presigner
  /** What every address begins with; null: addresses are paths of the gateway itself. */
  readonly storeUrl: string | null
}

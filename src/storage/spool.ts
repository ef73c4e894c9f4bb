/** Where a host keeps the blobs of a checkpoint while they are made, sent, received and applied: one private folder, one file a blob. */
import type { BlobRef, BlobSink, BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import type { BlobId } from "../protocol/ids.ts"

/** Several may be opened on one folder, in turn. Files are whole: a crash leaves only temporary ones, which the next opening removes. */
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

/** @param folder private, made by the caller */
export async function openSpool(_folder: string): Promise<Spool> {
  throw new AppError("internal", "not written yet")
}

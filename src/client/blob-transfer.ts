/** Moves blobs between a host's spool and the store by signed URLs. Never holds a blob in memory. */
import type { z } from "zod"
import type { BlobRef, BlobSource } from "../protocol/blob.ts"
import { AppError, isRetryable } from "../protocol/errors.ts"
import type { blobPlanAnswerSchema, blobUrlsAnswerSchema } from "../protocol/gateway-api.ts"
import type { BlobId } from "../protocol/ids.ts"
import type { Fetcher, StepListener } from "./http.ts"

/** The part of a host's spool (storage/spool.ts) that a transfer needs. */
export interface TransferSpool {
  /** File of the stored bytes and its size; null when the spool has no such blob. */
  file(id: BlobId): Promise<{ readonly path: string; readonly sizeBytes: number } | null>
  /**
   * Takes the stored bytes of one blob from outside.
   * @throws {AppError} damaged_data naming the blob when size or SHA-256 of the stored bytes differ
   */
  receive(ref: BlobRef, content: AsyncIterable<Uint8Array>): Promise<void>
  /** The blobs of these refs as plain bytes, verified while they are read. */
  source(refs: readonly BlobRef[]): BlobSource
}

export interface Upload {
  readonly plan: z.infer<typeof blobPlanAnswerSchema>
  /** The manifest's bytes; sent last. */
  readonly manifest: Uint8Array
  readonly spool: TransferSpool
  readonly listener: StepListener
  /** Name in progress events. */
  readonly step: string
  readonly signal?: AbortSignal
}

/** Uploads what the plan says is missing, then the manifest. Answers the bytes sent. May be repeated. */
export async function uploadBlobs(_fetcher: Fetcher, _upload: Upload): Promise<number> {
  throw new AppError("internal", "not written yet")
}

export interface Download {
  readonly refs: readonly BlobRef[]
  /** Asked for the URLs of the blobs that the spool lacks. */
  readonly urls: (blobs: readonly BlobId[]) => Promise<z.infer<typeof blobUrlsAnswerSchema>>
  readonly spool: TransferSpool
  readonly listener: StepListener
  readonly step: string
  readonly signal?: AbortSignal
}

/** Downloads into the spool what it lacks. @throws {AppError} damaged_data with `details.blob` when stored bytes are not what the manifest says */
export async function downloadBlobs(
  _fetcher: Fetcher,
  _download: Download,
): Promise<{ readonly source: BlobSource; bytesReceived(): number }> {
  throw new AppError("internal", `not written yet ${isRetryable("unreachable")}`)
}

/** Downloads a manifest's text from its signed URL. */
export async function downloadText(_fetcher: Fetcher, _url: string, _maxBytes: number): Promise<string> {
  throw new AppError("internal", "not written yet")
}

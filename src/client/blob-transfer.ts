/** Moves blobs between a host's spool and the store by signed URLs. Never holds a blob in memory. */
import type { z } from "zod"
import type { BlobRef, BlobSource, UploadPlan } from "../protocol/blob.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { blobPlanAnswerSchema, blobUrlsAnswerSchema } from "../protocol/gateway-api.ts"
import type { BlobId } from "../protocol/ids.ts"
import { retrying, type Attempt } from "./attempts.ts"
import type { BlobFetcher } from "./blob-fetcher.ts"
import { placeOf, readText, type StepListener } from "./http.ts"
import { sendObject } from "./object-upload.ts"
import { progressOf } from "./progress.ts"
import { renewable } from "./renewable.ts"

/** The part of a host's spool (storage/spool.ts) that a transfer needs. */
export interface TransferSpool {
  /** File of the stored bytes and its size; null when the spool has no such blob. */
  file(id: BlobId): Promise<{ readonly path: string; readonly sizeBytes: number } | null>
  /**
   * Takes the stored bytes of one blob from outside.
   * @throws {AppError} damaged_data naming the blob when size or SHA-256 of the stored bytes differ
   */
  receive(ref: BlobRef, content: AsyncIterable<Uint8Array>, offset?: number): Promise<void>
  /** Bytes of a blob whose way here broke off. */
  keptBytes(ref: BlobRef): Promise<number>
  /** The blobs of these refs as plain bytes, verified while they are read. */
  source(refs: readonly BlobRef[]): BlobSource
}

/** Large ones fill the line by themselves; of small ones each takes the line's delay, which several can share. */
const LARGE_BYTES = 256 * 1024
const CONCURRENCY = { small: 8, large: 2 } as const
/** A transfer in which no byte moves for so long has failed. */
const SILENCE_MS = 60_000

export interface Upload {
  /** Asked at first, and again when addresses have expired on the way. */
  readonly plan: () => Promise<z.infer<typeof blobPlanAnswerSchema>>
  /** The manifest's bytes; sent last. */
  readonly manifest: Uint8Array
  readonly spool: TransferSpool
  readonly listener: StepListener
  /** Name in progress events. */
  readonly step: string
  readonly signal?: AbortSignal
}

/**
 * Uploads what the plan says is missing, then the manifest. Answers the bytes sent. May be repeated.
 * @throws {AppError} what the store answers; internal when a planned blob is not in the spool
 */
export async function uploadBlobs(fetcher: BlobFetcher, upload: Upload): Promise<number> {
  const { spool, signal } = upload
  const plans = renewable(upload.plan)
  const { missing } = await plans.now()
  const files = await Promise.all(
    missing.map(async ({ id }) => {
      const file = await spool.file(id)
      if (file === null) throw new AppError("internal", `blob ${id} is to be sent but is not in the spool`)
      return { id, ...file }
    }),
  )
  const total = files.reduce((sum, file) => sum + file.sizeBytes, upload.manifest.byteLength)
  const progress = progressOf(upload.listener, upload.step, total)
  const isSmall = ({ sizeBytes }: { readonly sizeBytes: number }): boolean => sizeBytes < LARGE_BYTES
  await each(files, isSmall, async ({ id, path, sizeBytes }) => {
    const done = progress.part()
    const content = Bun.file(path)
    await plans.using(async (answer) => {
      const plan = uploadsOf(answer).get(id)
      // It is there meanwhile.
      if (plan !== undefined) await sendObject(fetcher, { plan, content, sizeBytes, done, signal })
    })
    done(sizeBytes)
  })
  const content = new Blob([upload.manifest])
  await plans.using(async ({ manifest: plan }) => {
    await sendObject(fetcher, { plan, content, sizeBytes: content.size, done: () => {}, signal })
  })
  progress.part()(content.size)
  return total
}

/** By blob; made once for each answer. */
const uploadsById = new WeakMap<Plan, ReadonlyMap<BlobId, UploadPlan>>()
type Plan = z.infer<typeof blobPlanAnswerSchema>

function uploadsOf(answer: Plan): ReadonlyMap<BlobId, UploadPlan> {
  const known = uploadsById.get(answer) ?? new Map(answer.missing.map(({ id, upload }) => [id, upload]))
  uploadsById.set(answer, known)
  return known
}

export interface Download {
  readonly refs: readonly BlobRef[]
  /** Asked once for the URLs of all blobs that the spool lacks. */
  readonly urls: (blobs: readonly BlobId[]) => Promise<z.infer<typeof blobUrlsAnswerSchema>>
  readonly spool: TransferSpool
  readonly listener: StepListener
  readonly step: string
  readonly signal?: AbortSignal
}

/**
 * Downloads into the spool what it lacks.
 * @throws {AppError} damaged_data with `details.blob` when stored bytes are not what the manifest says, or are missing
 */
export async function downloadBlobs(
  fetcher: BlobFetcher,
  download: Download,
): Promise<{ readonly source: BlobSource; bytesReceived(): number }> {
  const { refs, spool, signal } = download
  const lacking: BlobRef[] = []
  for (const ref of new Map(refs.map((each) => [each.id, each])).values()) {
    if ((await spool.file(ref.id))?.sizeBytes !== ref.storedSize) lacking.push(ref)
  }
  const total = lacking.reduce((sum, ref) => sum + ref.storedSize, 0)
  if (lacking.length > 0) {
    const urls = renewable(async () => {
      const answer = await download.urls(lacking.map((ref) => ref.id))
      return new Map(answer.blobs.map(({ id, url }) => [id, url]))
    })
    const progress = progressOf(download.listener, download.step, total)
    const isSmall = ({ storedSize }: BlobRef): boolean => storedSize < LARGE_BYTES
    await each(lacking, isSmall, async (ref) => {
      const done = progress.part()
      await urls.using(async (known) => {
        const url = known.get(ref.id)
        if (url === undefined) throw missing(ref)
        await retrying(signal, async (attempt) => await getOne(fetcher, { url, ref, spool, done, attempt, signal }))
      })
      done(ref.storedSize)
    })
  }
  return { source: spool.source(refs), bytesReceived: () => total }
}

interface Fetching {
  readonly url: string
  readonly ref: BlobRef
  readonly spool: TransferSpool
  readonly done: (bytes: number) => void
  readonly attempt: Attempt
  readonly signal: AbortSignal | undefined
}

async function getOne(fetcher: BlobFetcher, fetching: Fetching): Promise<void> {
  const { ref, spool } = fetching
  const kept = await spool.keptBytes(ref)
  const offset = kept <= ref.storedSize ? kept : 0
  fetching.attempt.startsAt(offset)
  if (offset === 0) return await getFrom(fetcher, fetching, 0)
  try {
    // All of it is there when the process ended before it was named.
    if (offset === ref.storedSize) await spool.receive(ref, noBytes(), offset)
    else await getFrom(fetcher, fetching, offset)
  } catch (error) {
    // What was kept may have been wrong; from the first byte on it can't be.
    if (toAppError(error).code !== "damaged_data") throw error
    await getFrom(fetcher, fetching, 0)
  }
}

async function getFrom(fetcher: BlobFetcher, fetching: Fetching, offset: number): Promise<void> {
  const { url, ref, spool, done, signal } = fetching
  const response = await get(fetcher, url, signal, offset).catch((error: unknown) => {
    throw toAppError(error).code === "not_found" ? missing(ref) : error
  })
  // Whoever knows no ranges answers all of it.
  const from = response.status === 206 ? offset : 0
  await spool.receive(ref, counted(bodyOf(response, signal), from, done), from)
}

async function* counted(
  content: AsyncIterable<Uint8Array>,
  from: number,
  done: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let bytes = from
  for await (const part of content) {
    yield part
    bytes += part.byteLength
    done(bytes)
  }
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}

/** Answers a successful response; throws the error that was answered otherwise. */
async function get(
  fetcher: BlobFetcher,
  url: string,
  signal: AbortSignal | undefined,
  offset: number,
): Promise<Response> {
  const headers = offset === 0 ? {} : { headers: { range: `bytes=${offset}-` } }
  return await fetcher(url, { method: "GET", ...headers, ...(signal === undefined ? {} : { signal }) })
}

function missing(ref: BlobRef): AppError {
  return new AppError("damaged_data", `blob ${ref.id} is not in the store`, { details: { blob: ref.id } })
}

/** Downloads a manifest's text from its signed URL. @throws {AppError} too_large above `maxBytes` */
export async function downloadText(fetcher: BlobFetcher, url: string, maxBytes: number): Promise<string> {
  return await retrying(undefined, async () => {
    const response = await get(fetcher, url, AbortSignal.timeout(SILENCE_MS * 5), 0)
    return await readText(response, maxBytes, placeOf(url))
  })
}

async function* bodyOf(response: Response, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader()
  if (reader === undefined) return
  try {
    for (;;) {
      const { done, value } = await soon(reader.read())
      if (done) return
      yield value
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    if (signal?.aborted === true) throw new AppError("interrupted", "a transfer was interrupted", { cause: error })
    throw new AppError("unreachable", "a transfer was cut off", { cause: error })
  } finally {
    await reader.cancel().catch(() => {})
  }
}

async function soon<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new AppError("unreachable", "a transfer stands still")), SILENCE_MS)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Small ones first. At most {@link CONCURRENCY} of a kind at a time; the first failure stops the rest. */
async function each<T>(
  items: readonly T[],
  isSmall: (item: T) => boolean,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const large = items.filter((item) => !isSmall(item))
  await sharing(items.filter(isSmall), CONCURRENCY.small, work)
  await sharing(large, CONCURRENCY.large, work)
}

async function sharing<T>(items: readonly T[], workers: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items]
  let hasFailed = false
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined && !hasFailed; item = queue.shift()) {
      try {
        await work(item)
      } catch (error) {
        hasFailed = true
        throw error
      }
    }
  }
  const ended = await Promise.allSettled(Array.from({ length: Math.min(workers, items.length) }, worker))
  for (const end of ended) if (end.status === "rejected") throw end.reason
}

/** Moves blobs between a host's spool and the store by signed URLs. Never holds a blob in memory. */
import { z } from "zod"
import type { BlobRef, BlobSource } from "../protocol/blob.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import {
  ASK_OFFSET,
  DIGEST_HEADER,
  keptAnswerSchema,
  OFFSET_HEADER,
  type blobPlanAnswerSchema,
  type blobUrlsAnswerSchema,
} from "../protocol/gateway-api.ts"
import type { BlobId } from "../protocol/ids.ts"
import { retrying, type Attempt } from "./attempts.ts"
import { parsedAnswer, placeOf, readText, type Fetcher, type StepListener } from "./http.ts"
import { progressOf } from "./progress.ts"

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
/** From so many bytes on, an upload first asks how much of it is there already. */
const ASKED_BYTES = 4 * 1024 * 1024
/** A transfer in which no byte moves for so long has failed. */
const SILENCE_MS = 60_000
/** Of one upload: the other side reads it as fast as its disk is. */
const UPLOAD_MS = 6 * 3_600_000
const nothingSchema = z.object({})

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

/**
 * Uploads what the plan says is missing, then the manifest. Answers the bytes sent. May be repeated.
 * @throws {AppError} what the store answers; internal when a planned blob is not in the spool
 */
export async function uploadBlobs(fetcher: Fetcher, upload: Upload): Promise<number> {
  const { plan, spool, signal } = upload
  const files = await Promise.all(
    plan.missing.map(async ({ id, url }) => {
      const file = await spool.file(id)
      if (file === null) throw new AppError("internal", `blob ${id} is to be sent but is not in the spool`)
      return { url, ...file }
    }),
  )
  const total = files.reduce((sum, file) => sum + file.sizeBytes, upload.manifest.byteLength)
  const progress = progressOf(upload.listener, upload.step, total)
  const isSmall = ({ sizeBytes }: { readonly sizeBytes: number }): boolean => sizeBytes < LARGE_BYTES
  await each(files, isSmall, async ({ url, path, sizeBytes }) => {
    const content = Bun.file(path)
    const done = progress.part()
    let digest: string | null = null
    await retrying(signal, async (attempt) => {
      const isAsked = attempt.wasCut || sizeBytes >= ASKED_BYTES
      const offset = isAsked ? await keptThere(fetcher, url, signal) : 0
      attempt.startsAt(offset)
      done(offset)
      if (offset > 0 && offset < sizeBytes) digest ??= await sha256Of(content)
      if (offset < sizeBytes) await putOne(fetcher, url, content, { offset, sizeBytes, digest }, signal)
    })
    done(sizeBytes)
  })
  const { manifest } = upload
  await retrying(signal, async () => {
    const whole = { offset: 0, sizeBytes: manifest.byteLength, digest: null }
    await putOne(fetcher, plan.manifestUrl, new Blob([manifest]), whole, signal)
  })
  progress.part()(manifest.byteLength)
  return total
}

/** How much of an upload that broke off the store has kept. */
async function keptThere(fetcher: Fetcher, url: string, signal: AbortSignal | undefined): Promise<number> {
  const headers = { [OFFSET_HEADER]: ASK_OFFSET, "content-length": "0" }
  const within = AbortSignal.any([AbortSignal.timeout(SILENCE_MS), ...(signal === undefined ? [] : [signal])])
  const response = await fetcher(pathOnly(url), { method: "PUT", body: "", headers, signal: within })
  return (await parsedAnswer(response, keptAnswerSchema, url, within)).offset
}

interface PartOf {
  readonly offset: number
  readonly sizeBytes: number
  /** SHA-256 of the whole; known when it doesn't begin at the first byte. */
  readonly digest: string | null
}

async function putOne(
  fetcher: Fetcher,
  url: string,
  content: Blob,
  { offset, sizeBytes, digest }: PartOf,
  signal: AbortSignal | undefined,
): Promise<void> {
  const within = AbortSignal.any([AbortSignal.timeout(UPLOAD_MS), ...(signal === undefined ? [] : [signal])])
  const length = { "content-length": String(sizeBytes - offset) }
  const resumed = { [OFFSET_HEADER]: String(offset), ...(digest === null ? {} : { [DIGEST_HEADER]: digest }) }
  const headers = offset === 0 ? length : { ...length, ...resumed }
  const body = offset === 0 ? content : content.slice(offset)
  const response = await fetcher(pathOnly(url), { method: "PUT", body, headers, signal: within })
  await parsedAnswer(response, nothingSchema, url, within)
}

async function sha256Of(content: Blob): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of content.stream()) hash.update(part)
  return hash.digest("hex")
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
  fetcher: Fetcher,
  download: Download,
): Promise<{ readonly source: BlobSource; bytesReceived(): number }> {
  const { refs, spool, signal } = download
  const lacking: BlobRef[] = []
  for (const ref of new Map(refs.map((each) => [each.id, each])).values()) {
    if ((await spool.file(ref.id))?.sizeBytes !== ref.storedSize) lacking.push(ref)
  }
  const total = lacking.reduce((sum, ref) => sum + ref.storedSize, 0)
  if (lacking.length > 0) {
    const answer = await download.urls(lacking.map((ref) => ref.id))
    const urls = new Map(answer.blobs.map(({ id, url }) => [id, url]))
    const progress = progressOf(download.listener, download.step, total)
    const isSmall = ({ storedSize }: BlobRef): boolean => storedSize < LARGE_BYTES
    await each(lacking, isSmall, async (ref) => {
      const url = urls.get(ref.id)
      if (url === undefined) throw missing(ref)
      const done = progress.part()
      await retrying(signal, async (attempt) => await getOne(fetcher, { url, ref, spool, done, attempt, signal }))
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

async function getOne(fetcher: Fetcher, fetching: Fetching): Promise<void> {
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

async function getFrom(fetcher: Fetcher, fetching: Fetching, offset: number): Promise<void> {
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
async function get(fetcher: Fetcher, url: string, signal: AbortSignal | undefined, offset: number): Promise<Response> {
  const headers = offset === 0 ? {} : { headers: { range: `bytes=${offset}-` } }
  const response = await fetcher(pathOnly(url), {
    method: "GET",
    ...headers,
    ...(signal === undefined ? {} : { signal }),
  })
  if (response.ok) return response
  await parsedAnswer(response, nothingSchema, url, signal)
  throw new AppError("internal", `${placeOf(url)}: an answer that is neither content nor an error`)
}

function missing(ref: BlobRef): AppError {
  return new AppError("damaged_data", `blob ${ref.id} is not in the store`, { details: { blob: ref.id } })
}

/** Downloads a manifest's text from its signed URL. @throws {AppError} too_large above `maxBytes` */
export async function downloadText(fetcher: Fetcher, url: string, maxBytes: number): Promise<string> {
  return await retrying(undefined, async () => {
    const response = await get(fetcher, url, AbortSignal.timeout(SILENCE_MS * 5), 0)
    return await readText(response, maxBytes, placeOf(url))
  })
}

/** @throws {AppError} not_allowed: an address is only ever resolved against the gateway that gave it */
function pathOnly(url: string): string {
  if (/^\/blobs\/[^\s]+$/.test(url)) return url
  throw new AppError("not_allowed", "the gateway named an address outside its store")
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

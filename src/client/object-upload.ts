/** One object on its way into the store, as its plan says: whole, from where it broke off, or in parts. */
import { z } from "zod"
import type { UploadPlan } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { ASK_OFFSET, DIGEST_HEADER, keptAnswerSchema, OFFSET_HEADER } from "../protocol/gateway-api.ts"
import { storeError } from "../protocol/store-error.ts"
import { retrying } from "./attempts.ts"
import type { BlobFetcher } from "./blob-fetcher.ts"
import { parsedAnswer, placeOf, readText } from "./http.ts"

export interface ObjectUpload {
  readonly plan: UploadPlan
  readonly content: Blob
  readonly sizeBytes: number
  /** Told how many bytes of it are there. */
  readonly done: (bytes: number) => void
  readonly signal: AbortSignal | undefined
}

/** From so many bytes on, an upload to the gateway first asks how much of it is there already. */
const ASKED_BYTES = 4 * 1024 * 1024
/** Without an answer to the question. */
const SILENCE_MS = 60_000
/** Of one upload, besides what its bytes take at the least rate at which it is waited for. */
const UPLOAD_MS = 120_000
const LEAST_BYTES_PER_MS = 8
const UPLOAD_MAX_MS = 24 * 3_600_000
/** It sends spaces while it puts the parts together. */
const COMPLETED_MAX = 65_536
const nothingSchema = z.object({})

/** @throws {AppError} expired when a new plan is needed; what the store answers */
export async function sendObject(fetcher: BlobFetcher, upload: ObjectUpload): Promise<void> {
  const { plan } = upload
  if ("parts" in plan) await sendParts(fetcher, plan, upload)
  else if (plan.url.startsWith("/")) await sendResumable(fetcher, plan.url, upload)
  else await sendWhole(fetcher, plan, upload)
}

type Whole = Extract<UploadPlan, { url: string }>
type InParts = Extract<UploadPlan, { completeUrl: string }>

async function sendWhole(fetcher: BlobFetcher, { url, headers }: Whole, upload: ObjectUpload): Promise<void> {
  const { content, signal } = upload
  await retrying(signal, async () => {
    await discard(
      await fetcher(url, {
        method: "PUT",
        body: content,
        headers: definedOf(headers),
        signal: uploadSignal(content.size, signal),
      }),
    )
  })
}

async function sendParts(fetcher: BlobFetcher, plan: InParts, upload: ObjectUpload): Promise<void> {
  const { content, done, signal } = upload
  const tags = new Map<number, string>()
  let sent = 0
  for (const part of plan.parts) {
    const body = content.slice(part.start, part.end)
    const kept = await keptTag(part, body)
    tags.set(part.number, kept ?? (await retrying(signal, async () => await sendPart(fetcher, part, body, signal))))
    sent += part.end - part.start
    done(sent)
  }
  await retrying(signal, async () => await complete(fetcher, plan.completeUrl, tags, signal))
}

type Part = InParts["parts"][number]

/**
 * The tag of a part that is there already. Its bytes may be others, of another encoding of the same contents: only a tag that is the MD5
 * of ours is believed (S3: it is, unless the bucket is encrypted with keys of one's own).
 */
async function keptTag({ etag }: Part, body: Blob): Promise<string | null> {
  const md5 = /^"?([0-9a-f]{32})"?$/.exec(etag ?? "")?.[1]
  return md5 === undefined || md5 !== (await digestOf(body, "md5")) ? null : etag
}

async function sendPart(
  fetcher: BlobFetcher,
  { number, url }: Part,
  body: Blob,
  signal: AbortSignal | undefined,
): Promise<string> {
  const response = await fetcher(url, { method: "PUT", body, signal: uploadSignal(body.size, signal) })
  const etag = response.headers.get("etag")
  await discard(response)
  if (etag === null) throw new AppError("internal", `the store gave part ${number} of ${placeOf(url)} no tag`)
  return etag
}

async function complete(
  fetcher: BlobFetcher,
  url: string,
  tags: ReadonlyMap<number, string>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const parts = [...tags]
    .toSorted(([one], [other]) => one - other)
    .map(([number, etag]) => `<Part><PartNumber>${number}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`)
  const body = `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`
  const response = await fetcher(url, { method: "POST", body, signal: uploadSignal(0, signal) })
  // S3 may answer 200 before it knows, and then say in the body that it failed.
  const text = await readText(response, COMPLETED_MAX, placeOf(url))
  if (text.includes("<Error>")) throw storeError(500, text, `POST ${placeOf(url)}`, "unreachable")
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
}

/** To the gateway, which keeps what came of an upload that broke off. */
async function sendResumable(fetcher: BlobFetcher, url: string, upload: ObjectUpload): Promise<void> {
  const { content, sizeBytes, done, signal } = upload
  let digest: string | null = null
  await retrying(signal, async (attempt) => {
    const isAsked = attempt.wasCut || sizeBytes >= ASKED_BYTES
    const offset = isAsked ? await keptThere(fetcher, url, signal) : 0
    attempt.startsAt(offset)
    done(offset)
    if (offset > 0 && offset < sizeBytes) digest ??= await digestOf(content, "sha256")
    if (offset < sizeBytes) await putFrom(fetcher, url, content, { offset, sizeBytes, digest }, signal)
  })
}

/** How much of an upload that broke off the store has kept. */
async function keptThere(fetcher: BlobFetcher, url: string, signal: AbortSignal | undefined): Promise<number> {
  const headers = { [OFFSET_HEADER]: ASK_OFFSET, "content-length": "0" }
  const within = AbortSignal.any([AbortSignal.timeout(SILENCE_MS), ...(signal === undefined ? [] : [signal])])
  const response = await fetcher(url, { method: "PUT", body: "", headers, signal: within })
  return (await parsedAnswer(response, keptAnswerSchema, url, within)).offset
}

interface PartOf {
  readonly offset: number
  readonly sizeBytes: number
  /** SHA-256 of the whole; known when it doesn't begin at the first byte. */
  readonly digest: string | null
}

async function putFrom(
  fetcher: BlobFetcher,
  url: string,
  content: Blob,
  { offset, sizeBytes, digest }: PartOf,
  signal: AbortSignal | undefined,
): Promise<void> {
  const within = uploadSignal(sizeBytes - offset, signal)
  const length = { "content-length": String(sizeBytes - offset) }
  const resumed = { [OFFSET_HEADER]: String(offset), ...(digest === null ? {} : { [DIGEST_HEADER]: digest }) }
  const headers = offset === 0 ? length : { ...length, ...resumed }
  const body = offset === 0 ? content : content.slice(offset)
  await parsedAnswer(await fetcher(url, { method: "PUT", body, headers, signal: within }), nothingSchema, url, within)
}

/** In hex. */
async function digestOf(content: Blob, algorithm: "sha256" | "md5"): Promise<string> {
  const hash = new Bun.CryptoHasher(algorithm)
  for await (const part of content.stream()) hash.update(part)
  return hash.digest("hex")
}

function uploadSignal(sizeBytes: number, signal: AbortSignal | undefined): AbortSignal {
  const limit = AbortSignal.timeout(Math.min(UPLOAD_MAX_MS, UPLOAD_MS + Math.ceil(sizeBytes / LEAST_BYTES_PER_MS)))
  return AbortSignal.any([limit, ...(signal === undefined ? [] : [signal])])
}

async function discard(response: Response): Promise<void> {
  await response.body?.cancel()
}

function definedOf(headers: Whole["headers"]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

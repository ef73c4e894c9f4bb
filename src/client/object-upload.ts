/** One object on its way into the store, as its plan says: whole, from where it broke off, or in parts. */
import { z } from "zod"
import type { UploadPlan } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { ASK_OFFSET, DIGEST_HEADER, keptAnswerSchema, OFFSET_HEADER } from "../protocol/gateway-api.ts"
import { storeError } from "../protocol/store-error.ts"
import { retrying } from "./attempts.ts"
import type { BlobFetcher } from "./blob-fetcher.ts"
import { parsedAnswer, placeOf } from "./http.ts"

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
/** Of one upload: the other side reads it as fast as its disk is. */
const UPLOAD_MS = 6 * 3_600_000
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
      await fetcher(url, { method: "PUT", body: content, headers: definedOf(headers), signal: uploadSignal(signal) }),
    )
  })
}

async function sendParts(fetcher: BlobFetcher, plan: InParts, upload: ObjectUpload): Promise<void> {
  const { content, done, signal } = upload
  const tags = new Map(plan.kept.map(({ number, etag }) => [number, etag]))
  let sent = plan.kept.reduce((sum, { bytes }) => sum + bytes, 0)
  done(sent)
  for (const { number, start, end, url } of plan.parts) {
    await retrying(signal, async (attempt) => {
      attempt.startsAt(sent)
      const body = content.slice(start, end)
      const response = await fetcher(url, { method: "PUT", body, signal: uploadSignal(signal) })
      const etag = response.headers.get("etag")
      await discard(response)
      if (etag === null) throw new AppError("internal", `the store gave part ${number} of ${placeOf(url)} no tag`)
      tags.set(number, etag)
    })
    sent += end - start
    done(sent)
  }
  await retrying(signal, async () => await complete(fetcher, plan.completeUrl, tags, signal))
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
  const response = await fetcher(url, { method: "POST", body, signal: uploadSignal(signal) })
  // S3 may answer 200 before it knows, and then say in the body that it failed.
  const text = (await response.text()).slice(0, 4096)
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
    if (offset > 0 && offset < sizeBytes) digest ??= await sha256Of(content)
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
  const within = uploadSignal(signal)
  const length = { "content-length": String(sizeBytes - offset) }
  const resumed = { [OFFSET_HEADER]: String(offset), ...(digest === null ? {} : { [DIGEST_HEADER]: digest }) }
  const headers = offset === 0 ? length : { ...length, ...resumed }
  const body = offset === 0 ? content : content.slice(offset)
  await parsedAnswer(await fetcher(url, { method: "PUT", body, headers, signal: within }), nothingSchema, url, within)
}

async function sha256Of(content: Blob): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256")
  for await (const part of content.stream()) hash.update(part)
  return hash.digest("hex")
}

function uploadSignal(signal: AbortSignal | undefined): AbortSignal {
  return AbortSignal.any([AbortSignal.timeout(UPLOAD_MS), ...(signal === undefined ? [] : [signal])])
}

async function discard(response: Response): Promise<void> {
  await response.body?.cancel()
}

function definedOf(headers: Whole["headers"]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
}

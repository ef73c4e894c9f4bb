/** The blob store on an S3 server. Contents of checkpoints go there directly (s3-presigner.ts); what passes here is small. */
import { z } from "zod"
import { AppError } from "../protocol/errors.ts"
import type { BlobStore, ByteRange, StoredObject, Unfinished } from "./blob-store.ts"
import { checkedKey, checkedOwnerPrefix, checkedPrefix } from "./keys.ts"
import { s3Document, s3Error, type S3Client } from "./s3-client.ts"

const listingSchema = z.object({
  ListBucketResult: z.object({
    Contents: z.array(z.object({ Key: z.string(), Size: z.coerce.number().int() })).default([]),
    IsTruncated: z.string().optional(),
    NextContinuationToken: z.coerce.string().optional(),
  }),
})

export function s3Store(client: S3Client): BlobStore & Unfinished {
  const open = async (key: string, range?: ByteRange): Promise<StoredObject | null> => {
    const asked = range === undefined ? {} : { range: `bytes=${range.start}-${range.end - 1}` }
    const answer = await client.send({ method: "GET", key: checkedKey(key), headers: asked, expected: [404, 416] })
    if (answer.status === 404) return await nothing(answer, `GET ${key}`)
    if (answer.status !== 416) return { sizeBytes: wholeSize(answer, key), content: contentOf(answer) }
    // Nothing of it lies in the range; an empty object has none at all.
    await answer.body?.cancel()
    return { sizeBytes: wholeSize(answer, key), content: new Blob([]) }
  }
  // Not by HEAD: what that answers does not say whether it is the key or the bucket that is not there.
  const head: BlobStore["head"] = async (key) => {
    const found = await open(key, { start: 0, end: 1 })
    await found?.content.stream().cancel()
    return found === null ? null : { sizeBytes: found.sizeBytes }
  }
  return {
    head,
    async put(key, content, sizeBytes) {
      checkedKey(key)
      for (let tries = 1; ; tries += 1) {
        const known = tries === 1 ? null : await head(key)
        if (known?.sizeBytes === sizeBytes) return { isNew: false }
        if (known !== null) {
          throw new AppError("name_taken", `${key} is in the store with ${known.sizeBytes} bytes, not ${sizeBytes}`)
        }
        const isNew = await putOnce(client, key, content, sizeBytes)
        if (isNew) return { isNew: true }
        // It was there, or somebody wrote it at the same time (AWS: 409): the next look says which. The content has been read by now.
        if (tries > 1) throw new AppError("busy", `${key} is being written by others again and again`)
      }
    },
    get: open,
    list: async (prefix) => await list(client, checkedPrefix(prefix)),
    dropUnfinished: async (prefix, beganBeforeMs) =>
      await dropUnfinished(client, checkedOwnerPrefix(prefix), beganBeforeMs),
    async delete(key) {
      const answer = await client.send({
        method: "DELETE",
        key: checkedKey(key),
        expected: [404],
        timeoutMs: DELETE_MS,
      })
      if (answer.status === 404) await nothing(answer, `DELETE ${key}`)
      else await answer.body?.cancel()
    },
  }
}

/** Answers whether it was written; false: the name was taken. */
async function putOnce(
  client: S3Client,
  key: string,
  content: AsyncIterable<Uint8Array>,
  sizeBytes: number,
): Promise<boolean> {
  // Whole in memory: a server takes nothing of which it does not know the length, and a failed try is repeated. Owner objects only.
  const body = await bytesOf(key, content, sizeBytes)
  const headers = { "if-none-match": "*", "content-type": "application/octet-stream" }
  const answer = await client.send({ method: "PUT", key, headers, body, expected: [409, 412] })
  const isWritten = answer.ok
  await answer.body?.cancel()
  return isWritten
}

/** @throws {AppError} invalid_request when there are more bytes, or fewer, than announced; too_large */
async function bytesOf(key: string, content: AsyncIterable<Uint8Array>, sizeBytes: number): Promise<Uint8Array> {
  if (sizeBytes > PUT_MAX_BYTES) {
    throw new AppError(
      "too_large",
      `${key}: contents of ${sizeBytes} bytes go to the store directly, not through the gateway`,
    )
  }
  const body = new Uint8Array(sizeBytes)
  let filled = 0
  for await (const part of content) {
    if (filled + part.byteLength > sizeBytes) {
      throw new AppError("invalid_request", `${key}: more than the announced ${sizeBytes} bytes arrived`)
    }
    body.set(part, filled)
    filled += part.byteLength
  }
  if (filled !== sizeBytes) {
    throw new AppError("invalid_request", `${key}: ${filled} of the announced ${sizeBytes} bytes arrived`)
  }
  return body
}

/** With all its tries a removal ends within the lease of the sweep that asks for it (gateway/garbage.ts). */
const DELETE_MS = 15_000

/** What the gateway itself writes is far smaller. */
const PUT_MAX_BYTES = 1024 * 1024

/** A key that is not there is nothing; a bucket that is not there is a failure. */
async function nothing(answer: Response, what: string): Promise<null> {
  const failure = await s3Error(answer, what)
  if (failure.details?.["storeCode"] === "NoSuchBucket") throw failure
  return null
}

function contentOf(answer: Response): StoredObject["content"] {
  return {
    text: async () => await answer.text(),
    stream: () => answer.body ?? new Blob([]).stream(),
  }
}

/** Of the whole object: `bytes 0-0/42`, or none for an empty one; without a range the length. */
function wholeSize(answer: Response, key: string): number {
  const ranged = /^bytes (?:\d+-\d+|\*)\/(\d{1,15})$/.exec(answer.headers.get("content-range") ?? "")?.[1]
  const text = ranged ?? (answer.status === 416 ? "0" : (answer.headers.get("content-length") ?? ""))
  if (!/^\d{1,15}$/.test(text)) throw new AppError("internal", `S3 says no size of ${key}`)
  return Number(text)
}

/** One request for each thousand objects. */
async function list(client: S3Client, prefix: string): Promise<Map<string, number>> {
  const found = new Map<string, number>()
  let token: string | undefined
  do {
    const from: Record<string, string> = token === undefined ? {} : { "continuation-token": token }
    const answer = await client.send({ method: "GET", key: "", query: { "list-type": "2", prefix, ...from } })
    const parsed = listingSchema.safeParse(s3Document(await answer.text()))
    if (!parsed.success)
      throw new AppError("internal", "S3 answered a listing that can't be read", { cause: parsed.error })
    const { Contents, IsTruncated, NextContinuationToken } = parsed.data.ListBucketResult
    for (const { Key, Size } of Contents) found.set(Key, Size)
    token = IsTruncated === "true" ? NextContinuationToken : undefined
  } while (token !== undefined)
  return found
}

const uploadsSchema = z.object({
  ListMultipartUploadsResult: z.object({
    Upload: z.array(z.object({ Key: z.string(), UploadId: z.string(), Initiated: z.string() })).default([]),
    IsTruncated: z.string().optional(),
    NextKeyMarker: z.string().optional(),
    NextUploadIdMarker: z.string().optional(),
  }),
})

/** Uploads in parts are no objects: no listing shows them, and they are paid for until they are given up. */
async function dropUnfinished(client: S3Client, prefix: string, beganBeforeMs: number): Promise<number> {
  let dropped = 0
  let marker: Record<string, string> | null = {}
  while (marker !== null) {
    const answer = await client.send({ method: "GET", key: "", query: { uploads: "", prefix, ...marker } })
    const parsed = uploadsSchema.safeParse(s3Document(await answer.text()))
    if (!parsed.success) throw new AppError("internal", "S3 answered a list of uploads that can't be read")
    const found = parsed.data.ListMultipartUploadsResult
    for (const { Key: key, UploadId: uploadId } of found.Upload.filter((each) => beganBefore(each, beganBeforeMs))) {
      const request = { method: "DELETE", key: checkedKey(key), query: { uploadId }, expected: [404] } as const
      await (await client.send(request)).body?.cancel()
      dropped += 1
    }
    const { IsTruncated, NextKeyMarker = "", NextUploadIdMarker = "" } = found
    marker = IsTruncated === "true" ? { "key-marker": NextKeyMarker, "upload-id-marker": NextUploadIdMarker } : null
  }
  return dropped
}

function beganBefore({ Initiated }: { readonly Initiated: string }, ms: number): boolean {
  return Date.parse(Initiated) < ms
}

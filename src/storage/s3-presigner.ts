/** Addresses by which hosts send contents to an S3 server, and fetch them, without the gateway. */
import { z } from "zod"
import type { UploadPlan } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import type { Presigner, UploadGrant } from "./blob-store.ts"
import { checkedKey } from "./keys.ts"
import { s3Document, type S3Client } from "./s3-client.ts"

const MIB = 1024 * 1024
/** From so many bytes on, an object is sent in parts: what broke off goes on at the part where it stopped. */
export const PARTS_FROM_BYTES = 16 * MIB
const PART_BYTES = 8 * MIB
/** S3 allows so many. */
const PARTS_MAX = 10_000

export function s3Presigner(client: S3Client): Presigner {
  // The date in a signature is of this machine's own clock, whatever the gateway believes it to be.
  const secondsTo = (expiresAtMs: number): number => (expiresAtMs - Date.now()) / 1000
  return {
    download: async ({ key, expiresAtMs }) => await client.presign("GET", checkedKey(key), secondsTo(expiresAtMs)),
    async uploads(grants) {
      const large = grants.filter(isSentInParts)
      const unfinished = large.length === 0 ? new Map<string, string>() : await unfinishedUploads(client, large)
      const plans: UploadPlan[] = []
      for (const grant of grants) {
        const { key, sizeBytes, sha256, expiresAtMs } = grant
        if (isSentInParts(grant)) {
          plans.push(await inParts(client, grant, secondsTo(expiresAtMs), unfinished.get(key)))
          continue
        }
        const headers = { "x-amz-content-sha256": sha256, "if-none-match": "*" } as const
        const length = { "content-length": String(sizeBytes) }
        const url = await client.presign("PUT", checkedKey(key), secondsTo(expiresAtMs), {
          headers: { ...headers, ...length },
        })
        plans.push({ url, headers })
      }
      return plans
    },
  }
}

function isSentInParts({ sizeBytes, isPublication }: UploadGrant): boolean {
  return sizeBytes >= PARTS_FROM_BYTES && isPublication !== true
}

const uploadsSchema = z.object({
  ListMultipartUploadsResult: z.object({
    Upload: z.array(z.object({ Key: z.string(), UploadId: z.string() })).default([]),
  }),
})

/** The newest of each key. One listing: all of them lie below one prefix. */
async function unfinishedUploads(client: S3Client, grants: readonly UploadGrant[]): Promise<Map<string, string>> {
  const [first] = grants
  const prefix = first === undefined ? "" : checkedKey(first.key).split("/").slice(0, -1).join("/")
  const answer = await client.send({ method: "GET", key: "", query: { uploads: "", prefix: `${prefix}/` } })
  const parsed = uploadsSchema.safeParse(s3Document(await answer.text()))
  if (!parsed.success) throw unreadable("a list of uploads", parsed.error)
  return new Map(parsed.data.ListMultipartUploadsResult.Upload.map(({ Key, UploadId }) => [Key, UploadId]))
}

async function inParts(
  client: S3Client,
  { key, sizeBytes }: UploadGrant,
  expiresInS: number,
  unfinished: string | undefined,
): Promise<UploadPlan> {
  const found = unfinished === undefined ? null : await keptParts(client, key, unfinished)
  const uploadId = found === null ? await begin(client, key) : (unfinished ?? "")
  const partBytes = Math.max(PART_BYTES, Math.ceil(sizeBytes / PARTS_MAX / MIB) * MIB)
  const parts: Extract<UploadPlan, { completeUrl: string }>["parts"] = []
  for (let number = 1, start = 0; start < sizeBytes; number += 1, start += partBytes) {
    const end = Math.min(sizeBytes, start + partBytes)
    const known = found?.get(number)
    const etag = known?.bytes === end - start ? known.etag : null
    const headers = { "content-length": String(end - start) }
    const query = { partNumber: String(number), uploadId }
    parts.push({
      number,
      start,
      end,
      etag,
      url: await client.presign("PUT", checkedKey(key), expiresInS, { headers, query }),
    })
  }
  return {
    parts,
    completeUrl: await client.presign("POST", checkedKey(key), expiresInS, { query: { uploadId } }),
  }
}

const begunSchema = z.object({ InitiateMultipartUploadResult: z.object({ UploadId: z.string().min(1) }) })

async function begin(client: S3Client, key: string): Promise<string> {
  const answer = await client.send({ method: "POST", key: checkedKey(key), query: { uploads: "" } })
  const parsed = begunSchema.safeParse(s3Document(await answer.text()))
  if (!parsed.success) throw unreadable("the beginning of an upload", parsed.error)
  return parsed.data.InitiateMultipartUploadResult.UploadId
}

const partsSchema = z.object({
  ListPartsResult: z.object({
    Part: z
      .array(z.object({ PartNumber: z.coerce.number().int(), Size: z.coerce.number().int(), ETag: z.string() }))
      .default([]),
    IsTruncated: z.string().optional(),
    NextPartNumberMarker: z.string().optional(),
  }),
})

/** What an upload has left; null when it is no more. One request for each thousand parts. */
async function keptParts(
  client: S3Client,
  key: string,
  uploadId: string,
): Promise<Map<number, { readonly bytes: number; readonly etag: string }> | null> {
  const found = new Map<number, { bytes: number; etag: string }>()
  let marker: string | undefined
  do {
    const from: Record<string, string> = marker === undefined ? {} : { "part-number-marker": marker }
    const answer = await client.send({ method: "GET", key, query: { uploadId, ...from }, expected: [404] })
    if (answer.status === 404) return null
    const parsed = partsSchema.safeParse(s3Document(await answer.text()))
    if (!parsed.success) throw unreadable("a list of parts", parsed.error)
    const { Part, IsTruncated, NextPartNumberMarker } = parsed.data.ListPartsResult
    for (const { PartNumber, Size, ETag } of Part) found.set(PartNumber, { bytes: Size, etag: ETag })
    marker = IsTruncated === "true" ? NextPartNumberMarker : undefined
  } while (marker !== undefined)
  return found
}

function unreadable(what: string, cause: unknown): AppError {
  return new AppError("internal", `S3 answered ${what} that can't be read`, { cause })
}

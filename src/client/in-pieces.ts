/** Questions about the blobs of a large checkpoint, in pieces of which the answers fit (JSON_MAX_BYTES): an address has up to 700 bytes. */
import type { z } from "zod"
import type {
  blobPlanAnswerSchema,
  blobPlanRequestSchema,
  blobUrlsAnswerSchema,
  blobUrlsRequestSchema,
} from "../protocol/gateway-api.ts"

const ADDRESSES_AT_ONCE = 5000
/** A larger blob has an address for each part of it (storage/s3-presigner.ts), and one more. */
const PART_BYTES = 8 * 1024 * 1024

type PlanRequest = z.input<typeof blobPlanRequestSchema>
type PlanAnswer = z.infer<typeof blobPlanAnswerSchema>
type UrlsRequest = z.input<typeof blobUrlsRequestSchema>
type UrlsAnswer = z.infer<typeof blobUrlsAnswerSchema>

/** One question, or as many as are needed, one after the other. */
export async function planInPieces(
  request: PlanRequest,
  ask: (piece: PlanRequest) => Promise<PlanAnswer>,
): Promise<PlanAnswer> {
  const [first = [], ...rest] = pieces(request.blobs, ({ storedSize }) => 1 + Math.floor(storedSize / PART_BYTES))
  let answer = await ask({ ...request, blobs: first })
  for (const blobs of rest) {
    const next = await ask({ ...request, blobs })
    answer = { missing: [...answer.missing, ...next.missing], manifest: next.manifest }
  }
  return answer
}

/** As {@link planInPieces}. */
export async function urlsInPieces(
  request: UrlsRequest,
  ask: (piece: UrlsRequest) => Promise<UrlsAnswer>,
): Promise<UrlsAnswer> {
  const [first = [], ...rest] = pieces(request.blobs, () => 1)
  let answer = await ask({ ...request, blobs: first })
  for (const blobs of rest) {
    const next = await ask({ ...request, blobs })
    answer = { ...answer, blobs: [...answer.blobs, ...next.blobs] }
  }
  return answer
}

function pieces<T>(items: readonly T[], addressesOf: (item: T) => number): T[][] {
  const all: T[][] = []
  let left = 0
  for (const item of items) {
    const addresses = addressesOf(item)
    if (addresses > left) {
      all.push([])
      left = ADDRESSES_AT_ONCE
    }
    all.at(-1)?.push(item)
    left -= addresses
  }
  return all
}

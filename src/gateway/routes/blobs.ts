/** `/blobs/*`: contents by signed address. The address is the permission. */
import type { Hono } from "hono"
import { AppError } from "../../protocol/errors.ts"
import { ASK_OFFSET, DIGEST_HEADER, OFFSET_HEADER } from "../../protocol/gateway-api.ts"
import type { ByteRange, DirectoryStore } from "../../storage/blob-store.ts"
import { checkSignedUrl, type UrlGrant } from "../../storage/signed-url.ts"
import { notFound } from "../refusals.ts"

/** Of a store in a directory: another one serves its contents itself. */
export interface ServedDirectory {
  readonly store: DirectoryStore
  /** What its addresses are signed with. */
  readonly signingKey: Uint8Array
}

export function mountBlobs(app: Hono, { store, signingKey }: ServedDirectory, nowMs: () => number): void {
  app.put("/blobs/*", async (context) => {
    const grant = checkSignedUrl(signingKey, context.req.raw, nowMs())
    const said = context.req.header(OFFSET_HEADER)
    if (said === ASK_OFFSET) return context.json({ offset: await store.keptBytes(grant.key, grant.sizeBytes) })
    const offset = offsetOf(said, grant)
    const announced = context.req.header("content-length")
    if (announced !== undefined && Number(announced) !== grant.sizeBytes - offset) {
      const allowed = `${grant.sizeBytes - offset} allowed from byte ${offset} on`
      throw new AppError("invalid_request", `${grant.key}: ${announced} bytes announced, ${allowed}`)
    }
    const sha256 = digestOf(context.req.header(DIGEST_HEADER), grant)
    await store.putFrom(grant.key, context.req.raw.body ?? noBytes(), grant.sizeBytes, offset, sha256)
    return context.json({})
  })
  app.get("/blobs/*", async (context) => {
    const grant = checkSignedUrl(signingKey, context.req.raw, nowMs())
    const range = rangeOf(context.req.header("range"), grant.sizeBytes)
    const found = await store.get(grant.key, range ?? undefined)
    if (found === null) throw notFound()
    return contentResponse(found, range)
  })
}

function offsetOf(header: string | undefined, { key, sizeBytes }: UrlGrant): number {
  if (header === undefined) return 0
  const offset = /^\d{1,15}$/.test(header) ? Number(header) : Number.NaN
  if (offset < sizeBytes) return offset
  throw new AppError("invalid_request", `${key}: an upload of ${sizeBytes} bytes can't begin at ${header.slice(0, 20)}`)
}

function digestOf(header: string | undefined, { key }: UrlGrant): string | null {
  if (header === undefined || /^[0-9a-f]{64}$/.test(header)) return header ?? null
  throw new AppError("invalid_request", `${key}: the digest of the upload is none`)
}

function contentResponse(found: { sizeBytes: number; content: Blob }, range: ByteRange | null): Response {
  const headers: Record<string, string> = { "content-type": "application/octet-stream", "accept-ranges": "bytes" }
  if (range === null) return new Response(found.content, { headers })
  headers["content-range"] = `bytes ${range.start}-${range.end - 1}/${found.sizeBytes}`
  return new Response(found.content, { headers, status: 206 })
}

/** `bytes=a-b` or `bytes=a-` (RFC 9110, 14.2); another form is ignored, as the RFC allows. */
function rangeOf(header: string | undefined, sizeBytes: number): ByteRange | null {
  const match = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(header ?? "")
  if (match === null) return null
  const start = Number(match[1])
  const end = match[2] === "" ? sizeBytes : Math.min(sizeBytes, Number(match[2]) + 1)
  if (start >= end) throw new AppError("invalid_request", `no such range in ${sizeBytes} bytes`)
  return { start, end }
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}

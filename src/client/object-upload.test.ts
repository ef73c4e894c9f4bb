/** What a real S3 server (src/gateway/s3-transfers.service.test.ts) answers too rarely to wait for. */
import { afterAll, beforeEach, expect, test } from "bun:test"
import type { UploadPlan } from "../protocol/blob.ts"
import { blobFetcher } from "./blob-fetcher.ts"
import { sendObject } from "./object-upload.ts"

const seen: string[] = []
let answers: (request: Request, at: number) => Response = () => new Response("")
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url)
    seen.push(`${request.method} ${pathname} ${(await request.bytes()).byteLength}`)
    return answers(request, seen.length)
  },
})
const at = `http://127.0.0.1:${server.port}/bucket`
const fetcher = blobFetcher(async () => new Response(null, { status: 500 }), at)
const content = new Blob(["0123456789"])
const md5 = (text: string): string => new Bun.CryptoHasher("md5").update(text).digest("hex")
const tagged = (): Response => new Response("", { headers: { etag: '"t"' } })

beforeEach(() => {
  seen.length = 0
})
afterAll(async () => await server.stop(true))

function parts(etags: readonly (string | null)[]): UploadPlan {
  return {
    parts: [
      { number: 1, start: 0, end: 4, url: `${at}/p1`, etag: etags[0] ?? null },
      { number: 2, start: 4, end: 8, url: `${at}/p2`, etag: etags[1] ?? null },
      { number: 3, start: 8, end: 10, url: `${at}/p3`, etag: etags[2] ?? null },
    ],
    completeUrl: `${at}/done`,
  }
}

const send = async (plan: UploadPlan, done: (bytes: number) => void = () => {}): Promise<void> =>
  await sendObject(fetcher, { plan, content, sizeBytes: 10, done, signal: undefined })

test("parts that are there with our bytes are not sent; others, of any other tag, are", async () => {
  answers = tagged
  const done: number[] = []
  await send(parts([`"${md5("0123")}"`, `"${md5("other")}"`, '"no-md5-1"']), (bytes) => done.push(bytes))
  expect(seen.slice(0, 2)).toEqual(["PUT /bucket/p2 4", "PUT /bucket/p3 2"])
  expect(seen[2]).toStartWith("POST /bucket/done")
  expect(done).toEqual([4, 8, 10])
})

test("an end that fails in a successful answer is tried again", async () => {
  answers = (_, count) => (count === 4 ? new Response("  <Error><Code>InternalError</Code></Error>") : tagged())
  await send(parts([]))
  expect(seen.map((line) => line.split(" ")[1])).toEqual([
    "/bucket/p1",
    "/bucket/p2",
    "/bucket/p3",
    "/bucket/done",
    "/bucket/done",
  ])
})

test("an upload that was ended or given up meanwhile needs a new plan", async () => {
  answers = (request) =>
    request.method === "POST" ? new Response("<Error><Code>NoSuchUpload</Code></Error>", { status: 404 }) : tagged()
  await expect(send(parts([]))).rejects.toMatchObject({ code: "expired" })
})

test("a part without a tag is an error, and ends no upload", async () => {
  answers = () => new Response("")
  await expect(send(parts([]))).rejects.toMatchObject({ code: "internal", message: expect.stringContaining("no tag") })
  expect(seen.some((line) => line.startsWith("POST"))).toBe(false)
})

test("a store that is overwhelmed for a moment is tried again", async () => {
  answers = (_, count) =>
    count === 1 ? new Response("<Error><Code>SlowDown</Code></Error>", { status: 503 }) : new Response("")
  await send({ url: `${at}/one`, headers: { "if-none-match": "*" } })
  expect(seen).toEqual(["PUT /bucket/one 10", "PUT /bucket/one 10"])
})

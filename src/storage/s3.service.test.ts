/** The store on a real S3 server, and what the addresses allow that it makes. */
import { afterAll, describe, expect, test } from "bun:test"
import { createHash, randomBytes } from "node:crypto"
import { hasS3, startS3, startS3Line, type S3Server } from "../../test/support/s3.ts"
import { blobIdSchema, newWorkspaceId, tenantIdSchema } from "../protocol/ids.ts"
import type { UploadPlan } from "../protocol/blob.ts"
import { blobStoreContract } from "./blob-store.contract.ts"
import type { BlobStore, Presigner } from "./blob-store.ts"
import { blobKey, blobPrefix, manifestKey, ownerKey } from "./keys.ts"
import { openStore } from "./open-store.ts"
import type { S3Settings } from "./s3-client.ts"

const MIB = 1024 * 1024
const server: S3Server | null = hasS3() ? await startS3() : null
const settings: S3Settings | null = server === null ? null : await server.bucket()
afterAll(async () => await server?.[Symbol.asyncDispose]())

const tenant = tenantIdSchema.parse("local")
const newKey = (workspace = newWorkspaceId()): string =>
  blobKey(tenant, workspace, blobIdSchema.parse(randomBytes(32).toString("hex")))
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")
const inAnHour = (): number => Date.now() + 3_600_000

async function* parts(...all: string[]): AsyncGenerator<Uint8Array> {
  for (const each of all) yield new TextEncoder().encode(each)
}

async function opened(change: Partial<S3Settings> = {}) {
  if (settings === null) throw new Error("no S3 server")
  return await openStore({ s3: { ...settings, ...change } })
}

async function planned(presigner: Presigner, key: string, bytes: Uint8Array, expiresAtMs = inAnHour()) {
  const [plan] = await presigner.uploads([{ key, sizeBytes: bytes.byteLength, sha256: sha256(bytes), expiresAtMs }])
  if (plan === undefined) throw new Error("no plan")
  return plan
}

function inOne(plan: UploadPlan) {
  if (!("url" in plan)) throw new Error("planned in parts")
  return plan
}
function inParts(plan: UploadPlan) {
  if ("url" in plan) throw new Error("planned in one piece")
  return plan
}

const put = async (url: string, body: Uint8Array | ReadableStream<Uint8Array>, headers: Record<string, string> = {}) =>
  await fetch(url, { method: "PUT", body, headers })

/** The server's own code of a refusal. */
const codeOf = async (answer: Response): Promise<string> =>
  /<Code>(.*?)<\/Code>/.exec(await answer.text())?.[1] ?? String(answer.status)

describe.skipIf(server === null)("on a real S3 server", () => {
  blobStoreContract("the S3 store", async () => (await opened()).store)

  test("a listing of more objects than fit one answer is whole", async () => {
    const { store } = await opened()
    const workspace = newWorkspaceId()
    const prefix = `${tenant}/${workspace}/owners/`
    const keys = Array.from({ length: 1003 }, (_, at) => ownerKey(tenant, workspace, 1, at + 1))
    for (let at = 0; at < keys.length; at += 50) {
      await Promise.all(keys.slice(at, at + 50).map(async (key) => await store.put(key, parts("x"), 1)))
    }
    expect(new Set((await store.list(prefix)).keys())).toEqual(new Set(keys))
  }, 60_000)

  test("the bucket of nobody is a failure with the server's own code, not an empty store", async () => {
    const { store } = await opened({ bucket: "not-there-at-all" })
    for (const work of failures(store)) {
      await expect(work()).rejects.toMatchObject({
        code: "not_allowed",
        message: expect.stringContaining("NoSuchBucket"),
      })
    }
  })

  test("wrong keys are a failure with the server's own code and no secret in it", async () => {
    const { store } = await opened({ secretAccessKey: "the-wrong-secret" })
    for (const work of failures(store)) {
      const failure = await work().then(
        () => null,
        (error: unknown) => error,
      )
      expect(failure).toMatchObject({ code: "not_allowed", message: expect.stringContaining("SignatureDoesNotMatch") })
      expect(String(failure)).not.toContain("the-wrong-secret")
    }
  })

  test("a server that is not there is unreachable", async () => {
    const { store } = await opened({ endpoint: "http://127.0.0.1:9" })
    await expect(store.get(newKey())).rejects.toMatchObject({ code: "unreachable" })
  }, 20_000)

  test("an address for an upload takes these bytes under this key and nothing else", async () => {
    const { store, presigner, storeUrl } = await opened()
    const bytes = randomBytes(1000)
    const key = newKey()
    const { url, headers } = inOne(await planned(presigner, key, bytes))
    expect(url.startsWith(`${storeUrl}/${key}?`)).toBe(true)
    const sent = headers as Record<string, string>
    const digest = { ...sent, "x-amz-content-sha256": sha256(randomBytes(10)) }
    expect(await codeOf(await put(url, randomBytes(1000), sent))).toBe("XAmzContentSHA256Mismatch")
    expect(await codeOf(await put(url, randomBytes(1000), digest))).toBe("SignatureDoesNotMatch")
    expect(await codeOf(await put(url, bytes))).toBe("SignatureDoesNotMatch")
    expect(await codeOf(await put(url, bytes.subarray(0, 999), sent))).toBe("SignatureDoesNotMatch")
    expect(await codeOf(await put(url.replace(key, newKey()), bytes, sent))).toBe("SignatureDoesNotMatch")
    expect(await codeOf(await fetch(url))).toBe("SignatureDoesNotMatch")
    expect(await codeOf(await fetch(url, { method: "DELETE" }))).toBe("SignatureDoesNotMatch")
    expect(await store.head(key)).toBeNull()
    expect((await put(url, bytes, sent)).status).toBe(200)
    expect(await store.head(key)).toEqual({ sizeBytes: 1000 })
  })

  test("a chunked upload, whose length nobody knows, is refused", async () => {
    const { store, presigner } = await opened()
    const bytes = randomBytes(1000)
    const key = newKey()
    const { url, headers } = inOne(await planned(presigner, key, bytes))
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes)
        controller.close()
      },
    })
    expect((await put(url, body, headers as Record<string, string>)).ok).toBe(false)
    expect(await store.head(key)).toBeNull()
  })

  test("what an address has stored is never replaced by it, also not when the condition is left out", async () => {
    const { store, presigner } = await opened()
    const key = manifestKey(tenant, newWorkspaceId(), "cp_000000000000000000000001" as never)
    const bytes = randomBytes(500)
    const { url, headers } = inOne(await planned(presigner, key, bytes))
    await store.put(key, parts("x".repeat(500)), 500)
    const sent = headers as Record<string, string>
    expect(await codeOf(await put(url, bytes, sent))).toBe("PreconditionFailed")
    const { "if-none-match": _, ...rest } = sent
    expect(await codeOf(await put(url, bytes, rest))).toBe("SignatureDoesNotMatch")
    expect(await (await store.get(key))?.content.text()).toBe("x".repeat(500))
  })

  test("an address for a download gives this object, whole or a range of it, until it expires", async () => {
    const { store, presigner } = await opened()
    const key = newKey()
    await store.put(key, parts("0123456789"), 10)
    const url = await presigner.download({ key, sizeBytes: 10, expiresAtMs: inAnHour() })
    expect(await (await fetch(url)).text()).toBe("0123456789")
    const range = await fetch(url, { headers: { range: "bytes=3-5" } })
    expect([range.status, await range.text()]).toEqual([206, "345"])
    expect((await put(url, randomBytes(10))).status).toBe(403)
    expect((await fetch(url.replace(key, newKey()))).status).toBe(403)
    const soon = await presigner.download({ key, sizeBytes: 10, expiresAtMs: Date.now() + 900 })
    expect((await fetch(soon)).status).toBe(200)
    await Bun.sleep(2500)
    expect((await fetch(soon)).status).toBe(403)
    const missing = await presigner.download({ key: newKey(), sizeBytes: 10, expiresAtMs: inAnHour() })
    expect(await codeOf(await fetch(missing))).toBe("NoSuchKey")
  }, 20_000)

  test("addresses are made without a word to the server, except one for parts", async () => {
    if (server === null) return
    await using line = await startS3Line(server.port)
    const { presigner } = await opened({ endpoint: line.endpoint })
    const workspace = newWorkspaceId()
    const grants = Array.from({ length: 100 }, () => ({
      key: newKey(workspace),
      sizeBytes: 10,
      sha256: sha256(randomBytes(10)),
      expiresAtMs: inAnHour(),
    }))
    await presigner.uploads(grants)
    await Promise.all(grants.map(async (grant) => await presigner.download(grant)))
    expect(line.seen).toEqual([])
  })
})

const failures = (store: BlobStore): (() => Promise<unknown>)[] => [
  async () => await store.put(newKey(), parts("x"), 1),
  async () => await store.get(newKey()),
  async () => await store.list(blobPrefix(tenant, newWorkspaceId())),
  async () => await store.delete(newKey()),
]

describe.skipIf(server === null)("an object of 16 MiB and more", () => {
  const large = randomBytes(20 * MIB)

  test("is sent in parts of 8 MiB, each bound to its length", async () => {
    const { store, presigner } = await opened()
    const key = newKey()
    const plan = inParts(await planned(presigner, key, large))
    expect(plan.parts.map(({ start, end }) => end - start)).toEqual([8 * MIB, 8 * MIB, 4 * MIB])
    const [first] = plan.parts
    expect(await codeOf(await put(first?.url ?? "", large.subarray(0, MIB)))).toBe("SignatureDoesNotMatch")
    const tags: { number: number; etag: string }[] = []
    for (const { number, start, end, url } of plan.parts) {
      const answer = await put(url, large.subarray(start, end))
      expect(answer.status).toBe(200)
      tags.push({ number, etag: answer.headers.get("etag") ?? "" })
    }
    expect(await store.head(key)).toBeNull()
    const body = tags.map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`)
    const done = await fetch(plan.completeUrl, {
      method: "POST",
      body: `<CompleteMultipartUpload>${body.join("")}</CompleteMultipartUpload>`,
    })
    expect(done.status).toBe(200)
    expect(await store.head(key)).toEqual({ sizeBytes: large.byteLength })
    const found = await store.get(key, { start: 8 * MIB - 5, end: 8 * MIB + 5 })
    expect(Buffer.from(await new Response(found?.content.stream()).arrayBuffer())).toEqual(
      large.subarray(8 * MIB - 5, 8 * MIB + 5),
    )
  }, 60_000)

  test("goes whole, under the condition, when it is published by being there", async () => {
    const { presigner } = await opened()
    const grant = { key: newKey(), sizeBytes: large.byteLength, sha256: sha256(large), expiresAtMs: inAnHour() }
    const [plan] = await presigner.uploads([{ ...grant, isPublication: true }])
    const { url, headers } = inOne(plan ?? { parts: [], completeUrl: "" })
    expect((await put(url, large, headers as Record<string, string>)).status).toBe(200)
    expect(await codeOf(await put(url, large, headers as Record<string, string>))).toBe("PreconditionFailed")
  }, 30_000)

  test("that was begun and never ended goes by tenant, workspace and age", async () => {
    const { store, presigner } = await opened()
    const [one, other] = [newWorkspaceId(), newWorkspaceId()]
    const keys = [newKey(one), newKey(other), newKey(one).replace("local/", "local-b/")]
    const begun = await Promise.all(keys.map(async (key) => inParts(await planned(presigner, key, large))))
    const isLeft = async (at: number): Promise<boolean> => {
      const [part] = begun[at]?.parts ?? []
      return (await put(part?.url ?? "", large.subarray(part?.start, part?.end))).ok
    }
    expect(await store.dropUnfinished(`local/${one}/`, Date.now() - 60_000)).toBe(0)
    expect(await isLeft(0)).toBe(true)
    expect(await store.dropUnfinished(`local/${one}/`, Date.now() + 60_000)).toBe(1)
    expect([await isLeft(0), await isLeft(1), await isLeft(2)]).toEqual([false, true, true])
    expect(await store.dropUnfinished("local/", Date.now() + 60_000)).toBeGreaterThan(0)
    expect([await isLeft(1), await isLeft(2)]).toEqual([false, true])
  }, 60_000)
})

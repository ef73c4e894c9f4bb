import { afterAll, beforeEach, describe, expect, test } from "bun:test"
import { blobFetcher } from "./blob-fetcher.ts"
import type { Fetcher } from "./http.ts"

/** What reached the two servers: the store that the host knows, and one that it doesn't. */
const seen: { store: { path: string; headers: Headers }[]; other: string[]; gateway: string[] } = {
  store: [],
  other: [],
  gateway: [],
}
let answer: () => Response = () => new Response("content")

const other = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request) {
    seen.other.push(request.url)
    return new Response("taken")
  },
})
const store = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request) {
    seen.store.push({ path: new URL(request.url).pathname, headers: request.headers })
    return answer()
  },
})
const at = `http://127.0.0.1:${store.port}`
const gateway: Fetcher = async (path) => {
  seen.gateway.push(path)
  return new Response("from the gateway")
}
const fetcher = blobFetcher(gateway, `${at}/bucket`)

beforeEach(() => {
  seen.store.length = 0
  seen.other.length = 0
  seen.gateway.length = 0
  answer = () => new Response("content")
})
afterAll(async () => {
  await store.stop(true)
  await other.stop(true)
})

const xml = (code: string, message = ""): string =>
  `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`
const answering = (status: number, body: string, headers: Record<string, string> = {}): void => {
  answer = () => new Response(body, { status, headers })
}

describe("an address", () => {
  test("that is a path is asked of the gateway, an absolute one of the store that the host knows", async () => {
    expect(await (await fetcher("/blobs/local/x?expires=1")).text()).toBe("from the gateway")
    expect(await (await fetcher(`${at}/bucket/local/x?X-Amz-Signature=1`)).text()).toBe("content")
    expect(seen.gateway).toEqual(["/blobs/local/x?expires=1"])
    expect(seen.store.map(({ path }) => path)).toEqual(["/bucket/local/x"])
  })

  test("of the store is asked without any token or header of ours", async () => {
    await fetcher(`${at}/bucket/x`)
    const names = [...(seen.store[0]?.headers.keys() ?? [])]
    expect(names.filter((name) => name === "authorization" || name.startsWith("x-decamp"))).toEqual([])
  })

  test.each([
    ["another server", () => `http://127.0.0.1:${other.port}/bucket/x`],
    ["another scheme", () => `https://127.0.0.1:${store.port}/bucket/x`],
    ["another bucket", () => `${at}/other/x`],
    ["a bucket whose name begins like it", () => `${at}/bucket-of-eve/x`],
    ["the bucket itself", () => `${at}/bucket`],
    ["a way out of the bucket", () => `${at}/bucket/../other/x`],
    ["an encoded way out of the bucket", () => `${at}/bucket/%2e%2e/other/x`],
    ["a user name", () => `http://eve@127.0.0.1:${store.port}/bucket/x`],
    ["the store as the user name of another", () => `http://127.0.0.1:${store.port}@127.0.0.1:${other.port}/bucket/x`],
    ["the store as a part of another's path", () => `http://127.0.0.1:${other.port}/${at}/bucket/x`],
    ["a backslash", () => `http://127.0.0.1:${other.port}\\@127.0.0.1:${store.port}/bucket/x`],
    ["a file", () => "file:///etc/passwd"],
    ["inline data", () => "data:text/plain,x"],
    ["a path outside the blobs", () => "/user/workspaces"],
    ["a server without a scheme", () => `//127.0.0.1:${other.port}/blobs/x`],
    ["nothing", () => ""],
  ])("with %s is refused and nothing is asked", async (_, address) => {
    await expect(fetcher(address())).rejects.toMatchObject({ code: "not_allowed" })
    expect(seen).toEqual({ store: [], other: [], gateway: [] })
  })

  test("that is absolute is refused by a host that knows no store", async () => {
    await expect(blobFetcher(gateway, null)(`${at}/bucket/x`)).rejects.toMatchObject({ code: "not_allowed" })
    expect(seen.store).toEqual([])
  })

  test.each([301, 302, 303, 307, 308])("that redirects (%d) is not followed", async (status) => {
    answering(status, "", { location: `http://127.0.0.1:${other.port}/x` })
    await expect(fetcher(`${at}/bucket/x`)).rejects.toMatchObject({ code: "not_allowed" })
    expect(seen.other).toEqual([])
  })
})

describe("what a store refuses", () => {
  test.each([
    [404, "NoSuchKey", "not_found"],
    [404, "NoSuchUpload", "expired"],
    [404, "NoSuchBucket", "internal"],
    [403, "AccessDenied", "expired"],
    [403, "SignatureDoesNotMatch", "expired"],
    [400, "XAmzContentSHA256Mismatch", "internal"],
    [503, "SlowDown", "unreachable"],
    [500, "InternalError", "unreachable"],
  ])("is said with its own code: %d %s is %s", async (status, storeCode, code) => {
    answering(status, xml(storeCode, "because of it"))
    await expect(fetcher(`${at}/bucket/x?X-Amz-Signature=secret`)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(`${storeCode}: because of it`),
      details: { storeCode, status },
    })
  })

  test("never shows the signature of an address", async () => {
    answering(403, xml("AccessDenied"))
    const failure = await fetcher(`${at}/bucket/x?X-Amz-Signature=secret`).catch((error: unknown) => error)
    expect(JSON.stringify(failure) + String(failure)).not.toContain("secret")
  })

  test("is read to 4 KiB and no further, and paints nothing on a terminal", async () => {
    let sent = 0
    answer = () =>
      new Response(
        new ReadableStream({
          async pull(controller) {
            sent += 1
            if (sent > 500) return controller.close()
            controller.enqueue(new TextEncoder().encode(`\u001b[31m${"x".repeat(4096)}`))
            await Bun.sleep(1)
          },
        }),
        { status: 400 },
      )
    const failure = await fetcher(`${at}/bucket/x`).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: "internal" })
    expect(String(failure)).not.toContain("\u001b")
    expect(String(failure).length).toBeLessThan(500)
    expect(sent).toBeLessThan(400)
  })

  test("because the object is there already is no refusal of an upload", async () => {
    answering(412, xml("PreconditionFailed"))
    expect((await fetcher(`${at}/bucket/x`, { method: "PUT", body: "x" })).ok).toBe(true)
    await expect(fetcher(`${at}/bucket/x`)).rejects.toMatchObject({ code: "internal" })
  })

  test("by not being there is unreachable", async () => {
    const gone = blobFetcher(gateway, "http://127.0.0.1:9/bucket")
    await expect(gone("http://127.0.0.1:9/bucket/x")).rejects.toMatchObject({ code: "unreachable" })
  })
})

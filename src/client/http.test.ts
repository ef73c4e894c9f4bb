import { afterAll, describe, expect, test } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { z } from "zod"
import { blobIdSchema } from "../protocol/ids.ts"
import { blobFetcher } from "./blob-fetcher.ts"
import { uploadBlobs } from "./blob-transfer.ts"
import { callJson, callStream, inProcessFetcher, unixFetcher, type Fetcher, type StepEvent } from "./http.ts"

const root = await mkdtemp(join(tmpdir(), "decamp-http-"))
afterAll(async () => await rm(root, { recursive: true, force: true }))

const answering = (response: () => Response): Fetcher => inProcessFetcher(async () => response())
const get = async (fetcher: Fetcher, path = "/x") =>
  await callJson(fetcher, { method: "GET", path, answer: z.object({ ok: z.boolean() }) })

describe("an answer is hostile until it is parsed", () => {
  test.each<[string, () => Response, string]>([
    ["another shape", () => Response.json({ ok: 1 }), "internal"],
    ["no JSON", () => new Response("<html>"), "internal"],
    ["more than 8 MiB", () => new Response("x".repeat(9_000_000)), "too_large"],
    ["a redirect", () => Response.redirect("http://elsewhere/"), "internal"],
    [
      "an error of the list",
      () => Response.json({ error: { code: "no_space", message: "full" } }, { status: 507 }),
      "no_space",
    ],
    ["an error of no list", () => Response.json({ error: { code: "zzz", message: "x" } }, { status: 400 }), "internal"],
    ["a broken server", () => new Response("oops", { status: 502 }), "unreachable"],
  ])("%s", async (_, response, code) => {
    await expect(get(answering(response))).rejects.toMatchObject({ code })
  })

  test("its text can't paint on the terminal, and no query of an address is repeated", async () => {
    const body = { error: { code: "busy", message: "a\u001b[2Jb\u0007", hint: "c\u009bd" } }
    await expect(get(answering(() => Response.json(body, { status: 409 })))).rejects.toMatchObject({
      message: "a [2Jb ",
      hint: "c d",
    })
    const failure = await get(
      answering(() => new Response("")),
      "/blobs/k?signature=canary",
    ).catch(String)
    expect(failure).not.toContain("canary")
  })
})

describe("a connection that fails is unreachable", () => {
  test("and names the socket where nobody listens", async () => {
    const socket = join(root, "nobody.sock")
    await expect(get(unixFetcher(socket))).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining(socket),
    })
  })

  test("when the answer doesn't come in time; interrupted when the caller gave up", async () => {
    const socket = join(root, "slow.sock")
    const server = Bun.serve({ unix: socket, fetch: async () => (await Bun.sleep(3000), Response.json({ ok: true })) })
    const call = { method: "GET", path: "/x", answer: z.unknown() } as const
    await expect(callJson(unixFetcher(socket), { ...call, timeoutMs: 50 })).rejects.toMatchObject({
      code: "unreachable",
    })
    const gone = new AbortController()
    setTimeout(() => gone.abort(), 50)
    await expect(callJson(unixFetcher(socket), { ...call, signal: gone.signal })).rejects.toMatchObject({
      code: "interrupted",
    })
    await server.stop(true)
  })

  test("a redirect over a socket is not followed", async () => {
    const socket = join(root, "redirect.sock")
    let asked = 0
    const server = Bun.serve({
      unix: socket,
      fetch: () => ((asked += 1), new Response("", { status: 302, headers: { location: "/y" } })),
    })
    await expect(get(unixFetcher(socket))).rejects.toMatchObject({ code: "internal" })
    expect(asked).toBe(1)
    await server.stop(true)
  })
})

describe("a stream", () => {
  const stream = async (text: string) => {
    const events: StepEvent[] = []
    const call = {
      method: "POST",
      path: "/s",
      answer: z.object({ n: z.number() }),
      listener: (event: StepEvent) => events.push(event),
    } as const
    const result = await callStream(
      answering(() => new Response(text)),
      call,
    ).catch((error: unknown) => error)
    return { events, result }
  }
  const notice = '{"type":"notice","text":"wait"}\n'

  test("tells its events and answers its result; empty lines and unknown events are passed over", async () => {
    const { events, result } = await stream(
      `\n${notice}\n{"type":"from-the-future"}\n{"type":"result","result":{"n":3}}`,
    )
    expect(events).toEqual([{ type: "notice", text: "wait" }])
    expect(result).toEqual({ n: 3 })
  })

  test.each([
    ["that is cut", notice, "unreachable"],
    ["that is empty", "", "unreachable"],
    ["that ends with an error", `${notice}{"type":"error","error":{"code":"diverged","message":"m"}}\n`, "diverged"],
    ["whose result has another shape", '{"type":"result","result":{}}\n', "internal"],
    ["that is no JSON", "hello\n", "internal"],
    ["with an endless line", "x".repeat(9_000_000), "too_large"],
  ])("%s says so", async (_, text, code) => {
    expect((await stream(text)).result).toMatchObject({ code })
  })
})

const LAST = { url: "/blobs/m", headers: {} }

describe("an upload", () => {
  const id = blobIdSchema.parse("a".repeat(64))
  const uploading = async (url: string, statuses: number[]) => {
    const path = join(root, "blob")
    await Bun.write(path, "12345")
    const paths: string[] = []
    const fetcher: Fetcher = async (to) => (paths.push(to), Response.json({}, { status: statuses.shift() ?? 200 }))
    const spool = {
      file: async () => ({ path, sizeBytes: 5 }),
      receive: async () => {},
      keptBytes: async () => 0,
      source: () => ({ open: () => new Blob().stream() }),
    }
    const plan = async () => ({ missing: [{ id, upload: { url, headers: {} } }], manifest: LAST })
    const sent = await uploadBlobs(blobFetcher(fetcher, null), {
      plan,
      manifest: new Uint8Array(3),
      spool,
      listener: () => {},
      step: "send",
    }).catch((error: unknown) => error)
    return { sent, paths }
  }

  test("is tried again after a failure of the server, three times at most; the manifest goes last", async () => {
    expect(await uploading("/blobs/a", [503, 503])).toEqual({
      sent: 8,
      paths: ["/blobs/a", "/blobs/a", "/blobs/a", "/blobs/m"],
    })
    const given = await uploading("/blobs/a", [503, 503, 503])
    expect(given.sent).toMatchObject({ code: "unreachable" })
    expect(given.paths).not.toContain("/blobs/m")
  })

  test.each(["http://elsewhere/blobs/x", "//elsewhere/blobs/x", "/user/hosts", "/blobs/a b"])(
    "to %p, outside the store, is refused",
    async (url) => {
      expect(await uploading(url, [])).toMatchObject({ sent: { code: "not_allowed" }, paths: [] })
    },
  )

  test.each([
    ["small ones eight at a time", 1000, 8],
    ["large ones two at a time", 300_000, 2],
  ])("of many sends %s", async (_, sizeBytes, most) => {
    const path = join(root, `blob-${sizeBytes}`)
    await Bun.write(path, new Uint8Array(sizeBytes))
    let [running, highest, sent] = [0, 0, 0]
    const fetcher: Fetcher = async () => {
      running += 1
      highest = Math.max(highest, running)
      await Bun.sleep(5)
      running -= 1
      sent += 1
      return Response.json({ offset: 0 })
    }
    const spool = {
      file: async () => ({ path, sizeBytes }),
      receive: async () => {},
      keptBytes: async () => 0,
      source: () => ({ open: () => new Blob().stream() }),
    }
    const missing = Array.from({ length: 20 }, () => ({ id, upload: { url: "/blobs/a", headers: {} } }))
    const upload = { spool, manifest: new Uint8Array(3), listener: () => {}, step: "send" }
    await uploadBlobs(blobFetcher(fetcher, null), { ...upload, plan: async () => ({ missing, manifest: LAST }) })
    expect({ highest, sent }).toEqual({ highest: most, sent: 21 })
  })
})

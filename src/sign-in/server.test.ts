/** Requests to a gateway over TCP, against real servers on loopback. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test"
import { createServer } from "node:net"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { saveCredentials } from "./credentials.ts"
import { askWellKnown, serverFetcher, userFetcher } from "./server.ts"

let home: string
let servers: Bun.Server<undefined>[]
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "server-"))
  servers = []
})
afterEach(async () => {
  for (const server of servers) await server.stop(true)
  await rm(home, { recursive: true, force: true })
})

function serve(fetch: (request: Request) => Response | Promise<Response>, port = 0): string {
  const server = Bun.serve({ hostname: "127.0.0.1", port, fetch })
  servers.push(server)
  return `http://127.0.0.1:${server.port}`
}

const AS_ADA = { token: async () => "ada", instead: async () => null }

test("shows the bearer and the protocol, and follows no redirect with it", async () => {
  const seen: string[] = []
  const other = serve((request) => {
    seen.push(`other ${request.headers.get("authorization")}`)
    return new Response("")
  })
  const url = serve((request) => {
    seen.push(`${request.headers.get("authorization")} ${request.headers.get("decamp-protocol") !== null}`)
    return Response.redirect(`${other}/user/me`, 307)
  })
  const answer = await serverFetcher(url, AS_ADA)("/user/me")
  expect(answer.status).toBe(307)
  expect(seen).toEqual(["Bearer ada true"])
})

test("a proxy of the environment never sees what is meant for this machine", async () => {
  const seen: string[] = []
  const proxy = serve((request) => {
    seen.push(request.url)
    return new Response("by the proxy")
  })
  const url = serve(() => new Response("by the gateway"))
  const program = `
    const { serverFetcher } = await import(${JSON.stringify(join(import.meta.dir, "server.ts"))})
    const bearers = { token: async () => "canary", instead: async () => null }
    console.log(await (await serverFetcher(${JSON.stringify(url)}, bearers)("/user/me")).text())
  `
  const child = Bun.spawn([process.execPath, "-e", program], {
    env: { PATH: process.env["PATH"] ?? "", HOME: home, http_proxy: proxy, HTTP_PROXY: proxy },
    stderr: "inherit",
  })
  expect((await new Response(child.stdout).text()).trim()).toBe("by the gateway")
  expect(seen).toEqual([])
})

describe("a gateway that does not answer", () => {
  test("is said at once when it was never there", async () => {
    const startedAtMs = Date.now()
    const failure = await serverFetcher("http://127.0.0.1:1", AS_ADA)("/user/me").catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: "unreachable", message: "the gateway at http://127.0.0.1:1 does not answer" })
    expect(Date.now() - startedAtMs).toBeLessThan(5000)
  })

  test("is waited for when it answered just now: it is being started again", async () => {
    const url = serve(() => new Response("first"))
    const fetcher = serverFetcher(url, AS_ADA)
    expect(await (await fetcher("/user/me")).text()).toBe("first")
    await servers[0]?.stop(true)
    const waiting = fetcher("/user/me")
    await Bun.sleep(700)
    serve(() => new Response("second"), Number(new URL(url).port))
    expect(await (await waiting).text()).toBe("second")
  })

  test("a step whose answer was lost is asked again; a prompt is not", async () => {
    const seen: string[] = []
    const cutting = createServer((socket) =>
      socket.on("data", (data) => {
        const [line = ""] = String(data).split("\r\n")
        seen.push(line)
        if (line.startsWith("GET") || seen.length > 2) socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        else socket.destroy()
      }),
    )
    await new Promise<void>((resolve) => cutting.listen(0, "127.0.0.1", resolve))
    const address = cutting.address()
    const fetcher = serverFetcher(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`, AS_ADA)
    await fetcher("/user/hello")
    await fetcher("/host/handoffs/h_1/staged", { method: "POST", body: "{}" })
    expect(seen.slice(1)).toEqual(Array(2).fill("POST /host/handoffs/h_1/staged HTTP/1.1"))
    seen.length = 0
    const prompt = await fetcher("/user/prompt", { method: "POST", body: "{}" }).catch((error: unknown) => error)
    expect(prompt).toMatchObject({ code: "unreachable" })
    expect(seen.length).toBe(1)
    cutting.close()
  })

  test("a request that is given up says so", async () => {
    const url = serve(async () => {
      await Bun.sleep(3000)
      return new Response("")
    })
    const fetcher = serverFetcher(url, AS_ADA)
    const late = await fetcher("/x", { signal: AbortSignal.timeout(50) }).catch((error: unknown) => error)
    expect(late).toMatchObject({ code: "unreachable" })
    const stopped = await fetcher("/x", { signal: AbortSignal.abort() }).catch((error: unknown) => error)
    expect(stopped).toMatchObject({ code: "interrupted" })
  })
})

describe("a bearer that is not taken", () => {
  const refusing = (taken: string) =>
    serve((request) => new Response("", { status: request.headers.get("authorization") === taken ? 200 : 401 }))

  test("is replaced once when there is another", async () => {
    const url = refusing("Bearer second")
    const asked: (string | null)[] = []
    const fetcher = serverFetcher(url, {
      token: async () => "first",
      async instead(refused) {
        asked.push(refused)
        return "second"
      },
    })
    expect((await fetcher("/user/me")).status).toBe(200)
    expect(asked).toEqual(["first"])
  })

  test("says how to sign in, for who signed in, who never did, and DECAMP_TOKEN", async () => {
    const url = refusing("nobody")
    const env = { HOME: home }
    const ask = async (given: string | null): Promise<unknown> =>
      await userFetcher({ url, env, given: () => given })("/user/me").catch((error: unknown) => error)
    expect(await ask(null)).toMatchObject({ code: "not_signed_in", message: `you have not signed in at ${url}` })
    await saveCredentials(env, { kind: "token", url, token: "old" })
    expect(await ask(null)).toMatchObject({ code: "not_signed_in", hint: "decamp login" })
    expect(await ask("dct_x")).toMatchObject({
      code: "not_signed_in",
      message: `${url} does not take the token in DECAMP_TOKEN`,
    })
  })
})

describe("how one signs in", () => {
  test("is asked without showing anything", async () => {
    const seen: (string | null)[] = []
    const url = serve((request) => {
      seen.push(request.headers.get("authorization"))
      return Response.json({ version: "1", protocol: 1, signIn: { kind: "bearer" }, storeUrl: null })
    })
    expect(await askWellKnown(url)).toMatchObject({ signIn: { kind: "bearer" } })
    expect(seen).toEqual([null])
  })

  for (const [what, answer] of [
    ["a page", () => new Response("<html>")],
    ["another document", () => Response.json({ hello: 1 })],
    ["404", () => Response.json({}, { status: 404 })],
    ["an issuer that is no address", () => Response.json({ ...OIDC, signIn: { ...OIDC.signIn, issuer: "x" } })],
  ] as const) {
    test(`what answers with ${what} is no gateway`, async () => {
      const failure = await askWellKnown(serve(answer)).catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: "not_found", message: expect.stringContaining("is no gateway of decamp") })
    })
  }
})

const OIDC = {
  version: "1",
  protocol: 1,
  storeUrl: null,
  signIn: { kind: "oidc", issuer: "https://issuer.example", clientId: "cli", audience: null },
} as const

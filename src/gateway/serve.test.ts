/** `decamp gateway serve` as a process: that it can be looked after. */
import { afterAll, afterEach, expect, test } from "bun:test"
import { SignJWT } from "jose"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { newClock } from "../../test/bench/load-figures.ts"
import { makeTenant, push } from "../../test/bench/load-tenant.ts"
import { hostApi, userApi } from "../client/gateway-client.ts"
import type { Fetcher } from "../client/http.ts"
import { PROTOCOL_HEADER } from "../protocol/gateway-api.ts"
import { newCheckpointId, newHostId, newIncarnation, newWorkspaceId, blobIdSchema } from "../protocol/ids.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import { openSpool } from "../storage/spool.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-serve-"))
const running = new Set<Bun.Subprocess>()
afterEach(async () => {
  for (const child of running) {
    child.kill("SIGKILL")
    await child.exited
  }
  running.clear()
})
afterAll(async () => await rm(folder, { recursive: true, force: true }))

const SECRET = "s".repeat(40)

interface Served {
  readonly url: string
  readonly child: Bun.Subprocess<"ignore", "ignore", "pipe">
}

async function serve(settings: Readonly<Record<string, string>> = {}): Promise<Served> {
  const port = await freePort()
  const env = { LISTEN: `127.0.0.1:${port}`, SIGN_IN: "hs256", HS256_SECRET: SECRET, ...settings }
  const named = Object.fromEntries(Object.entries(env).map(([key, value]) => [`DECAMP_GATEWAY_${key}`, value]))
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../main.ts"), "gateway", "serve"], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: folder,
      DECAMP_GATEWAY_STATE: await mkdtemp(join(folder, "s-")),
      ...named,
    },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  })
  running.add(child)
  return { url: `http://127.0.0.1:${port}`, child }
}

async function ready({ url, child }: Served): Promise<Served> {
  for (let n = 0; n < 400 && child.exitCode === null; n++) {
    if ((await statusOf(`${url}/readyz`)) === 200) return { url, child }
    await Bun.sleep(50)
  }
  throw new Error("the gateway is not ready")
}

async function statusOf(url: string): Promise<number | null> {
  return await fetch(url).then(
    (answer) => answer.status,
    () => null,
  )
}

async function freePort(): Promise<number> {
  return await new Promise((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

const asking =
  (url: string, token: string): Fetcher =>
  async (path, init = {}) =>
    await fetch(`${url}${path}`, {
      method: init.method ?? "GET",
      headers: { [PROTOCOL_HEADER]: String(PROTOCOL_VERSION), authorization: `Bearer ${token}`, ...init.headers },
      ...(init.body === undefined ? {} : { body: init.body }),
    })

async function signedIn(): Promise<string> {
  const token = new SignJWT({}).setProtectedHeader({ alg: "HS256" }).setSubject("ada").setExpirationTime("1h")
  return await token.sign(new TextEncoder().encode(SECRET))
}

/** An address to which a host may send so many bytes. */
async function addressOf(url: string, bytes: Uint8Array): Promise<string> {
  const user = userApi(asking(url, await signedIn()))
  const identity = { host: newHostId(), incarnation: newIncarnation() }
  const { token } = await user.registerHost({ ...identity, name: "laptop" })
  const workspace = newWorkspaceId()
  await user.createWorkspace({ id: workspace, name: "shop", ...identity })
  const sha256 = Bun.SHA256.hash(bytes, "hex")
  const { missing } = await hostApi(asking(url, token)).planBlobs({
    workspace,
    incarnation: identity.incarnation,
    epoch: 1,
    checkpoint: newCheckpointId(),
    manifestSize: 10,
    manifestSha256: sha256,
    blobs: [{ id: blobIdSchema.parse(sha256), storedSize: bytes.byteLength, storedSha256: sha256 }],
  })
  const upload = missing[0]?.upload
  if (upload === undefined || !("url" in upload)) throw new Error("no address")
  return `${url}${upload.url}`
}

/** A body that comes in two halves, the second one when it is let. */
function halves(bytes: Uint8Array): { readonly body: ReadableStream<Uint8Array>; readonly go: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const middle = Math.floor(bytes.byteLength / 2)
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(bytes.subarray(0, middle))
      await promise
      controller.enqueue(bytes.subarray(middle))
      controller.close()
    },
  })
  return { body, go: resolve }
}

test("it lives, is ready, and says how to sign in; nothing else is told to who has not", async () => {
  const { url } = await ready(await serve())
  expect(await statusOf(`${url}/livez`)).toBe(200)
  expect(await (await fetch(`${url}/readyz`)).json()).toEqual({ ready: true, problems: {} })
  expect(await (await fetch(`${url}/.well-known/decamp`)).json()).toMatchObject({ signIn: { kind: "hs256" } })
  const headers = { [PROTOCOL_HEADER]: String(PROTOCOL_VERSION) }
  expect((await fetch(`${url}/user/workspaces`, { headers })).status).toBe(401)
  expect((await fetch(`${url}/host/work`, { headers })).status).toBe(401)
}, 60_000)

test("on SIGTERM it says at once that it ends, and ends what is under way before it does", async () => {
  const { url, child } = await ready(await serve())
  const bytes = crypto.getRandomValues(new Uint8Array(200_000))
  const { body, go } = halves(bytes)
  const headers = { "content-length": String(bytes.byteLength) }
  const sending = fetch(await addressOf(url, bytes), { method: "PUT", body, headers })
  await Bun.sleep(300)
  child.kill("SIGTERM")
  await Bun.sleep(300)
  expect(await statusOf(`${url}/readyz`)).toBe(503)
  expect(await statusOf(`${url}/livez`)).toBe(200)
  go()
  expect((await sending).ok).toBe(true)
  expect(await child.exited).toBe(0)
  expect(await statusOf(`${url}/livez`)).toBeNull()
}, 60_000)

test("an answer that is on its way when it is told to end comes whole", async () => {
  const { url, child } = await ready(await serve())
  const door = { user: asking(url, await signedIn()), host: (token: string) => asking(url, token), storeUrl: null }
  const tenant = await makeTenant({ door, clock: newClock(), name: "ada", workspaces: 1 })
  const [workspace] = tenant.workspaces
  if (workspace === undefined) throw new Error("no workspace")
  const spools = { out: await openSpool(await mkdtemp(join(folder, "o-"))), in: await openSpool(folder) }
  // More than the sockets hold between them.
  const content = (): Uint8Array => {
    const bytes = new Uint8Array(20_000_000)
    for (let at = 0; at < bytes.byteLength; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536))
    return bytes
  }
  await push({ tenant, clock: newClock(), random: Math.random, content, spools }, workspace)
  const [ref] = workspace.blobs
  if (ref === undefined || workspace.head === null) throw new Error("nothing was pushed")
  const { blobs } = await workspace.owner.api.checkpointUrls(workspace.head, {
    workspace: workspace.id,
    blobs: [ref.id],
  })
  const answer = await fetch(`${url}${blobs[0]?.url ?? ""}`)
  const reader = answer.body?.getReader()
  let size = (await reader?.read())?.value?.byteLength ?? 0
  child.kill("SIGTERM")
  await Bun.sleep(1500)
  for (let part = await reader?.read(); part?.done === false; part = await reader?.read()) size += part.value.byteLength
  expect(size).toBe(ref.storedSize)
  expect(await child.exited).toBe(0)
}, 60_000)

test("a second signal ends it at once, whatever is under way", async () => {
  const { url, child } = await ready(await serve())
  const bytes = crypto.getRandomValues(new Uint8Array(200_000))
  const { body, go } = halves(bytes)
  const headers = { "content-length": String(bytes.byteLength) }
  const sending = fetch(await addressOf(url, bytes), { method: "PUT", body, headers }).catch(() => null)
  await Bun.sleep(300)
  child.kill("SIGTERM")
  await Bun.sleep(300)
  expect(child.exitCode).toBeNull()
  child.kill("SIGTERM")
  expect(await child.exited).toBe(130)
  go()
  await sending
}, 60_000)

test("a wrong setting stops it with the name of the key", async () => {
  const { child } = await serve({ KEEP_DAYS: "many" })
  expect([await new Response(child.stderr).text(), await child.exited]).toEqual([
    expect.stringContaining("the setting keep_days (DECAMP_GATEWAY_KEEP_DAYS)"),
    2,
  ])
}, 60_000)

/** Signing in at a real issuer (oidc-provider on loopback) with the browser step in headless Chromium. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { mkdtemp, readdir, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { confirmDevice, hasChromium } from "../../test/services/browser.ts"
import { startOidc, type Oidc } from "../../test/services/oidc.ts"
import { bearerFor } from "./bearer.ts"
import { readCredentials, saveCredentials, type OidcCredentials } from "./credentials.ts"
import { startDeviceFlow } from "./device-flow.ts"
import { signOut } from "./sign-out.ts"

const URL_OF_GATEWAY = "https://gateway.test"
const NEVER = new AbortController().signal
const MINUTE_MS = 60_000

let home: string
let env: Record<string, string>
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "sign-in-"))
  env = { HOME: home }
})
afterAll(async () => await rm(home, { recursive: true, force: true }))

function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString())
}

async function signedIn(oidc: Oidc, audience: string): Promise<OidcCredentials> {
  const flow = await startDeviceFlow({ issuer: oidc.issuer, clientId: oidc.clientId, audience }, URL_OF_GATEWAY)
  const waiting = flow.wait(NEVER)
  await confirmDevice(flow.addressWithCode ?? flow.address, "ada", "agree")
  return await waiting
}

describe.skipIf(!hasChromium())("a person confirms the code in a browser", () => {
  let oidc: Oidc
  beforeAll(async () => {
    oidc = await startOidc()
  })
  afterAll(async () => await oidc[Symbol.asyncDispose]())

  test(
    "asks while nobody has decided, slower when told to, and gets the ID token when no other audience is wanted",
    async () => {
      const flow = await startDeviceFlow(
        { issuer: oidc.issuer, clientId: oidc.clientId, audience: oidc.clientId },
        URL_OF_GATEWAY,
      )
      expect(flow.address).toBe(`${oidc.issuer}/device`)
      const startedAtMs = Date.now()
      oidc.answered.length = 0
      oidc.refuseNext("slow_down")
      const waiting = flow.wait(NEVER)
      // The first answer is slow_down: from then on the pause is 10 s, and the next question is answered "pending".
      while (oidc.answered.length < 2) await Bun.sleep(50)
      expect(oidc.answered).toEqual(["slow_down", "authorization_pending"])
      expect(Date.now() - startedAtMs).toBeGreaterThan(14_000)
      await confirmDevice(flow.addressWithCode ?? flow.address, "ada", "agree")
      const credentials = await waiting
      expect(claimsOf(credentials.token)).toMatchObject({ sub: "ada", aud: oidc.clientId, iss: oidc.issuer })
      expect(credentials.refreshToken).toBeString()
    },
    MINUTE_MS,
  )

  test(
    "gets an access token for another audience",
    async () => {
      const { token } = await signedIn(oidc, oidc.audience)
      expect(claimsOf(token)).toMatchObject({ sub: "ada", aud: oidc.audience })
    },
    MINUTE_MS,
  )

  test(
    "a refusal is said as one",
    async () => {
      const flow = await startDeviceFlow(
        { issuer: oidc.issuer, clientId: oidc.clientId, audience: null },
        URL_OF_GATEWAY,
      )
      const waiting = flow.wait(NEVER).catch((error: unknown) => error)
      await confirmDevice(flow.addressWithCode ?? flow.address, "ada", "refuse")
      expect(await waiting).toMatchObject({ code: "not_allowed", message: expect.stringContaining("was refused") })
    },
    MINUTE_MS,
  )

  test(
    "signing out has the issuer take the refresh token no more",
    async () => {
      const credentials = await signedIn(oidc, oidc.clientId)
      await saveCredentials(env, credentials)
      expect(await signOut(env, URL_OF_GATEWAY)).toEqual({ hasChanged: true, isRevoked: true, problem: null })
      expect(await readCredentials(env, URL_OF_GATEWAY)).toBeNull()
      // Somebody who had copied it gets nothing for it.
      await saveCredentials(env, { ...credentials, obtainedAtMs: 0, expiresAtMs: 1 })
      const refused = await bearerFor({ env, url: URL_OF_GATEWAY }).catch((error: unknown) => error)
      expect(refused).toMatchObject({ code: "not_signed_in", hint: "decamp login" })
      expect(await signOut(env, URL_OF_GATEWAY)).toMatchObject({ hasChanged: true })
      expect(await signOut(env, URL_OF_GATEWAY)).toMatchObject({ hasChanged: false })
    },
    MINUTE_MS,
  )
})

test("a code that nobody confirms ends, and Ctrl-C ends the wait at once", async () => {
  await using oidc = await startOidc({ deviceLifeS: 7 })
  const signIn = { issuer: oidc.issuer, clientId: oidc.clientId, audience: null }
  const [late, stopped] = await Promise.all([
    startDeviceFlow(signIn, URL_OF_GATEWAY),
    startDeviceFlow(signIn, URL_OF_GATEWAY),
  ])
  const stopping = new AbortController()
  const interrupted = stopped.wait(stopping.signal).catch((error: unknown) => error)
  stopping.abort()
  expect(await interrupted).toMatchObject({ code: "interrupted" })
  expect(await late.wait(NEVER).catch((error: unknown) => error)).toMatchObject({
    code: "expired",
    hint: "decamp login gives a new one",
  })
}, 30_000)

test("an issuer that answers with an error, or does not answer, is named", async () => {
  await using oidc = await startOidc()
  const unknown = { issuer: oidc.issuer, clientId: "nobody", audience: null }
  expect(await startDeviceFlow(unknown, URL_OF_GATEWAY).catch((error: unknown) => error)).toMatchObject({
    code: "not_allowed",
    message: `${oidc.issuer} refused: invalid_client`,
  })
  const gone = { issuer: "http://127.0.0.1:1", clientId: "x", audience: null }
  expect(await startDeviceFlow(gone, URL_OF_GATEWAY).catch((error: unknown) => error)).toMatchObject({
    code: "unreachable",
  })
  const clear = { issuer: "http://issuer.example", clientId: "x", audience: null }
  expect(await startDeviceFlow(clear, URL_OF_GATEWAY).catch((error: unknown) => error)).toMatchObject({
    code: "not_allowed",
  })
})

const RENEWING = `
import { bearerFor } from "${join(import.meta.dir, "bearer.ts")}"
const [home, url, refused] = process.argv.slice(2)
process.stdout.write(String(await bearerFor({ env: { HOME: home }, url }, refused === "" ? null : refused)))
`

describe.skipIf(!hasChromium())("what an issuer handed out is renewed", () => {
  test(
    "before it ends, once for four processes that ask at the same time, and again when the gateway refuses it",
    async () => {
      await using oidc = await startOidc({ tokenLifeS: 300 })
      const credentials = await signedIn(oidc, oidc.clientId)
      // Signed in the same second, two tokens are the same.
      await Bun.sleep(1100)
      // 59 s before its end: a process that asks now renews it.
      const nowMs = Date.now()
      const nearlyOver = { ...credentials, obtainedAtMs: nowMs - 241_000, expiresAtMs: nowMs + 59_000 }
      await saveCredentials(env, nearlyOver)
      const program = join(home, "renewing.ts")
      await Bun.write(program, RENEWING)
      const ask = async (refused: string): Promise<string> => {
        const child = Bun.spawn([process.execPath, program, home, URL_OF_GATEWAY, refused], { stderr: "inherit" })
        return await new Response(child.stdout).text()
      }
      const tokens = await Promise.all(Array.from({ length: 4 }, async () => await ask("")))
      expect(new Set(tokens).size).toBe(1)
      expect(tokens[0]).not.toBe(credentials.token)
      expect(oidc.grants.get("refresh_token")).toBe(1)
      // Fresh by its time: nobody asks the issuer.
      expect(await bearerFor({ env, url: URL_OF_GATEWAY })).toBe(tokens[0] ?? "")
      expect(oidc.grants.get("refresh_token")).toBe(1)
      // Refused by the gateway in two processes at once: one of them renews, the other takes what it got.
      await Bun.sleep(1100)
      const again = await Promise.all([ask(tokens[0] ?? ""), ask(tokens[0] ?? "")])
      expect(again[0]).toBe(again[1] ?? "")
      expect(again[0]).not.toBe(tokens[0])
      expect(oidc.grants.get("refresh_token")).toBe(2)
    },
    MINUTE_MS,
  )

  test(
    "an issuer that is away for a while takes nothing from who is still signed in",
    async () => {
      const oidc = await startOidc({ tokenLifeS: 300 })
      const credentials = await signedIn(oidc, oidc.clientId)
      await oidc[Symbol.asyncDispose]()
      const nowMs = Date.now()
      await saveCredentials(env, { ...credentials, obtainedAtMs: nowMs - 241_000, expiresAtMs: nowMs + 59_000 })
      expect(await bearerFor({ env, url: URL_OF_GATEWAY })).toBe(credentials.token)
      await saveCredentials(env, { ...credentials, obtainedAtMs: nowMs - 301_000, expiresAtMs: nowMs - 1000 })
      const failed = await bearerFor({ env, url: URL_OF_GATEWAY }).catch((error: unknown) => error)
      expect(failed).toMatchObject({ code: "unreachable" })
      const folder = join(home, ".local/state/decamp/credentials")
      expect((await stat(folder)).mode & 0o777).toBe(0o700)
      for (const name of await readdir(folder)) expect((await stat(join(folder, name))).mode & 0o077).toBe(0)
    },
    MINUTE_MS,
  )
})

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test"
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT, type CryptoKey, type JWTPayload } from "jose"
import { join } from "node:path"
import { begin, endAll, folder, removeAll } from "../../../test/support/gateway.ts"
import { PROTOCOL_HEADER } from "../../protocol/gateway-api.ts"
import { PROTOCOL_VERSION } from "../../protocol/version.ts"
import type { Gateway } from "../start.ts"
import type { SignInSettings } from "./sign-in.ts"

afterEach(endAll)
afterAll(removeAll)

const SECRET = "a-secret-of-at-least-thirty-two-bytes"
const inAnHour = (): number => Math.floor(Date.now() / 1000) + 3600
const key = (text: string): Uint8Array => new TextEncoder().encode(text)

async function hs256(claims: Record<string, unknown>, secret = SECRET, alg = "HS256"): Promise<string> {
  return await new SignJWT(claims as JWTPayload).setProtectedHeader({ alg }).sign(key(secret))
}

async function ask(gateway: Gateway, token: string | null, path = "/user/me", init: RequestInit = {}) {
  const headers = {
    [PROTOCOL_HEADER]: String(PROTOCOL_VERSION),
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
  }
  const response = await gateway.open(new Request(`http://gateway${path}`, { ...init, headers }))
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const opened = async (signIn: SignInSettings): Promise<Gateway> => await begin({ signIn })
const byHs256 = { kind: "hs256", secret: SECRET, issuer: "https://id", audience: "decamp" } as const
const good = (): JWTPayload => ({ sub: "anna", iss: "https://id", aud: "decamp", exp: inAnHour() })

describe("a shared secret (HS256)", () => {
  test("whoever it names is one tenant, whose things nobody else sees", async () => {
    const gateway = await opened(byHs256)
    const [anna, bert] = [await hs256(good()), await hs256({ ...good(), sub: "bert" })]
    expect(await ask(gateway, anna)).toMatchObject({ status: 200, body: { subject: "anna", method: "hs256" } })
    const body = JSON.stringify({ host: `h_${"1".repeat(24)}`, incarnation: `in_${"2".repeat(24)}`, name: "laptop" })
    const made = await ask(gateway, anna, "/user/hosts/register", { method: "POST", body })
    expect(made.status).toBe(200)
    expect((await ask(gateway, anna, "/user/hosts")).body["hosts"]).toHaveLength(1)
    expect((await ask(gateway, bert, "/user/hosts")).body["hosts"]).toEqual([])
  })

  test.each<[string, () => Promise<string>]>([
    ["of another secret", async () => await hs256(good(), "another-secret-of-thirty-two-bytes-xx")],
    ["without an end", async () => await hs256({ ...good(), exp: undefined })],
    ["that has expired", async () => await hs256({ ...good(), exp: inAnHour() - 7200 })],
    ["that is not valid yet", async () => await hs256({ ...good(), nbf: inAnHour() })],
    ["of another issuer", async () => await hs256({ ...good(), iss: "https://other" })],
    ["for another audience", async () => await hs256({ ...good(), aud: "other" })],
    ["without an audience", async () => await hs256({ ...good(), aud: undefined })],
    ["that names nobody", async () => await hs256({ ...good(), sub: "" })],
    ["without a subject", async () => await hs256({ ...good(), sub: undefined })],
    ["with a subject that is no text", async () => await hs256({ ...good(), sub: 7 })],
    ["signed with another hash", async () => await hs256(good(), SECRET, "HS512")],
    ["that is not signed", async () => new UnsecuredJWT(good()).encode()],
    ["cut short", async () => (await hs256(good())).slice(0, -4)],
    ["of another gateway's host", async () => "x".repeat(43)],
    ["that nobody made", async () => `dct_${"x".repeat(43)}`],
  ])("a token %s is refused, and nothing of it is said", async (_, make) => {
    const gateway = await opened(byHs256)
    const token = await make()
    const answer = await ask(gateway, token)
    expect(answer).toMatchObject({ status: 401, body: { error: { code: "not_signed_in" } } })
    expect(JSON.stringify(answer)).not.toContain(token.slice(0, 30))
  })

  test("nobody at all is told how to sign in", async () => {
    const gateway = await opened(byHs256)
    expect(await ask(gateway, null)).toMatchObject({ status: 401, body: { error: { hint: "decamp login" } } })
    expect(await ask(gateway, null, "/.well-known/decamp")).toMatchObject({ body: { signIn: { kind: "hs256" } } })
  })

  test("a clock that differs by less than a minute does no harm", async () => {
    const gateway = await opened(byHs256)
    const now = Math.floor(Date.now() / 1000)
    expect((await ask(gateway, await hs256({ ...good(), exp: now - 30 }))).status).toBe(200)
    expect((await ask(gateway, await hs256({ ...good(), nbf: now + 30 }))).status).toBe(200)
  })
})

test("one secret for one person: that one and no other", async () => {
  const token = "the-one-and-only-token-of-this-gateway"
  const gateway = await opened({ kind: "bearer", token })
  expect((await ask(gateway, token)).body).toEqual({ subject: "local", method: "bearer", expiresAtMs: null })
  expect((await ask(gateway, `${token}x`)).status).toBe(401)
})

test("a gateway behind a socket lets nobody in over TCP", async () => {
  const gateway = await begin()
  expect((await ask(gateway, null)).status).toBe(404)
  expect((await ask(gateway, null, "/.well-known/decamp")).status).toBe(404)
})

describe("tokens for programs", () => {
  test("do what their maker may, until they end or are revoked; a token makes no token", async () => {
    let nowMs = Date.now()
    const gateway = await begin({ signIn: { kind: "bearer", token: SECRET }, nowMs: () => nowMs })
    const body = JSON.stringify({ name: "ci", days: 2 })
    const made = await ask(gateway, SECRET, "/user/tokens", { method: "POST", body })
    const token = String(made.body["token"])
    expect(token).toStartWith("dct_")
    expect((await ask(gateway, token)).body).toMatchObject({ subject: "ci", method: "token" })
    expect((await ask(gateway, SECRET, "/user/tokens", { method: "POST", body })).status).toBe(409)
    const another = JSON.stringify({ name: "more", days: 2 })
    expect((await ask(gateway, token, "/user/tokens", { method: "POST", body: another })).status).toBe(403)
    const listed = await ask(gateway, SECRET, "/user/tokens")
    expect(listed.body["tokens"]).toMatchObject([{ name: "ci", usedAtMs: nowMs }])
    expect(JSON.stringify(listed)).not.toContain(token)
    nowMs += 2 * 86_400_000
    expect((await ask(gateway, token)).status).toBe(401)
    nowMs -= 86_400_000
    expect((await ask(gateway, token)).status).toBe(200)
    expect((await ask(gateway, SECRET, "/user/tokens/ci", { method: "DELETE" })).status).toBe(200)
    expect((await ask(gateway, token)).status).toBe(401)
    expect((await ask(gateway, SECRET, "/user/tokens/ci", { method: "DELETE" })).status).toBe(404)
  })

  test("lie in the database as their hash alone", async () => {
    const stateDir = await folder("tokens")
    const gateway = await begin({ stateDir, signIn: { kind: "bearer", token: SECRET } })
    const body = JSON.stringify({ name: "ci", days: 2 })
    const made = await ask(gateway, SECRET, "/user/tokens", { method: "POST", body })
    const token = String(made.body["token"])
    await endAll()
    const bytes = await Bun.file(join(stateDir, "gateway.db")).bytes()
    expect(Buffer.from(bytes).includes("ci")).toBe(true)
    expect(Buffer.from(bytes).includes(token.slice(4))).toBe(false)
  })
})

describe("an issuer (OpenID Connect)", () => {
  const keys = new Map<string, CryptoKey>()
  const published: Record<string, unknown>[] = []
  let server: ReturnType<typeof Bun.serve>
  let issuer: string
  let asked = 0
  let isAway = false

  async function add(kid: string, alg: "RS256" | "ES256" | "EdDSA"): Promise<void> {
    const pair = await generateKeyPair(alg, { extractable: true })
    keys.set(kid, pair.privateKey)
    published.push({ ...(await exportJWK(pair.publicKey)), kid, alg, use: "sig" })
  }
  const signed = async (kid: string, alg: string, change: JWTPayload = {}): Promise<string> => {
    const claims = { sub: "anna", iss: issuer, aud: "decamp-cli", exp: inAnHour(), ...change }
    const found = keys.get(kid)
    if (found === undefined) throw new Error(`no key ${kid}`)
    return await new SignJWT(claims).setProtectedHeader({ alg, kid }).sign(found)
  }
  const settings = (): SignInSettings => ({
    kind: "oidc",
    issuer,
    audience: null,
    clientId: "decamp-cli",
    userClaim: "sub",
  })

  beforeAll(async () => {
    server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        const { pathname } = new URL(request.url)
        if (isAway) return new Response("away", { status: 503 })
        if (pathname.startsWith("/liar/")) return Response.json({ issuer, jwks_uri: `${issuer}/keys` })
        if (pathname.endsWith("/openid-configuration")) return Response.json({ issuer, jwks_uri: `${issuer}/keys` })
        asked += 1
        return Response.json({ keys: published })
      },
    })
    issuer = `http://127.0.0.1:${server.port}`
    await add("r", "RS256")
    await add("e", "ES256")
    await add("d", "EdDSA")
  })
  afterAll(async () => await server.stop(true))

  test.each([
    ["r", "RS256"],
    ["e", "ES256"],
    ["d", "EdDSA"],
  ])("signs with %s (%s)", async (kid, alg) => {
    const gateway = await opened(settings())
    expect((await ask(gateway, await signed(kid, alg))).body).toMatchObject({ subject: "anna", method: "oidc" })
  })

  test("a new key of it is found, and unknown ones don't make us ask for each", async () => {
    const gateway = await opened(settings())
    expect((await ask(gateway, await signed("r", "RS256"))).status).toBe(200)
    const before = asked
    keys.set("forged", (await generateKeyPair("RS256")).privateKey)
    for (let n = 0; n < 5; n += 1) expect((await ask(gateway, await signed("forged", "RS256"))).status).toBe(401)
    expect(asked - before).toBeLessThanOrEqual(1)
    await add("new", "ES256")
    const fresh = await opened(settings())
    expect((await ask(fresh, await signed("new", "ES256"))).status).toBe(200)
  })

  test("its public key is no shared secret", async () => {
    const gateway = await opened(settings())
    const jwk = JSON.stringify(published[0])
    const claims = { sub: "anna", iss: issuer, aud: "decamp-cli", exp: inAnHour() }
    const forged = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: "r" }).sign(key(jwk))
    expect(await ask(gateway, forged)).toMatchObject({ status: 401 })
    expect(await ask(gateway, new UnsecuredJWT(claims).encode())).toMatchObject({ status: 401 })
  })

  test.each([
    ["for another audience", { aud: "somebody-else" }],
    ["of another issuer", { iss: "https://other" }],
    ["that has expired", { exp: 1000 }],
    ["without an end", { exp: undefined }],
  ])("a token %s is refused", async (_, change) => {
    const gateway = await opened(settings())
    expect((await ask(gateway, await signed("r", "RS256", change as JWTPayload))).status).toBe(401)
  })

  test("the person may be named by another claim", async () => {
    const gateway = await opened({ ...settings(), userClaim: "email" } as SignInSettings)
    const token = await signed("r", "RS256", { email: "anna@example.com" })
    expect((await ask(gateway, token)).body["subject"]).toBe("anna@example.com")
    expect((await ask(gateway, await signed("r", "RS256"))).status).toBe(401)
  })

  test("while it is away nobody is called a stranger; afterwards it is asked again", async () => {
    let nowMs = Date.now()
    const gateway = await begin({ signIn: settings(), nowMs: () => nowMs })
    isAway = true
    expect(await ask(gateway, await signed("r", "RS256"))).toMatchObject({ status: 503 })
    isAway = false
    nowMs += 6000
    expect((await ask(gateway, await signed("r", "RS256"))).status).toBe(200)
  })

  test("one that names another issuer in its document is not believed", async () => {
    const gateway = await opened({ ...settings(), issuer: `${issuer}/liar` } as SignInSettings)
    expect(await ask(gateway, await signed("r", "RS256"))).toMatchObject({ status: 503 })
  })
})

/** No secret leaves where it belongs: after a gateway has worked and failed, its log, its answers, its command line and its database are searched. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { SignJWT } from "jose"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { hostApi, userApi } from "../../src/client/gateway-client.ts"
import type { Fetcher } from "../../src/client/http.ts"
import { PROTOCOL_HEADER } from "../../src/protocol/gateway-api.ts"
import { createTokenAnswerSchema } from "../../src/protocol/sign-in.ts"
import { PROTOCOL_VERSION } from "../../src/protocol/version.ts"
import { openSpool } from "../../src/storage/spool.ts"
import { newClock } from "../bench/load-figures.ts"
import { handOver, makeTenant, push } from "../bench/load-tenant.ts"
import { hasTeam, startTeam, type Team } from "./team.ts"

const isHere = hasTeam()
const canary = (what: string): string => `canary-${what}-${crypto.randomUUID().replaceAll("-", "")}`
const SECRET = canary("hs256")
const METRICS = canary("metrics")
let folder: string
let team: Team
/** What must be found nowhere, by what it is. */
const secrets = new Map<string, string>()
/** Everything that was answered with a failure. */
const refusals: string[] = []
const failing = new Set<string>()

beforeAll(async () => {
  if (!isHere) return
  folder = await mkdtemp(join(tmpdir(), "decamp-canaries-"))
  const settings = { SIGN_IN: "hs256", HS256_SECRET: SECRET, METRICS_TOKEN: METRICS }
  team = await startTeam({ folder, env: { HOME: folder, PATH: process.env["PATH"] ?? "" }, count: 1, settings })
}, 120_000)
afterAll(async () => {
  if (!isHere) return
  await team[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
}, 60_000)

const SIGNATURE = /X-Amz-(?:Signature|Credential|Security-Token)=([^&"\s]{16,})/g

/** Remembers what must not be seen again: the token that is shown, and the signatures in what comes back. */
function keen(token: string): Fetcher {
  secrets.set(`a token (${token.slice(0, 4)}… ${secrets.size})`, token)
  return async (path, init = {}) => {
    const response = await fetch(`${team.url}${path}`, {
      method: init.method ?? "GET",
      headers: { [PROTOCOL_HEADER]: String(PROTOCOL_VERSION), authorization: `Bearer ${token}`, ...init.headers },
      ...(init.body === undefined ? {} : { body: init.body }),
    })
    const text = await response.clone().text()
    if (!response.ok) refusals.push(text)
    for (const [, signature = ""] of text.matchAll(SIGNATURE)) secrets.set(`a signature ${secrets.size}`, signature)
    return response
  }
}

async function signedIn(user: string, expires = "1h"): Promise<string> {
  return await new SignJWT({})
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setExpirationTime(expires)
    .sign(new TextEncoder().encode(SECRET))
}

/** All rows of all tables, as text. */
async function database(): Promise<string> {
  const tables = await team.sql("select relname as name from pg_stat_user_tables")
  const texts = await Promise.all(
    tables.map(async (row) => {
      const { name } = row as { name: string }
      return JSON.stringify(await team.sql(`select * from "${name}"`))
    }),
  )
  return texts.join("\n")
}

async function work(): Promise<void> {
  const token = await signedIn("ada")
  const bucket = (await (await fetch(`${team.url}/.well-known/decamp`)).json()) as { storeUrl: string }
  const door = { user: keen(token), host: keen, storeUrl: bucket.storeUrl }
  const tenant = await makeTenant({ door, clock: newClock(), name: "ada", workspaces: 1 })
  const [workspace] = tenant.workspaces
  if (workspace === undefined) throw new Error("no workspace")
  const spools = {
    out: await openSpool(await mkdtemp(join(folder, "out-"))),
    in: await openSpool(await mkdtemp(join(folder, "in-"))),
  }
  const content = (bytes: number): Uint8Array => crypto.getRandomValues(new Uint8Array(Math.min(bytes, 60_000)))
  const worker = { tenant, clock: newClock(), random: Math.random, content, spools }
  await push(worker, workspace)
  await handOver(worker, workspace)
  const made = await door.user("/user/tokens", { method: "POST", body: JSON.stringify({ name: "ci", days: 1 }) })
  const { token: forCi } = createTokenAnswerSchema.parse(await made.json())
  await userApi(keen(forCi)).workspaces()
}

/** What goes wrong in a day. */
async function fail(): Promise<void> {
  const wrong = async (name: string, ask: () => Promise<unknown>): Promise<void> => {
    await ask().catch(() => failing.add(name))
  }
  await wrong("expired", async () => await userApi(keen(await signedIn("ada", "-1h"))).workspaces())
  await wrong("forged", async () => await userApi(keen(`${await signedIn("ada")}x`)).workspaces())
  await wrong("made up", async () => await userApi(keen(`dct_${canary("ci")}`)).workspaces())
  await wrong("of no host", async () => await hostApi(keen(canary("host"))).work())
  const body = JSON.stringify({ secret: canary("body") })
  secrets.set("what a request said", body.slice(11, -2))
  const ada = keen(await signedIn("ada"))
  for (const path of ["/user/handoffs", "/user/workspaces", "/user/tokens", "/user/hosts/register"]) {
    const answer = await ada(path, { method: "POST", body })
    if (!answer.ok) failing.add(path)
  }
  const query = canary("query")
  secrets.set("a query", query)
  await ada(`/user/workspaces/none?token=${query}`)
  await ada(`/blobs/x?expires=1&signature=${query}`)
}

function sightings(text: string): string[] {
  return [...secrets].filter(([, secret]) => text.includes(secret)).map(([what]) => what)
}

describe.skipIf(!isHere)("a gateway that has worked and failed", () => {
  test("has said no token, key, password, signature or content anywhere", async () => {
    secrets.set("the secret of the sign-in", SECRET)
    secrets.set("the token of the metrics", METRICS)
    secrets.set("the password of the database", "not-a-secret")
    secrets.set("the key of the store", "secretsecret")
    await work()
    await fail()
    expect(failing.size).toBeGreaterThanOrEqual(7)
    expect([...secrets.keys()].filter((what) => what.startsWith("a signature")).length).toBeGreaterThan(4)
    const [gateway] = team.gateways
    const log = await readFile(join(folder, "gateway-0/log"), "utf8")
    expect(log).toContain("a request failed")
    const shown = [await fetch(`${team.url}/metrics`), await fetch(`${team.url}/readyz`)]
    const page = await (await fetch(`${team.url}/metrics`, { headers: { authorization: `Bearer ${METRICS}` } })).text()
    expect(page).toContain("decamp_requests_total")
    expect({
      log: sightings(log),
      refusals: sightings(refusals.join("\n")),
      argv: sightings(await readFile(`/proc/${gateway?.pid}/cmdline`, "utf8")),
      database: sightings(await database()),
      open: sightings((await Promise.all(shown.map(async (answer) => await answer.text()))).join("\n") + page),
    }).toEqual({ log: [], refusals: [], argv: [], database: [], open: [] })
  }, 120_000)

  const starts: readonly (readonly [string, string, (secret: string) => string])[] = [
    ["a database that is not there", "DATABASE", (secret) => `postgres://decamp:${secret}@127.0.0.1:1/decamp`],
    ["a secret that is too short", "HS256_SECRET", (secret) => secret.slice(0, 20)],
    ["a store without its address", "S3_SECRET_ACCESS_KEY", (secret) => secret],
  ]
  test.each(starts)(
    "one that can't begin because of %s does not say the secret",
    async (_, key, value) => {
      const secret = canary("start")
      const env = {
        HOME: folder,
        PATH: process.env["PATH"] ?? "",
        DECAMP_GATEWAY_STATE: await mkdtemp(join(folder, "state-")),
        DECAMP_GATEWAY_LISTEN: "127.0.0.1:0",
        DECAMP_GATEWAY_SIGN_IN: "hs256",
        DECAMP_GATEWAY_HS256_SECRET: canary("long"),
        DECAMP_GATEWAY_STORE: key.startsWith("S3") ? "s3" : "directory",
        [`DECAMP_GATEWAY_${key}`]: value(secret),
      }
      const program = [process.execPath, join(import.meta.dir, "../../src/main.ts"), "gateway", "serve"]
      const child = Bun.spawn(program, { env, stdout: "pipe", stderr: "pipe" })
      const said = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ])
      expect([said[2], said.slice(0, 2).join("").length > 20]).toEqual([expect.any(Number), true])
      expect(said[2]).not.toBe(0)
      expect(said.slice(0, 2).join("")).not.toContain(secret.slice(0, 20))
    },
    60_000,
  )
})

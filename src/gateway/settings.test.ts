import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { readSettings } from "./settings.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-settings-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

async function fileOf(text: string): Promise<string> {
  const path = join(folder, `${crypto.randomUUID()}.toml`)
  await Bun.write(path, text)
  return path
}
const LONG = "x".repeat(40)

test("with nothing said it is a gateway for one person behind a socket", async () => {
  expect(await readSettings(null, {})).toMatchObject({
    listen: null,
    postgres: null,
    s3: null,
    signIn: { kind: "socket" },
    hosts: ["local", "ssh"],
    limits: { maxBytes: null, maxBlobs: null },
  })
})

test("a file says everything, and the environment wins over it", async () => {
  const path = await fileOf(`
    listen = "[::1]:7878"
    public_url = "https://decamp.example.com/"
    database = "postgres://decamp@db/decamp"
    store = "s3"
    s3_endpoint = "https://s3.example.com"
    s3_bucket = "one"
    s3_access_key_id = "id"
    s3_secret_access_key = "secret"
    sign_in = "oidc"
    oidc_issuer = "https://id.example.com"
    oidc_client_id = "decamp"
    hosts = ["ssh"]
    max_bytes = 1000
  `)
  const env = { DECAMP_GATEWAY_S3_BUCKET: "two", DECAMP_GATEWAY_MAX_BYTES: "2000", DECAMP_GATEWAY_KEEP_DAYS: "" }
  expect(await readSettings(path, { ...env, PATH: "/bin" })).toEqual({
    stateDir: null,
    listen: { host: "::1", port: 7878 },
    userSocket: null,
    publicUrl: "https://decamp.example.com",
    postgres: "postgres://decamp@db/decamp",
    s3: {
      endpoint: "https://s3.example.com",
      bucket: "two",
      region: "us-east-1",
      accessKeyId: "id",
      secretAccessKey: "secret",
    },
    signIn: { kind: "oidc", issuer: "https://id.example.com", audience: null, clientId: "decamp", userClaim: "sub" },
    hosts: ["ssh"],
    limits: { maxBytes: 2000, maxBlobs: null, maxOpenHandoffs: 100, requestsPerMinute: 6000 },
    retention: { keepLast: 20, keepDays: 30 },
    metricsToken: null,
  })
})

test("a secret may lie in a file of its own, whose last line end is not part of it", async () => {
  const path = join(folder, "secret")
  await Bun.write(path, `${LONG}\n`)
  const env = { DECAMP_GATEWAY_SIGN_IN: "hs256", DECAMP_GATEWAY_HS256_SECRET_FILE: path }
  expect((await readSettings(null, env)).signIn).toMatchObject({ kind: "hs256", secret: LONG })
})

test("who signs in to a server for many adds no hosts that run on it, unless its operator says so", async () => {
  const env = { DECAMP_GATEWAY_SIGN_IN: "hs256", DECAMP_GATEWAY_HS256_SECRET: LONG }
  expect((await readSettings(null, env)).hosts).toEqual([])
  expect((await readSettings(null, { ...env, DECAMP_GATEWAY_HOSTS: "local, ssh" })).hosts).toEqual(["local", "ssh"])
})

const CANARY = "canary-of-a-secret-value"

test.each([
  ["lisen", "is no setting", { LISEN: CANARY }],
  ["listen", "HOST:PORT", { LISTEN: CANARY }],
  ["listen", "65535", { LISTEN: "127.0.0.1:70000", SIGN_IN: "hs256", HS256_SECRET: LONG }],
  ["database", "postgres", { DATABASE: `mysql://${CANARY}@x` }],
  ["store", "directory", { STORE: CANARY }],
  ["s3_endpoint", "missing", { STORE: "s3" }],
  ["s3_secret_access_key", "missing", { STORE: "s3", S3_ENDPOINT: "http://x", S3_BUCKET: "b", S3_ACCESS_KEY_ID: "i" }],
  ["s3_endpoint", "", { STORE: "s3", S3_ENDPOINT: "ftp://x" }],
  ["sign_in", "", { SIGN_IN: CANARY }],
  ["sign_in", "over TCP anybody", { LISTEN: "127.0.0.1:1" }],
  ["allow_static_bearer", "must be true", { SIGN_IN: "bearer", BEARER_TOKEN: LONG + CANARY }],
  ["bearer_token", "32 characters", { SIGN_IN: "bearer", ALLOW_STATIC_BEARER: "true", BEARER_TOKEN: "canary" }],
  ["bearer_token", "missing", { SIGN_IN: "bearer", ALLOW_STATIC_BEARER: "true" }],
  ["hs256_secret", "32 characters", { SIGN_IN: "hs256", HS256_SECRET: CANARY.slice(0, 20) }],
  ["hs256_secret_file", "can't be read", { SIGN_IN: "hs256", HS256_SECRET_FILE: "/nowhere" }],
  ["oidc_issuer", "missing", { SIGN_IN: "oidc", OIDC_CLIENT_ID: "x" }],
  ["oidc_audience", "missing", { SIGN_IN: "oidc", OIDC_ISSUER: "https://x" }],
  ["hosts", "", { HOSTS: "laptop" }],
  ["max_bytes", "", { MAX_BYTES: "-1" }],
  ["requests_per_minute", "", { REQUESTS_PER_MINUTE: "many" }],
])("a wrong %s is refused by its name (%s)", async (key, words, given) => {
  const env = Object.fromEntries(Object.entries(given).map(([name, value]) => [`DECAMP_GATEWAY_${name}`, value]))
  const error = await readSettings(null, env).catch((failure: unknown) => failure)
  expect(error).toMatchObject({ code: "usage" })
  expect(String(error)).toContain(`setting ${key}`)
  expect(String(error)).toContain(words)
  expect(String(error)).not.toContain("canary")
})

test("a file that is not there, or no TOML, is said without what is in it", async () => {
  await expect(readSettings(join(folder, "none"), {})).rejects.toMatchObject({ code: "usage" })
  const broken = await readSettings(await fileOf(`bearer_token = ${CANARY}`), {}).catch((failure: unknown) => failure)
  expect(broken).toMatchObject({ code: "usage" })
  expect(String(broken)).not.toContain(CANARY)
})

/** What a load runs against: gateways as processes of their own, as `decamp gateway serve` starts them, and their database and store. */
import { SignJWT } from "jose"
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { z } from "zod"
import type { Fetcher } from "../../src/client/http.ts"
import { PROTOCOL_HEADER } from "../../src/protocol/gateway-api.ts"
import { PROTOCOL_VERSION } from "../../src/protocol/version.ts"
import { postgresVersions, startPostgres } from "../services/postgres.ts"
import { hasS3, startS3 } from "../support/s3.ts"
import type { Door } from "./load-tenant.ts"

export type Setting = "postgres-s3" | "sqlite-directory"

export interface Servers extends AsyncDisposable {
  /** Of one user. Each request goes to one of the gateways, by chance. */
  door(user: string): Promise<Door>
  /** Who uses the machine: names, and the processes that count for them with all their children. */
  readonly processes: ReadonlyMap<string, readonly number[]>
  /** Size of the database and of the store, in words. */
  sizes(): Promise<string>
}

const SECRET = "load-".repeat(10)

/** @param gateways how many share the database and the store; more than one only with Postgres and S3 */
export async function startServers(setting: Setting, gateways: number): Promise<Servers> {
  await using starting = new AsyncDisposableStack()
  const folder = await mkdtemp(join(tmpdir(), "decamp-load-servers-"))
  starting.defer(async () => await rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, "secret"), SECRET, { mode: 0o600 })
  const shared = setting === "postgres-s3" ? await startShared(starting) : NOTHING_SHARED
  const made: { readonly url: string; readonly pid: number }[] = []
  for (let n = 0; n < gateways; n++)
    made.push(await startGatewayProcess(starting, join(folder, `gateway-${n}`), shared.env))
  const kept = starting.move()
  const urls = made.map(({ url }) => url)
  return {
    async door(user) {
      const token = await new SignJWT({})
        .setProtectedHeader({ alg: "HS256" })
        .setSubject(user)
        .setIssuedAt()
        .setExpirationTime("24h")
        .sign(new TextEncoder().encode(SECRET))
      return { user: tcpFetcher(urls, token), host: (shown) => tcpFetcher(urls, shown), storeUrl: shared.storeUrl }
    },
    processes: new Map([...made.map(({ pid }, n) => [`gateway ${n + 1}`, [pid]] as const), ...shared.pids]),
    sizes: async () => [await sizesOf(folder), ...(await shared.tables())].join("\n"),
    [Symbol.asyncDispose]: async () => await kept.disposeAsync(),
  }
}

interface Shared {
  readonly env: Readonly<Record<string, string>>
  readonly storeUrl: string | null
  readonly pids: readonly (readonly [string, readonly number[]])[]
  /** Rows and bytes of each table, in words. */
  readonly tables: () => Promise<readonly string[]>
}

const NOTHING_SHARED: Shared = { env: {}, storeUrl: null, pids: [], tables: async () => [] }

/** Rows as the statistics know them; bytes with the indexes, vacuumed before. */
const TABLES = `select relname as name, n_live_tup::text as rows, pg_total_relation_size(relid)::text as bytes,
  pg_indexes_size(relid)::text as indexes from pg_stat_user_tables where n_live_tup > 0 order by relname`
const tableSchema = z.array(z.object({ name: z.string(), rows: z.string(), bytes: z.string(), indexes: z.string() }))

async function startShared(starting: AsyncDisposableStack): Promise<Shared> {
  const [version] = postgresVersions()
  if (version === undefined || !hasS3()) throw new Error("a Postgres and an S3 server are needed: see above")
  const postgres = starting.use(await startPostgres(version, { isDurable: true }))
  const s3 = starting.use(await startS3())
  const bucket = await s3.bucket()
  const database = await postgres.database()
  return {
    async tables() {
      await postgres.run(database, "vacuum (full, analyze)")
      const rows = tableSchema.parse(await postgres.run(database, TABLES))
      return rows.map(
        ({ name, rows: count, bytes, indexes }) => `- ${name}: ${count} rows, ${bytes} bytes (${indexes} of indexes)`,
      )
    },
    env: {
      DECAMP_GATEWAY_DATABASE: database,
      DECAMP_GATEWAY_STORE: "s3",
      DECAMP_GATEWAY_S3_ENDPOINT: bucket.endpoint,
      DECAMP_GATEWAY_S3_BUCKET: bucket.bucket,
      DECAMP_GATEWAY_S3_REGION: bucket.region,
      DECAMP_GATEWAY_S3_ACCESS_KEY_ID: bucket.accessKeyId,
      DECAMP_GATEWAY_S3_SECRET_ACCESS_KEY: bucket.secretAccessKey,
    },
    storeUrl: `${bucket.endpoint}/${bucket.bucket}`,
    pids: [
      ["Postgres", [postgres.pid]],
      ["S3 server", s3.pids],
    ],
  }
}

/** Nobody is refused for being quick: what the machine can do is asked for. */
const UNLIMITED = { REQUESTS_PER_MINUTE: "10000000", MAX_BYTES: String(2 ** 50), MAX_BLOBS: String(10 ** 9) }

const READY_MS = 60_000

async function startGatewayProcess(
  starting: AsyncDisposableStack,
  state: string,
  env: Readonly<Record<string, string>>,
): Promise<{ readonly url: string; readonly pid: number }> {
  await mkdir(state, { mode: 0o700 })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const limits = Object.entries(UNLIMITED).map(([name, value]) => [`DECAMP_GATEWAY_${name}`, value])
  const log = join(state, "log")
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../../src/main.ts"), "gateway", "serve"], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: state,
      DECAMP_GATEWAY_STATE: join(state, "state"),
      DECAMP_GATEWAY_LISTEN: `127.0.0.1:${port}`,
      DECAMP_GATEWAY_SIGN_IN: "hs256",
      DECAMP_GATEWAY_HS256_SECRET_FILE: join(state, "../secret"),
      ...Object.fromEntries(limits),
      ...env,
    },
    stdin: "ignore",
    stdout: Bun.file(log),
    stderr: Bun.file(`${log}.err`),
  })
  starting.defer(async () => {
    child.kill("SIGTERM")
    const late = setTimeout(() => child.kill("SIGKILL"), 40_000)
    await child.exited
    clearTimeout(late)
  })
  const until = performance.now() + READY_MS
  for (;;) {
    const ready = await fetch(`${url}/readyz`).catch(() => null)
    if (ready?.ok === true) return { url, pid: child.pid }
    if (child.exitCode !== null || performance.now() > until) {
      throw new Error(`the gateway is not ready: ${await readFile(`${log}.err`, "utf8")}${await readFile(log, "utf8")}`)
    }
    await Bun.sleep(100)
  }
}

/** Redirects are not followed; a connection is kept for the next request, as a daemon's is. */
function tcpFetcher(urls: readonly string[], token: string): Fetcher {
  return async (path, init = {}) =>
    await fetch(`${urls[Math.floor(Math.random() * urls.length)] ?? ""}${path}`, {
      method: init.method ?? "GET",
      headers: { [PROTOCOL_HEADER]: String(PROTOCOL_VERSION), authorization: `Bearer ${token}`, ...init.headers },
      ...(init.body === undefined ? {} : { body: init.body }),
      ...(init.signal === undefined ? {} : { signal: init.signal }),
      redirect: "manual",
    })
}

async function sizesOf(folder: string): Promise<string> {
  const child = Bun.spawn(["du", "-sh", "--apparent-size", folder], { stdout: "pipe" })
  const text = await new Response(child.stdout).text()
  return `state folders of the gateways: ${text.split("\t")[0] ?? ""}`
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })
}

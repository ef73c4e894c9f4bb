/** A team's gateway for tests and for the demo: processes of `decamp gateway serve` on one Postgres and one S3, behind one address. */
import { mkdir } from "node:fs/promises"
import { connect, createServer, type AddressInfo, type Socket } from "node:net"
import { join } from "node:path"
import { hasS3, startS3 } from "../support/s3.ts"
import { BINARY } from "../support/world.ts"
import { postgresVersions, startPostgres } from "./postgres.ts"

export interface TeamGateway {
  readonly pid: number
  /** As a power cut would. */
  kill(): Promise<void>
  /** As its service manager would; answers the exit code. */
  end(): Promise<number>
}

export interface Team extends AsyncDisposable {
  /** One address for all of them: connections go to one after the other, never to one that is gone. */
  readonly url: string
  /** What a person shows there. */
  readonly token: string
  readonly gateways: readonly TeamGateway[]
  /** Of the first Postgres. */
  readonly database: string
  sql(text: string): Promise<unknown[]>
}

export interface TeamOptions {
  /** A fresh folder. */
  readonly folder: string
  /** Of the gateways, and so of the hosts that they start. */
  readonly env: Readonly<Record<string, string>>
  readonly count?: number
  /** More settings, by key. */
  readonly settings?: Readonly<Record<string, string>>
}

/** Whether this machine has what is needed; says what is missing when not. In CI it must be there. */
export function hasTeam(): boolean {
  return hasS3() && postgresVersions().length > 0
}

export async function startTeam({ folder, env, count = 2, settings = {} }: TeamOptions): Promise<Team> {
  const [version] = postgresVersions()
  if (version === undefined) throw new Error("there is no Postgres")
  const stack = new AsyncDisposableStack()
  try {
    const postgres = stack.use(await startPostgres(version))
    const s3 = stack.use(await startS3())
    const [database, bucket] = [await postgres.database(), await s3.bucket()]
    const proxy = stack.use(await startProxy())
    const url = `http://127.0.0.1:${proxy.port}`
    const token = `team-${crypto.randomUUID()}`
    const gateways: TeamGateway[] = []
    for (let n = 0; n < count; n += 1) {
      const state = join(folder, `gateway-${n}`)
      await mkdir(state, { recursive: true })
      const port = await freePort()
      const gateway = stack.use(
        await startOne(join(state, "log"), {
          ...env,
          DECAMP_GATEWAY_STATE: state,
          DECAMP_GATEWAY_LISTEN: `127.0.0.1:${port}`,
          DECAMP_GATEWAY_PUBLIC_URL: url,
          DECAMP_GATEWAY_DATABASE: database,
          DECAMP_GATEWAY_STORE: "s3",
          DECAMP_GATEWAY_S3_ENDPOINT: bucket.endpoint,
          DECAMP_GATEWAY_S3_BUCKET: bucket.bucket,
          DECAMP_GATEWAY_S3_REGION: bucket.region,
          DECAMP_GATEWAY_S3_ACCESS_KEY_ID: bucket.accessKeyId,
          DECAMP_GATEWAY_S3_SECRET_ACCESS_KEY: bucket.secretAccessKey,
          DECAMP_GATEWAY_SIGN_IN: "bearer",
          DECAMP_GATEWAY_ALLOW_STATIC_BEARER: "true",
          DECAMP_GATEWAY_BEARER_TOKEN: token,
          ...Object.fromEntries(Object.entries(settings).map(([key, value]) => [`DECAMP_GATEWAY_${key}`, value])),
        }),
      )
      await isReady(`http://127.0.0.1:${port}`)
      proxy.ports.push(port)
      gateways.push(gateway)
    }
    const owned = stack.move()
    return {
      url,
      token,
      gateways,
      database,
      sql: async (text) => await postgres.run(database, text),
      [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

async function startOne(log: string, env: Readonly<Record<string, string>>): Promise<TeamGateway & AsyncDisposable> {
  const file = Bun.file(log)
  const child = Bun.spawn([BINARY, "gateway", "serve"], {
    env: { ...env },
    stdin: "ignore",
    stdout: file,
    stderr: file,
  })
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL")
    await child.exited
  }
  return {
    pid: child.pid,
    kill,
    async end() {
      child.kill("SIGTERM")
      return await child.exited
    },
    [Symbol.asyncDispose]: kill,
  }
}

async function isReady(url: string): Promise<void> {
  for (let n = 0; n < 400; n += 1) {
    const answer = await fetch(`${url}/readyz`).catch(() => null)
    if (answer?.ok === true) return
    await Bun.sleep(50)
  }
  throw new Error(`the gateway at ${url} is not ready`)
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

/** What stands in front of a team's gateways anywhere: the next connection goes to the next one that takes it. */
async function startProxy(): Promise<AsyncDisposable & { readonly port: number; readonly ports: number[] }> {
  const ports: number[] = []
  const sockets = new Set<Socket>()
  let next = 0
  const reach = (near: Socket, tries: number): void => {
    const port = ports[next++ % Math.max(1, ports.length)] ?? 0
    const far = connect(port, "127.0.0.1")
    let isThrough = false
    far.once("connect", () => {
      isThrough = true
      sockets.add(far)
      near.pipe(far).pipe(near)
    })
    far.on("error", () => far.destroy())
    far.on("close", () => {
      sockets.delete(far)
      if (!isThrough && tries > 1) reach(near, tries - 1)
      else near.destroy()
    })
    near.on("close", () => far.destroy())
  }
  const server = createServer((near) => {
    sockets.add(near)
    near.on("error", () => near.destroy())
    near.on("close", () => sockets.delete(near))
    reach(near, ports.length)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()))
  return {
    port: (server.address() as AddressInfo).port,
    ports,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

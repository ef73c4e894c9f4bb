/** Hosts on this machine: a folder with a HOME, checkouts and a daemon of its own. */
import { open, readdir, rm, stat, truncate } from "node:fs/promises"
import { createConnection } from "node:net"
import { userInfo } from "node:os"
import { isAbsolute, join, resolve } from "node:path"
import { privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { socketPath } from "../lib/platform.ts"
import { run } from "../lib/process.ts"
import { AppError } from "../protocol/errors.ts"
import { LOCAL_HOST_SOCKET, localHostSchema, type LocalHost } from "../protocol/local-host.ts"
import type { HostConnection, HostPlace, Provisioner } from "./provisioner.ts"

export interface LocalProvisionerOptions {
  /** How decamp is started again. */
  readonly selfArgv: readonly string[]
  /** The gateway's host listener; a root made for another one is somebody else's. */
  readonly gatewaySocket: string
  /** The environment of this process; only what {@link PASSED_ON} names goes to a host. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** No XDG_*, OPENCODE_*, CLAUDE_*, CODEX_*, GIT_* or SSH_* of the caller reaches a host: it has a HOME of its own. */
const PASSED_ON = /^(PATH|LANG|LC_[A-Z]+|TZ|TMPDIR|https?_proxy|no_proxy|all_proxy|HTTPS?_PROXY|NO_PROXY|ALL_PROXY)$/
const START_MS = 20_000
const STOP_MS = 10_000
const POLL_MS = 25
const LOG_MAX_BYTES = 1024 * 1024

export function localProvisioner(options: LocalProvisionerOptions): Provisioner {
  const starting = new Map<string, Promise<void>>()
  const envOf = (root: string): Record<string, string> => hostEnvironment(options.env, root)
  const ensureRunning = async (place: HostPlace): Promise<void> => {
    if (await answers(socketOf(place.root))) return
    const known = starting.get(place.root)
    if (known !== undefined) return await known
    const work = start(place, options.selfArgv, envOf(place.root)).finally(() => starting.delete(place.root))
    starting.set(place.root, work)
    await work
  }
  return {
    async create({ host, name, root, token }) {
      const known = await checkRoot(root, options.gatewaySocket)
      for (const folder of ["", "home", "work", "state", "state/run"]) await privateFolder(join(root, folder))
      const inboundToken = known?.inboundToken ?? newToken()
      const file: LocalHost = {
        schema: 1,
        host: known?.host ?? host,
        name,
        gatewaySocket: options.gatewaySocket,
        token,
        inboundToken,
      }
      await writeFileDurably(join(root, "state", "host.json"), JSON.stringify(file))
      // A daemon that runs still has the old name and token.
      if (known !== null) await stop({ name, root })
      return file.host
    },
    async connect(place) {
      const file = await hostFile(place.root)
      if (file === null) throw gone(place)
      await ensureRunning(place)
      return { socket: socketOf(place.root), token: file.inboundToken } satisfies HostConnection
    },
    async status(place) {
      if ((await hostFile(place.root)) === null) return "gone"
      return (await answers(socketOf(place.root))) ? "running" : "stopped"
    },
    stop,
    async destroy(place) {
      await stop(place)
    },
    execPlan: (place) => ({ cwd: join(place.root, "home"), env: envOf(place.root) }),
  }
}

function gone(place: HostPlace): AppError {
  return new AppError("unreachable", `${place.name} is gone: ${place.root} is no host's root any more`, {
    hint: `if it is gone for good: decamp reclaim, then decamp hosts remove ${place.name}`,
  })
}

/** Random, 256 bits, for a header. */
export function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")
}

function socketOf(root: string): string {
  return socketPath(join(root, "state", "run"), LOCAL_HOST_SOCKET)
}

/** The environment of a local host: from an allow-list, with a HOME of its own. */
export function hostEnvironment(
  from: Readonly<Record<string, string | undefined>>,
  root: string,
): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(from)) {
    if (value !== undefined && PASSED_ON.test(name)) env[name] = value
  }
  return { ...env, HOME: join(root, "home") }
}

/** The host file of a root that is ours already, null for a root that is missing or empty. */
async function checkRoot(root: string, gatewaySocket: string): Promise<LocalHost | null> {
  if (!isAbsolute(root) || resolve(root) !== root || root === "/") {
    throw new AppError("usage", `the root of a host must be an absolute path in its plain form: ${root}`)
  }
  const known = await hostFile(root)
  if (known !== null && known.gatewaySocket === gatewaySocket) return known
  if (known !== null) {
    throw new AppError("usage", `${root} belongs to a host of another gateway (${known.name})`, {
      hint: "name another folder",
    })
  }
  const names = await readdir(root).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return []
    throw new AppError("usage", `${root} can't become a host's root`, { cause: error, hint: "name another folder" })
  })
  if (names.length > 0) {
    throw new AppError("usage", `${root} is not empty`, { hint: "name a folder that is missing or empty" })
  }
  return null
}

async function hostFile(root: string): Promise<LocalHost | null> {
  const path = join(root, "state", "host.json")
  const text = await readTextIfExists(path)
  if (text === null) return null
  try {
    return localHostSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read`, { cause: error })
  }
}

async function start(place: HostPlace, selfArgv: readonly string[], env: Record<string, string>): Promise<void> {
  const { name, root } = place
  const logPath = join(root, "state", "daemon.log")
  const log = await open(logPath, "a", 0o600)
  try {
    if ((await stat(logPath)).size > LOG_MAX_BYTES) await truncate(logPath, 0)
    const child = Bun.spawn([...selfArgv, "host", "serve", "--root", root], {
      cwd: root,
      env,
      stdin: "ignore",
      stdout: log.fd,
      stderr: log.fd,
      // Its own session: it outlives this process and its terminal.
      detached: true,
    })
    child.unref()
    const ended = child.exited.then(() => true)
    let hasEnded = false
    for (const until = performance.now() + START_MS; performance.now() < until;) {
      if (await answers(socketOf(root))) {
        if (!hasEnded) await writeFileDurably(pidPath(root), `${child.pid}\n`)
        return
      }
      hasEnded = await Promise.race([ended, Bun.sleep(POLL_MS).then(() => false)])
      // It ends at once when another start has won the daemon's lock: then that one will answer.
      if (hasEnded && (await daemonsOf(root)).length === 0) break
    }
    child.kill()
  } finally {
    await log.close()
  }
  throw new AppError("unreachable", `the daemon of ${name} did not start`, { hint: `look at ${logPath}` })
}

/** For people and their tools; {@link stop} doesn't believe it. */
function pidPath(root: string): string {
  return join(root, "state", "daemon.pid")
}

async function stop(place: HostPlace): Promise<boolean> {
  const pids = await daemonsOf(place.root)
  for (const pid of pids) signal(pid, "SIGTERM")
  for (const until = performance.now() + STOP_MS; performance.now() < until && pids.some(isAlive);) {
    await Bun.sleep(POLL_MS)
  }
  // Looked up again: an id may belong to somebody else by now.
  for (const pid of pids.some(isAlive) ? await daemonsOf(place.root) : []) signal(pid, "SIGKILL")
  await rm(pidPath(place.root), { force: true })
  return pids.length > 0
}

/**
 * Processes that run the daemon of exactly this root. Not by the recorded id: of two starts at once the one that loses the daemon's
 * lock may have recorded its own, and ids are used again.
 */
async function daemonsOf(root: string): Promise<number[]> {
  const env = { PATH: "/usr/local/bin:/usr/bin:/bin" }
  const argv = ["ps", "-axww", "-o", "pid=", "-o", "uid=", "-o", "args="] as const
  const { stdout } = await run([...argv], { env, timeoutMs: 10_000 })
  const lines = new TextDecoder().decode(stdout).split("\n")
  return lines.flatMap((line) => {
    const match = /^\s*(\d+)\s+(\d+)\s+(.*?)\s*$/.exec(line)
    const isMine = Number(match?.[2]) === userInfo().uid && match?.[3]?.endsWith(` host serve --root ${root}`) === true
    return isMine ? [Number(match?.[1])] : []
  })
}

function isAlive(pid: number): boolean {
  return signal(pid, 0)
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

/** Whether somebody listens on a unix socket. */
async function answers(socket: string): Promise<boolean> {
  return await new Promise((resolvePromise) => {
    const connection = createConnection({ path: socket })
    const end = (isThere: boolean): void => {
      connection.destroy()
      resolvePromise(isThere)
    }
    connection.once("connect", () => end(true))
    connection.once("error", () => end(false))
  })
}

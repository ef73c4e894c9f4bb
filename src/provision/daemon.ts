/** The daemon of a host's root on this machine: started so that it outlives its starter, ended by looking for exactly it. */
import { open, rm, stat, truncate } from "node:fs/promises"
import { createConnection } from "node:net"
import { userInfo } from "node:os"
import { join } from "node:path"
import { readTextIfExists, writeFileDurably } from "../lib/files.ts"
import { socketPath } from "../lib/platform.ts"
import { run } from "../lib/process.ts"
import { AppError } from "../protocol/errors.ts"
import { LOCAL_HOST_SOCKET, localHostSchema, type LocalHost } from "../protocol/local-host.ts"

const START_MS = 20_000
const STOP_MS = 10_000
const POLL_MS = 25
const LOG_MAX_BYTES = 1024 * 1024

/** Random, 256 bits, for a header. */
export function newToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64url")
}

/** Where the daemon of a root listens. */
export function socketOf(root: string): string {
  return socketPath(runFolder(root), LOCAL_HOST_SOCKET)
}

export function runFolder(root: string): string {
  return join(root, "state", "run")
}

export function hostFilePath(root: string): string {
  return join(root, "state", "host.json")
}

/** Who a root is; null for a folder that is no host's. @throws {AppError} damaged_data */
export async function readHostFile(root: string): Promise<LocalHost | null> {
  const path = hostFilePath(root)
  const text = await readTextIfExists(path)
  if (text === null) return null
  try {
    return localHostSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${path} can't be read`, { cause: error })
  }
}

export interface DaemonStart {
  /** Of the host, for people. */
  readonly name: string
  readonly root: string
  /** How decamp is started again. */
  readonly selfArgv: readonly string[]
  /** The whole environment of the daemon. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * Starts the daemon in a session of its own and waits until it answers. Of several starts at once one daemon comes out.
 * @throws {AppError} unreachable, naming its log
 */
export async function startDaemon({ name, root, selfArgv, env }: DaemonStart): Promise<void> {
  const logPath = join(root, "state", "daemon.log")
  const log = await open(logPath, "a", 0o600)
  try {
    if ((await stat(logPath)).size > LOG_MAX_BYTES) await truncate(logPath, 0)
    const child = Bun.spawn([...selfArgv, "host", "serve", "--root", root], {
      cwd: root,
      env: { ...env },
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

/** Waits for a daemon that something else has started. Answers whether it came. */
export async function daemonAnswers(root: string, withinMs = START_MS): Promise<boolean> {
  for (const until = performance.now() + withinMs; performance.now() < until;) {
    if (await answers(socketOf(root))) return true
    await Bun.sleep(POLL_MS)
  }
  return false
}

/** For people and their tools; {@link stopDaemon} doesn't believe it. */
function pidPath(root: string): string {
  return join(root, "state", "daemon.pid")
}

/** Answers whether one ran. */
export async function stopDaemon(root: string): Promise<boolean> {
  const pids = await daemonsOf(root)
  for (const pid of pids) signal(pid, "SIGTERM")
  for (const until = performance.now() + STOP_MS; performance.now() < until && pids.some(isAlive);) {
    await Bun.sleep(POLL_MS)
  }
  // Looked up again: an id may belong to somebody else by now.
  for (const pid of pids.some(isAlive) ? await daemonsOf(root) : []) signal(pid, "SIGKILL")
  await rm(pidPath(root), { force: true })
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
export async function answers(socket: string): Promise<boolean> {
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

/** One command at a time in a directory: within this daemon, and between the daemons of several HOMEs that work on one repository. */
import { lstat, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { z } from "zod"
import { isMissing, lockFile, privateFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"

export interface LockRequest {
  /** Real path. */
  readonly directory: string
  /** `$GIT_DIR` of the directory; null where there is none yet, or nothing of it is changed: then only this daemon's own commands wait. */
  readonly gitDir: string | null
  /** As a person would type it: `decamp pull`. */
  readonly command: string
  /** How long to wait for another command, milliseconds; null: until it ends. */
  readonly waitMs: number | null
  readonly signal: AbortSignal
  /** Told once who is waited for. */
  readonly notice: (text: string) => void
}

export interface Holder {
  readonly command: string
  readonly sinceMs: number
}

export interface DirectoryLocks {
  /**
   * Runs work when nobody else works in the directory.
   * @throws {AppError} busy naming the holder when `waitMs` is over; interrupted when the signal fires first; what `work` throws
   */
  hold<T>(request: LockRequest, work: () => Promise<T>): Promise<T>
  /** As {@link hold}, for a step of a hand-off: only the daemons of other HOMEs are kept away; who holds it already, holds it on. */
  share<T>(request: LockRequest, work: () => Promise<T>): Promise<T>
  /** The command of this daemon that works there now. */
  holder(directory: string): Holder | null
}

interface Held extends Holder {
  readonly waiting: (() => void)[]
}

const POLL_MS = 200

/** @param name of this host, for a person who is told to wait */
export function directoryLocks(name: () => string, nowMs: () => number): DirectoryLocks {
  const commands = new Map<string, Held>()
  const shared = sharedLocks(name, nowMs)

  async function enter(request: LockRequest): Promise<void> {
    const { directory, command } = request
    const holder = commands.get(directory)
    if (holder === undefined) {
      commands.set(directory, { command, sinceMs: nowMs(), waiting: [] })
      return
    }
    request.notice(waitingWords(holder, nowMs()))
    const turn = Promise.withResolvers<void>()
    holder.waiting.push(turn.resolve)
    try {
      await within(turn.promise, request, () => busy(request, commands.get(directory) ?? holder))
    } catch (error) {
      const { waiting } = commands.get(directory) ?? holder
      const at = waiting.indexOf(turn.resolve)
      // The turn may have come in the same instant: then it goes to the next one.
      if (at < 0) leave(directory)
      else waiting.splice(at, 1)
      throw error
    }
    commands.set(directory, { command, sinceMs: nowMs(), waiting: commands.get(directory)?.waiting ?? [] })
  }

  function leave(directory: string): void {
    const next = commands.get(directory)?.waiting.shift()
    if (next === undefined) commands.delete(directory)
    else next()
  }

  async function share<T>(request: LockRequest, work: () => Promise<T>): Promise<T> {
    const release = await shared(request)
    try {
      return await work()
    } finally {
      await release()
    }
  }

  return {
    async hold(request, work) {
      await enter(request)
      try {
        return await share(request, work)
      } finally {
        leave(request.directory)
      }
    },
    share,
    holder(directory) {
      const held = commands.get(directory)
      return held === undefined ? null : { command: held.command, sinceMs: held.sinceMs }
    },
  }
}

async function within(
  turn: Promise<void>,
  { waitMs, signal, command }: LockRequest,
  late: () => AppError,
): Promise<void> {
  const end = Promise.withResolvers<never>()
  const timer = waitMs === null ? null : setTimeout(() => end.reject(late()), waitMs)
  const abort = (): void => end.reject(interrupted(command))
  signal.addEventListener("abort", abort, { once: true })
  if (signal.aborted) abort()
  try {
    await Promise.race([turn, end.promise])
  } finally {
    if (timer !== null) clearTimeout(timer)
    signal.removeEventListener("abort", abort)
  }
}

function interrupted(command: string): AppError {
  return new AppError("interrupted", `${command} was interrupted while it waited for another command`)
}

function waitingWords({ command, sinceMs }: Holder, nowMs: number): string {
  return `waiting for: ${command} (started ${secondsSince(sinceMs, nowMs)} s ago)`
}

function secondsSince(sinceMs: number, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - sinceMs) / 1000))
}

function busy({ directory }: LockRequest, { command, sinceMs }: Holder): AppError {
  const since = new Date(sinceMs).toISOString()
  return new AppError("busy", `${command} works in ${directory} since ${since}`, {
    hint: "wait until it has ended, then try again",
    details: { command, sinceMs },
  })
}

const holderSchema = z.object({
  pid: z.int(),
  host: z.string(),
  command: z.string(),
  sinceMs: z.number(),
})

/**
 * `$GIT_DIR/decamp/lock`: locked by the operating system, which lets go of it when the process ends, however it ends; a lock is never
 * stale. `holder.json` beside it says to others who has it, and is believed for that only.
 */
function sharedLocks(name: () => string, nowMs: () => number): (request: LockRequest) => Promise<() => Promise<void>> {
  const mine = new Map<string, { count: number; readonly release: () => void }>()
  return async (request) => {
    const { gitDir, command } = request
    if (gitDir === null) return async () => {}
    const folder = await privateFolder(join(gitDir, "decamp"))
    const about = join(folder, "holder.json")
    const release = async (): Promise<void> => {
      const held = mine.get(gitDir)
      if (held === undefined || --held.count > 0) return
      mine.delete(gitDir)
      await rm(about, { force: true })
      held.release()
    }
    const held = mine.get(gitDir)
    if (held !== undefined) {
      held.count += 1
      return release
    }
    const lock = await lockWithin(join(folder, "lock"), about, request, nowMs)
    mine.set(gitDir, { count: 1, release: () => lock.release() })
    const facts = { pid: process.pid, host: name(), command, sinceMs: nowMs() }
    // Who waits is told less without it; that is no reason to fail, on a full disk for example.
    await writeFile(about, JSON.stringify(facts), { mode: 0o600 }).catch(() => {})
    return release
  }
}

async function lockWithin(
  path: string,
  about: string,
  request: LockRequest,
  nowMs: () => number,
): Promise<{ release(): void }> {
  const startedAtMs = nowMs()
  for (let isFirst = true; ; isFirst = false) {
    try {
      return lockFile(path)
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== "busy") {
        throw new AppError("not_writable", `${path} can't be made`, {
          cause: error,
          hint: "decamp needs to write there: change its permissions, or make room on its disk",
        })
      }
    }
    const holder = await holderIn(about, nowMs())
    if (isFirst) request.notice(waitingWords(holder, nowMs()))
    if (request.signal.aborted) throw interrupted(request.command)
    if (request.waitMs !== null && nowMs() - startedAtMs >= request.waitMs) throw busy(request, holder)
    await Bun.sleep(POLL_MS)
  }
}

async function holderIn(about: string, nowMs: number): Promise<Holder> {
  try {
    const { command, host, pid, sinceMs } = holderSchema.parse(JSON.parse(await readFile(about, "utf8")))
    return { command: `${command} of ${host} (pid ${pid})`, sinceMs }
  } catch {
    // It has only just begun, or has just ended.
    return { command: "a decamp of another home directory", sinceMs: nowMs }
  }
}

/**
 * The top of the repository that holds a directory and its git folder, by looking for `.git` alone: a lock must cost no git process.
 * Without one: the directory itself.
 */
export async function placeToLock(directory: string): Promise<{ directory: string; gitDir: string | null }> {
  const real = await realpath(directory).catch(() => directory)
  for (let at = real; ; at = dirname(at)) {
    const gitDir = await gitDirAt(at)
    if (gitDir !== null) return { directory: at, gitDir }
    if (at === dirname(at)) return { directory: real, gitDir: null }
  }
}

async function gitDirAt(top: string): Promise<string | null> {
  const path = join(top, ".git")
  try {
    if ((await lstat(path)).isDirectory()) return path
    // Source of the format: gitrepository-layout(5), git 2.39.
    const named = /^gitdir: (.+)\n?$/.exec(await readFile(path, "utf8"))?.[1]
    return named === undefined ? null : await realpath(resolve(top, named))
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

/** A command that changes a directory outside of a hand-off: alone there, and after what was left half done is put back. */
import { existsSync } from "node:fs"
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import type { Daemon } from "./daemon.ts"
import { placeToLock } from "./directory-locks.ts"
import type { Tally } from "./move-output.ts"
import type { Runtime } from "./runtime.ts"
import { alone } from "./states.ts"
import { undoUnfinished } from "./unfinished.ts"

export interface WorkingCommand {
  /** As a person would type it: `decamp pull`. */
  readonly command: string
  readonly directory: string
  /** Works there instead. */
  readonly into?: string | null
  readonly dryRun?: boolean
  /** How long to wait for another command, ms; absent: until it has ended. */
  readonly busyWaitMs?: number | undefined
}

/** Of a request that nobody can break off. */
export const NEVER = new AbortController().signal

/**
 * Steps of a hand-off have their own order (runtime.ts) and its own refusals, which name both sides: `working` is null for them.
 * @throws {AppError} busy naming the command that works there; interrupted; what `work` throws
 */
export async function inTurn<T>(
  { daemon, runtime }: { readonly daemon: Daemon; readonly runtime: Runtime },
  working: WorkingCommand | null,
  tally: Tally,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  if (working === null) return await work()
  const { directory, gitDir } = await placeToLock(working.into ?? working.directory)
  const request = {
    directory,
    // What only looks must leave nothing behind.
    gitDir: working.dryRun === true ? null : gitDir,
    command: working.command,
    waitMs: working.busyWaitMs ?? null,
    signal,
    notice: (text: string) => tally.steps({ type: "waiting", text }),
  }
  const isNew = request.gitDir !== null && !existsSync(join(request.gitDir, "decamp"))
  try {
    return await hold()
  } catch (error) {
    // Refused where no workspace is: the folder was made for the lock alone.
    if (isNew && request.gitDir !== null) await removeLockFolder(join(request.gitDir, "decamp"))
    throw error
  }

  async function hold(): Promise<T> {
    return await daemon.locks.hold(request, async () => {
      const queued = async (workspace: Parameters<typeof alone>[1], undoing: () => Promise<string | null>) =>
        await alone(runtime, workspace, undoing)
      tally.notices.push(...(await undoUnfinished(daemon, directory, queued)))
      return await work()
    })
  }
}

async function removeLockFolder(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => [])
  if (names.every((name) => name === "holder.json" || name.startsWith("lock"))) {
    await rm(folder, { recursive: true, force: true })
  }
}

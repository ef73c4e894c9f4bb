/** A command that changes a directory outside of a hand-off: alone there, and after what was left half done is put back. */
import { existsSync } from "node:fs"
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
    // What only looks, or is about to be refused where no workspace is, must leave nothing behind.
    gitDir: working.dryRun === true || gitDir === null || !existsSync(join(gitDir, "decamp")) ? null : gitDir,
    command: working.command,
    waitMs: working.busyWaitMs ?? null,
    signal,
    notice: (text: string) => tally.steps({ type: "waiting", text }),
  }
  return await daemon.locks.hold(request, async () => {
    const queued = async (workspace: Parameters<typeof alone>[1], undoing: () => Promise<string | null>) =>
      await alone(runtime, workspace, undoing)
    tally.notices.push(...(await undoUnfinished(daemon, directory, queued)))
    return await work()
  })
}

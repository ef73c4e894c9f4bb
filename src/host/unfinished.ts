/**
 * A change of a directory outside of any hand-off, noted durably before its first write: after a crash the next command puts the
 * directory back, so that a mixture of two states never looks finished.
 */
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { restoreBackup } from "../checkpoint/backup.ts"
import { backupSchema, type Backup } from "../checkpoint/code.ts"
import { isMissing, privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import type { StepListener } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { workspaceIdSchema, type WorkspaceId } from "../protocol/ids.ts"
import { codePartSchema, type CodePart } from "../protocol/manifest.ts"
import { scratchOf, workspaceFolder, type Daemon } from "./daemon.ts"

const changeSchema = z.object({ schema: z.literal(1), backup: backupSchema, code: codePartSchema })

/** A directory, as it was, and what is being written into it. */
export interface Change {
  readonly backup: Backup
  readonly code: CodePart
}

const fileOf = (daemon: Daemon, workspace: string): string => join(workspaceFolder(daemon, workspace), "change.json")

/**
 * Runs `work`, which writes `change.code` into the directory. When it fails the directory is as `change.backup` has it; when this
 * process dies in between, {@link undoUnfinished} does that. One at a time for a workspace.
 * @throws {AppError} the failure of `work`, with where the directory stands
 */
export async function undoable<T>(
  daemon: Daemon,
  workspace: WorkspaceId,
  change: Change,
  steps: StepListener,
  work: () => Promise<T>,
): Promise<T> {
  const file = fileOf(daemon, workspace)
  await privateFolder(workspaceFolder(daemon, workspace))
  await writeFileDurably(file, JSON.stringify({ schema: 1, ...change }))
  try {
    const done = await work()
    await rm(file, { force: true })
    return done
  } catch (error) {
    const failure = toAppError(error)
    const said = await undo(daemon, change, steps)
    await rm(file, { force: true })
    const { hint, details } = failure
    throw new AppError(failure.code, `${failure.message}; ${said}`, { hint, details, cause: error })
  }
}

/** Puts a directory back and says so. */
async function undo(daemon: Daemon, { backup, code }: Change, steps: StepListener): Promise<string> {
  await using scratch = await scratchOf(daemon, "undo")
  const { left, kept } = await restoreBackup({ backup, code, scratch: scratch.path, steps })
  if (kept) return `${backup.directory} holds files that are not decamp's and was left as it is`
  const what = backup.kind === "fresh" ? "what was written is gone from" : "nothing was changed in"
  return left === null ? `${what} ${backup.directory}` : `${what} ${backup.directory}; newer work is under ${left}`
}

/**
 * Puts every directory back that a process before this one left half changed. Before anything else is asked of this one.
 * @throws {AppError} what keeps a directory from being put back; it is tried again the next time
 */
export async function undoUnfinished(
  daemon: Daemon,
  alone: (workspace: WorkspaceId, work: () => Promise<void>) => Promise<void>,
): Promise<void> {
  for (const name of await namesIn(join(daemon.stateFolder, "workspaces"))) {
    const workspace = workspaceIdSchema.safeParse(name)
    if (!workspace.success || (await readTextIfExists(fileOf(daemon, name))) === null) continue
    await alone(workspace.data, async () => await undoOne(daemon, workspace.data))
  }
}

async function undoOne(daemon: Daemon, workspace: WorkspaceId): Promise<void> {
  const file = fileOf(daemon, workspace)
  const text = await readTextIfExists(file)
  if (text === null) return
  const change = changeOf(text, file)
  try {
    const said = await undo(daemon, change, () => {})
    daemon.log("a change that was cut off is undone", { workspace, said })
  } catch (error) {
    // Somebody removed the directory: nothing is left to put back.
    if (toAppError(error).code !== "not_a_repository") throw error
  }
  await rm(file, { force: true })
}

function changeOf(text: string, file: string): Change {
  try {
    return changeSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new AppError("damaged_data", `${file} can't be read: a directory may be half changed`, {
      cause: error,
      hint: "decamp log lists what was saved before; remove the file once you have looked",
    })
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

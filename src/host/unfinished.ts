/**
 * A change of a directory outside of any hand-off, noted durably before its first write: after a crash the next command puts the
 * directory back, so that a mixture of two states never looks finished.
 */
import { readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { applyBackup } from "../checkpoint/apply-backup.ts"
import { restoreBackup } from "../checkpoint/backup.ts"
import { backupSchema } from "../checkpoint/code.ts"
import { listSaved } from "../checkpoint/prune.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { isMissing, privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import type { StepListener } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { workspaceIdSchema, type WorkspaceId } from "../protocol/ids.ts"
import { codePartSchema } from "../protocol/manifest.ts"
import { scratchOf, workspaceFolder, type Daemon } from "./daemon.ts"
import { placeToLock } from "./directory-locks.ts"
import { isAbsentOrEmpty } from "./target-leg.ts"

const changeSchema = z.discriminatedUnion("kind", [
  /** A checkpoint's code is written over, or into, what `backup` tells of. */
  z.object({ kind: z.literal("checkpoint"), backup: backupSchema, code: codePartSchema }),
  /** A saved state is brought back in place. What was there is saved under a ref that is not among those of `refs`. */
  z.object({ kind: z.literal("saved"), directory: z.string(), refs: z.array(z.string()) }),
  /** A saved state is written into a directory that was missing or empty. */
  z.object({ kind: z.literal("aside"), directory: z.string() }),
])
/** What is about to be written, with all that it takes to undo it. */
export type Change = z.infer<typeof changeSchema>

const recordSchema = z.object({ schema: z.literal(1), change: changeSchema })

/** For the daemon of another HOME that works in the directory. */
const LOCK_WAIT_MS = 20_000

const fileOf = (daemon: Daemon, workspace: string): string => join(workspaceFolder(daemon, workspace), "change.json")

/**
 * Runs `work`, which carries out the change. When it fails, the directory is as it was; when this process dies in between,
 * {@link undoUnfinished} does that. One at a time for a workspace.
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
  // An earlier failure whose undo failed too.
  await undoOne(daemon, workspace)
  await privateFolder(workspaceFolder(daemon, workspace))
  await writeFileDurably(file, JSON.stringify({ schema: 1, change }))
  try {
    const done = await work()
    await rm(file, { force: true })
    return done
  } catch (error) {
    const failure = toAppError(error)
    const { hint, details } = failure
    const said = await undoNow(daemon, change, steps).catch((reason: unknown) => toAppError(reason))
    if (said instanceof AppError) {
      // The record stays: the next command here tries again before it does anything else.
      const message = `${failure.message}; ${directoryOf(change)} could not be put back yet: ${said.message}`
      throw new AppError(failure.code, message, { hint: said.hint ?? hint, details, cause: said })
    }
    await rm(file, { force: true })
    throw new AppError(failure.code, `${failure.message}; ${said}`, { hint, details, cause: error })
  }
}

async function undoNow(daemon: Daemon, change: Change, steps: StepListener): Promise<string> {
  // A saved state that can't be brought back is undone by who tried.
  return change.kind === "saved" ? `${change.directory} is as it was` : await undo(daemon, change, steps)
}

function directoryOf(change: Change): string {
  return change.kind === "checkpoint" ? change.backup.directory : change.directory
}

/** Puts a directory back and says so. */
async function undo(daemon: Daemon, change: Change, steps: StepListener): Promise<string> {
  switch (change.kind) {
    case "checkpoint":
      return await undoCheckpoint(daemon, change, steps)
    case "saved":
      return await undoSaved(daemon, change, steps)
    case "aside":
      return await setAside(daemon, change.directory)
  }
}

type ChangeOf<Kind extends Change["kind"]> = Extract<Change, { kind: Kind }>

async function undoCheckpoint(
  daemon: Daemon,
  { backup, code }: ChangeOf<"checkpoint">,
  steps: StepListener,
): Promise<string> {
  await using scratch = await scratchOf(daemon, "undo")
  const { left, kept } = await restoreBackup({ backup, code, scratch: scratch.path, steps })
  if (kept) return `${backup.directory} holds files that are not decamp's and was left as it is`
  const what = backup.kind === "fresh" ? "what was written is gone from" : "nothing was changed in"
  return left === null ? `${what} ${backup.directory}` : `${what} ${backup.directory}; newer work is under ${left}`
}

/** The newest save that was not there before is the state before; without one nothing was written yet. */
async function undoSaved(daemon: Daemon, { directory, refs }: ChangeOf<"saved">, steps: StepListener): Promise<string> {
  const repository = await openRepository(directory)
  const before = new Set(refs)
  const made = (await listSaved(repository)).find(
    ({ ref }) => ref.startsWith("refs/decamp/backup/") && !before.has(ref),
  )
  if (made === undefined) return `nothing was changed in ${directory}`
  await using scratch = await scratchOf(daemon, "undo")
  const { saved } = await applyBackup({ repository, ref: made.ref, into: null, scratch: scratch.path, steps })
  const found = saved === null ? "" : `; as it was found it is under ${saved}`
  return `${directory} is as ${made.ref} has it${found}`
}

/** Nothing of it is thrown away, and nobody takes it for whole. */
async function setAside(daemon: Daemon, directory: string): Promise<string> {
  if (await isAbsentOrEmpty(directory)) return `nothing was written into ${directory}`
  const name = `${directory}.unfinished-${daemon.nowMs()}`
  await rename(directory, name)
  return `what was written so far lies in ${name}`
}

/**
 * Puts directories back that a process before this one left half changed, or that could not be put back at once: before anything else is
 * done there.
 * @param directory only this one; null: every one
 * @returns what a person should read, a sentence for each
 * @throws {AppError} what keeps a directory from being put back; it is tried again the next time
 */
export async function undoUnfinished(
  daemon: Daemon,
  directory: string | null,
  alone: (workspace: WorkspaceId, work: () => Promise<string | null>) => Promise<string | null>,
): Promise<readonly string[]> {
  const said: string[] = []
  for (const name of await namesIn(join(daemon.stateFolder, "workspaces"))) {
    const workspace = workspaceIdSchema.safeParse(name)
    if (!workspace.success) continue
    const change = await changeIn(fileOf(daemon, name))
    if (change === null || (directory !== null && directoryOf(change) !== directory)) continue
    const request = {
      ...(await placeToLock(directoryOf(change))),
      command: "decamp (it puts back what was cut off)",
      waitMs: LOCK_WAIT_MS,
      signal: new AbortController().signal,
      notice: () => {},
    }
    const words = await alone(
      workspace.data,
      async () => await daemon.locks.share(request, async () => await undoOne(daemon, workspace.data)),
    )
    if (words !== null) said.push(words)
  }
  return said
}

async function undoOne(daemon: Daemon, workspace: WorkspaceId): Promise<string | null> {
  const file = fileOf(daemon, workspace)
  const change = await changeIn(file)
  if (change === null) return null
  let said: string | null = null
  try {
    said = `an earlier command was cut off in ${directoryOf(change)} and is undone: ${await undo(daemon, change, () => {})}`
    daemon.log(said, { workspace })
  } catch (error) {
    // Somebody removed the directory: nothing is left to put back.
    if (toAppError(error).code !== "not_a_repository") throw error
  }
  await rm(file, { force: true })
  return said
}

async function changeIn(file: string): Promise<Change | null> {
  const text = await readTextIfExists(file)
  return text === null ? null : changeOf(text, file)
}

function changeOf(text: string, file: string): Change {
  try {
    return recordSchema.parse(JSON.parse(text)).change
  } catch (error) {
    throw new AppError("damaged_data", `${file} can't be read: a directory may be half changed`, {
      cause: error,
      hint: "git for-each-ref refs/decamp lists what was saved before; remove the file once you have looked",
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

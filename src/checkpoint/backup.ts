/** Saving what a hand-off would overwrite, and putting it back exactly. */
import { copyFile, lstat, realpath, rm, rmdir } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, privateFolder, scratchFolder, syncFolder } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { emptyTree, hasEntries } from "./apply.ts"
import { decampFolder, readBase, restoreBase } from "./base.ts"
import type { Backup, Repository } from "./code.ts"
import { withoutForeign } from "./foreign.ts"
import { git, gitOid, gitRecords, gitResult, resolveRef } from "./git.ts"
import { besideBackup, refTime, saveTreesAsLeft, unseenFiles, writeNewRef, writeStateCommit } from "./left.ts"
import { readSetting, refsOf, restoreRefs, settingsOf, type RepositoryBackup } from "./refs.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"
import { installIndex, moveTrees, readTrees, type ReadTrees } from "./trees.ts"

export interface BackupRequest {
  /** Missing, empty, or the top of a repository. */
  readonly directory: string
  /**
   * What will be applied: names the refs and, after `fetchCode`, the ignored files that would be overwritten. Without that
   * `applyCode` saves those when it meets them.
   */
  readonly code: CodePart
  readonly atMs: number
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Saves HEAD, branch, index and work tree (untracked files too) under `refs/decamp/backup/<time>`. Changes nothing else. The host
 * journals the answer before it calls `applyCode`, and never calls this twice for one hand-off. Step: `back up code`.
 * @throws {AppError} unsupported_state (operation in progress), not_writable, not_a_repository (a directory with files but no repository)
 */
export async function backupCode(request: BackupRequest): Promise<Backup> {
  const { directory } = request
  if (!(await hasEntries(directory))) {
    return { kind: "fresh", directory, existed: await exists(directory) }
  }
  return await step(request.steps, "back up code", async () => await backupRepository(request))
}

async function backupRepository(request: BackupRequest): Promise<Backup> {
  const { directory, code, atMs } = request
  const repository = await openRepository(directory)
  if (repository.topLevel !== (await realpath(directory))) {
    throw new AppError("usage", `${directory} is a folder inside the repository ${repository.topLevel}`)
  }
  const refusal = await unsupportedState(repository)
  if (refusal !== null) throw refusal
  await using scratch = await scratchFolder(request.scratch, "backup")
  const trees = await readTrees(repository, { scratch: scratch.path, keep: [code.worktreeTree] })
  const refs = await readRefs(repository, code)
  const config: Record<string, string | null> = {}
  for (const name of settingsOf(code)) config[name] = await readSetting(repository, name)
  const tips = Object.values(refs).filter((oid) => oid !== null)
  const about = { title: "decamp: backup", facts: { directory, refs }, atMs }
  const commit = await writeStateCommit(repository, trees, about, tips)
  const ref = await writeNewRef(repository, `refs/decamp/backup/${refTime(atMs)}`, commit)
  await keepIndex(repository, ref)
  return {
    kind: "repository",
    directory,
    ref,
    commit,
    createdAtMs: atMs,
    head: repository.head === null ? null : oidSchema.parse(repository.head),
    branch: repository.branch,
    indexTree: trees.indexTree,
    worktreeTree: trees.worktreeTree,
    refs,
    config,
    base: await readBase(repository),
  }
}

async function readRefs(repository: Repository, code: CodePart): Promise<Record<string, Oid | null>> {
  const own = repository.branch === null ? [] : [`refs/heads/${repository.branch}`]
  const refs: Record<string, Oid | null> = {}
  for (const ref of new Set([...own, ...refsOf(code)])) refs[ref] = await resolveRef(repository, ref)
  return refs
}

/** Keeps the raw index: a tree does not hold the marks on its entries. */
async function keepIndex(repository: Repository, ref: string): Promise<void> {
  const folder = await privateFolder(join(await decampFolder(repository), "backup"))
  try {
    await copyFile(join(repository.gitDir, "index"), besideBackup(repository, ref, "index"))
    await syncFolder(folder)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

export interface RestoreRequest {
  readonly backup: Backup
  /** What was, or was being, applied. */
  readonly code: CodePart
  readonly scratch: string
  readonly steps: StepListener
}

export interface Restored {
  /** Ref that holds what changed since the apply; null when nothing did. */
  readonly left: string | null
  /** A fresh directory that holds somebody's edits: it was left as it is. */
  readonly kept: boolean
}

/**
 * Puts the directory back as `backup` recorded it: HEAD, branch, refs, settings, index, work tree, base record. What changed since the
 * apply is saved first under `refs/decamp/left/…`, whose name is answered (`left`); a file that neither apply nor backup knows stays where it
 * lies. A fresh directory loses what apply made; when it
 * holds edits it is kept whole and `kept` is true. Idempotent. Step: `restore code`.
 */
export async function restoreBackup(request: RestoreRequest): Promise<Restored> {
  return await step(request.steps, "restore code", async () => {
    const { backup } = request
    return backup.kind === "fresh"
      ? { left: null, kept: await undoFresh(backup, request) }
      : { left: await restoreRepository(backup, request), kept: false }
  })
}

async function restoreRepository(backup: RepositoryBackup, request: RestoreRequest): Promise<string | null> {
  const { code } = request
  const repository = await openRepository(backup.directory)
  await using scratch = await scratchFolder(request.scratch, "restore")
  const keep = [code.worktreeTree, backup.worktreeTree]
  const found = await readTrees(repository, { scratch: scratch.path, keep })
  const worktreeTree = await withMet(repository, backup, scratch.path)
  const known = [backup.worktreeTree, code.worktreeTree, worktreeTree]
  const trees = await withoutForeign(repository, found, known, worktreeTree)
  const left = (await isUnseen(repository, trees, backup, code)) ? await saveNow(repository, found) : null
  await moveTrees(repository, trees, { indexTree: backup.indexTree, worktreeTree })
  await restoreRefs(repository, backup, code)
  const raw = besideBackup(repository, backup.ref, "index")
  if (await exists(raw)) {
    await installIndex(repository, raw)
    // Its record of sizes and times is of files that were written anew since.
    await gitResult(repository, ["update-index", "-q", "--refresh"])
  }
  await restoreBase(repository, backup.base)
  return left
}

/** The backup's work tree and the files that `applyCode` met and the backup had not. */
async function withMet(repository: Repository, backup: RepositoryBackup, scratch: string): Promise<Oid> {
  const met = Bun.file(besideBackup(repository, backup.ref, "met"))
  const input = (await met.exists()) ? Buffer.from(await met.arrayBuffer()).toString("latin1") : ""
  if (input === "") return backup.worktreeTree
  const place = { gitDir: repository.gitDir, topLevel: repository.topLevel, index: join(scratch, "met") }
  await git(place, ["read-tree", backup.worktreeTree])
  await git(place, ["update-index", "--replace", "-z", "--index-info"], { input })
  return await gitOid(place, ["write-tree"])
}

async function saveNow(repository: Repository, trees: ReadTrees): Promise<string> {
  const now = Date.now()
  return await saveTreesAsLeft(repository, trees, refTime(now), now)
}

/** Whether HEAD, index or a file is neither as the backup nor as the checkpoint has it (a mixture of both is a cut-off apply). */
async function isUnseen(
  repository: Repository,
  trees: ReadTrees,
  backup: RepositoryBackup,
  code: CodePart,
): Promise<boolean> {
  if (repository.head !== backup.head && repository.head !== code.head) return true
  if (trees.indexTree !== backup.indexTree && trees.indexTree !== code.indexTree) return true
  const unseen = await unseenFiles(repository, trees.worktreeTree, [backup.worktreeTree, code.worktreeTree])
  return unseen.length > 0
}

/** Removes what apply made. True: somebody worked there since, nothing was removed. */
async function undoFresh(backup: Extract<Backup, { kind: "fresh" }>, request: RestoreRequest): Promise<boolean> {
  const { directory } = backup
  const dotGit = join(directory, ".git")
  if (await exists(dotGit)) {
    const repository = await openIfWhole(directory)
    if (repository !== null && !(await emptyFresh(repository, request))) return true
    await rm(dotGit, { recursive: true, force: true })
  }
  if (!backup.existed && (await exists(directory)) && !(await hasEntries(directory))) await rmdir(directory)
  return false
}

/** The repository, or null when the making of it was cut off: then no file was written yet. */
async function openIfWhole(directory: string): Promise<Repository | null> {
  try {
    const repository = await openRepository(directory)
    return (await lstat(join(directory, ".git"))).isDirectory() ? repository : null
  } catch (error) {
    if (toAppError(error).code === "not_a_repository") return null
    throw error
  }
}

async function emptyFresh(repository: Repository, request: RestoreRequest): Promise<boolean> {
  const { code } = request
  await using scratch = await scratchFolder(request.scratch, "restore")
  const empty = await emptyTree(repository)
  const trees = await readTrees(repository, { scratch: scratch.path, keep: [code.worktreeTree] })
  if (trees.worktreeTree !== empty) {
    if ((await unseenFiles(repository, trees.worktreeTree, [code.worktreeTree])).length > 0) return false
    if (trees.indexTree !== empty && trees.indexTree !== code.indexTree) return false
    if (repository.head !== null && repository.head !== code.head) return false
    const refs = (await git(repository, ["for-each-ref", "--format=%(refname)"])).split("\n")
    const own = new Set(refsOf(code))
    if (refs.some((ref) => ref !== "" && !ref.startsWith("refs/decamp/") && !own.has(ref))) return false
  }
  await moveTrees(repository, trees, { indexTree: empty, worktreeTree: empty })
  return true
}

/** Backups of this repository, newest first. */
export async function listBackups(
  repository: Repository,
): Promise<readonly { readonly ref: string; readonly createdAtMs: number }[]> {
  const format = "--format=%(refname) %(committerdate:unix)"
  const lines = (await gitRecords(repository, ["for-each-ref", "--sort=-committerdate", format, "refs/decamp/backup"]))
    .join("")
    .split("\n")
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const [ref = "", seconds = "0"] = line.split(" ")
      return { ref, createdAtMs: Number(seconds) * 1000 }
    })
}

/** Removes a backup's ref: after `live`, when it held nothing that a checkpoint has not. A ref that is gone already is fine. */
export async function dropBackup(backup: Backup): Promise<void> {
  if (backup.kind === "fresh") return
  const repository = await openRepository(backup.directory)
  if ((await resolveRef(repository, backup.ref)) === backup.commit) {
    await git(repository, ["update-ref", "-d", backup.ref, backup.commit])
  }
  for (const what of ["index", "met"] as const) await rm(besideBackup(repository, backup.ref, what), { force: true })
}

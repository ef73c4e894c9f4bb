/** Saving what a hand-off would overwrite, and putting it back exactly. */
import { lstat, realpath, rm, rmdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { withDiskErrors } from "../lib/disk-errors.ts"
import { isMissing, privateFolder, scratchFolder, syncFolder } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import { emptyTree, hasEntries } from "./apply.ts"
import { decampFolder, readBase, restoreBase } from "./base.ts"
import { moveCheckout, readCheckout, readDetails, type ReadCheckout } from "./checkout.ts"
import type { Backup, PartBackup, Repository } from "./code.ts"
import { withoutForeign } from "./foreign.ts"
import { git, gitOid, gitRecords, resolveRef } from "./git.ts"
import { metFile, refTime, saveAsLeft, unseenFiles, writeNewRef, writeSaved } from "./left.ts"
import { directoriesOf, moduleFolder, openIfThere } from "./nested.ts"
import { writeOperation } from "./operation.ts"
import { readSetting, refsOf, restoreRefs, settingsOf, type RepositoryBackup } from "./refs.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"
import { listStashes, removeStashes } from "./stash.ts"
import { dropReadIndex, keepReadIndex } from "./unchanged.ts"

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
 * Saves everything that a checkout holds (untracked files, index, operation in progress, permission bits) under
 * `refs/decamp/backup/<time>`, and each nested repository that will be written in the same way in itself. Changes nothing else. The
 * host journals the answer before it calls `applyCode`, and never calls this twice for one hand-off. Step: `back up code`.
 * @throws {AppError} unsupported_state, not_writable, busy, not_a_repository (a directory with files but no repository)
 */
export async function backupCode(request: BackupRequest): Promise<Backup> {
  const { directory, code } = request
  if (!(await hasEntries(directory))) {
    return { kind: "fresh", directory, existed: await exists(directory), nested: await freshNested(request) }
  }
  return await writing(request.steps, "back up code", async () => {
    const nested: Backup["nested"] = []
    for (const { directory: inner, part } of directoriesOf(directory, code)) {
      nested.push({ path: part.path, backup: await backupNested(inner, part, request) })
    }
    const refs = nested.flatMap(({ path, backup }) => (backup.kind === "repository" ? [{ path, ref: backup.ref }] : []))
    return { ...(await backupRepository(directory, code, request, refs)), nested }
  })
}

async function writing<T>(steps: StepListener, name: string, work: () => Promise<T>): Promise<T> {
  return await step(steps, name, async () => await withDiskErrors(work))
}

async function freshNested({ directory, code }: BackupRequest): Promise<Backup["nested"]> {
  return directoriesOf(directory, code).map(({ directory: inner, part }) => {
    return { path: part.path, backup: { kind: "fresh", directory: inner, existed: false } }
  })
}

async function backupNested(
  directory: string,
  part: CodePart["nested"][number],
  request: BackupRequest,
): Promise<PartBackup> {
  if ((await openIfThere(directory)) !== null) return await backupRepository(directory, part, request, [])
  const folder = await moduleFolder(request.directory, part).catch(() => null)
  if (folder !== null && (await exists(folder))) {
    throw new AppError(
      "unsupported_state",
      `submodule ${part.path} of ${request.directory} has a git folder and no files`,
      {
        hint: `git submodule update --init -- ${part.path}, then try again`,
      },
    )
  }
  return { kind: "fresh", directory, existed: await exists(directory) }
}

async function backupRepository(
  directory: string,
  code: RepositoryPart,
  request: BackupRequest,
  nested: readonly { readonly path: string; readonly ref: string }[],
): Promise<PartBackup> {
  const { atMs } = request
  const repository = await openRepository(directory)
  if (repository.topLevel !== (await realpath(directory))) {
    throw new AppError("usage", `${directory} is a folder inside the repository ${repository.topLevel}`)
  }
  const refusal = await unsupportedState(repository)
  if (refusal !== null) throw refusal
  await using scratch = await scratchFolder(request.scratch, "backup")
  const checkout = await readCheckout(repository, { scratch: scratch.path, keep: [code.worktreeTree] })
  const refs = await readRefs(repository, code)
  const config: Record<string, string | null> = {}
  for (const name of settingsOf(code)) config[name] = await readSetting(repository, name)
  const stashes = (await listStashes(repository)).map(({ oid }) => oid)
  const commit = await writeSaved(repository, checkout, { title: "decamp: backup", atMs, refs, nested: [...nested] })
  const ref = await writeNewRef(repository, `refs/decamp/backup/${refTime(atMs)}`, commit)
  await keepReadIndex(repository, ref, checkout.place)
  await syncFolder(await privateFolder(join(await decampFolder(repository), "backup")))
  return {
    kind: "repository",
    directory,
    ref,
    commit,
    createdAtMs: atMs,
    head: repository.head === null ? null : oidSchema.parse(repository.head),
    branch: repository.branch,
    indexTree: checkout.indexTree,
    worktreeTree: checkout.worktreeTree,
    stateTree: checkout.stateTree,
    stashes,
    refs,
    config,
    base: await readBase(repository),
  }
}

async function readRefs(repository: Repository, code: RepositoryPart): Promise<Record<string, Oid | null>> {
  const own = repository.branch === null ? [] : [`refs/heads/${repository.branch}`]
  const refs: Record<string, Oid | null> = {}
  for (const ref of new Set([...own, ...refsOf(code)])) refs[ref] = await resolveRef(repository, ref)
  return refs
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
 * Puts the directory back as `backup` recorded it: HEAD, branch, refs, settings, index, work tree, operation in progress, base record,
 * and the nested repositories. What changed since the apply is saved first under `refs/decamp/left/…`, whose name is answered
 * (`left`); a file that neither apply nor backup knows stays where it lies. A fresh directory loses what apply made; when it holds
 * edits it is kept whole and `kept` is true. Idempotent. Step: `restore code`.
 */
export async function restoreBackup(request: RestoreRequest): Promise<Restored> {
  return await writing(request.steps, "restore code", async () => {
    const { backup, code } = request
    const results: Restored[] = []
    for (const { path, backup: inner } of [...backup.nested].reverse()) {
      const part = code.nested.find((each) => each.path === path)
      if (part !== undefined && (await exists(inner.directory))) results.push(await restorePart(inner, part, request))
    }
    const isKept = results.some(({ kept }) => kept)
    results.push(
      isKept && backup.kind === "fresh" ? { left: null, kept: true } : await restorePart(backup, code, request),
    )
    return {
      left: results.at(-1)?.left ?? results.find(({ left }) => left !== null)?.left ?? null,
      kept: results.some(({ kept }) => kept),
    }
  })
}

async function restorePart(backup: PartBackup, code: RepositoryPart, request: RestoreRequest): Promise<Restored> {
  return backup.kind === "fresh"
    ? { left: null, kept: await undoFresh(backup, code, request) }
    : { left: await restoreRepository(backup, code, request), kept: false }
}

async function restoreRepository(
  backup: RepositoryBackup,
  code: RepositoryPart,
  request: RestoreRequest,
): Promise<string | null> {
  const repository = await openRepository(backup.directory)
  await using scratch = await scratchFolder(request.scratch, "restore")
  const keep = [code.worktreeTree, backup.worktreeTree]
  const found = await readCheckout(repository, { scratch: scratch.path, keep })
  const worktreeTree = await withMet(repository, backup, scratch.path)
  const arrived = await arrivedTree(repository, code)
  const known = [backup.worktreeTree, ...(arrived === null ? [] : [arrived]), worktreeTree]
  const { checkout, foreign } = await withoutForeign(repository, found, known, worktreeTree)
  const isNew = await isUnseen(repository, checkout, backup, code, arrived)
  const left = isNew ? await saveNow(repository, found) : null
  const details = await readDetails(repository, backup.stateTree)
  const target = { indexTree: backup.indexTree, worktreeTree, details }
  await moveCheckout(repository, checkout, target, {
    scratch: scratch.path,
    foreign,
    steps: request.steps,
    removesFirst: true,
  })
  await restoreRefs(repository, backup, code)
  await writeOperation(repository, details.operation)
  await dropArrivedStashes(repository, backup, code)
  await restoreBase(repository, backup.base)
  await dropReadIndex(repository, backup.ref)
  return left
}

async function dropArrivedStashes(
  repository: Repository,
  backup: RepositoryBackup,
  code: RepositoryPart,
): Promise<void> {
  if (code.stateTree === null || (await resolveRef(repository, `${code.stateTree}^{tree}`)) === null) return
  const arrived = (await readDetails(repository, code.stateTree)).stashes.map(({ oid }) => oid)
  await removeStashes(
    repository,
    arrived.filter((oid) => !backup.stashes.includes(oid)),
  )
}

/** The backup's work tree and the files that `applyCode` met and the backup had not. */
async function withMet(repository: Repository, backup: RepositoryBackup, scratch: string): Promise<Oid> {
  const met = Bun.file(metFile(repository, backup.ref))
  const input = (await met.exists()) ? Buffer.from(await met.arrayBuffer()).toString("latin1") : ""
  if (input === "") return backup.worktreeTree
  const place = { gitDir: repository.gitDir, topLevel: repository.topLevel, index: join(scratch, "met") }
  await git(place, ["read-tree", backup.worktreeTree])
  await git(place, ["update-index", "--replace", "-z", "--index-info"], { input })
  return await gitOid(place, ["write-tree"])
}

async function saveNow(repository: Repository, checkout: ReadCheckout): Promise<string> {
  const now = Date.now()
  return await saveAsLeft(repository, checkout, refTime(now), now)
}

/** Whether HEAD, index or a file is neither as the backup nor as the checkpoint has it (a mixture of both is a cut-off apply). */
async function isUnseen(
  repository: Repository,
  checkout: ReadCheckout,
  backup: RepositoryBackup,
  code: RepositoryPart,
  arrived: Oid | null,
): Promise<boolean> {
  if (repository.head !== backup.head && repository.head !== code.head) return true
  if (checkout.indexTree !== backup.indexTree && checkout.indexTree !== code.indexTree) return true
  const known = arrived === null ? [backup.worktreeTree] : [backup.worktreeTree, arrived]
  return (await unseenFiles(repository, checkout.worktreeTree, known)).length > 0
}

/** The incoming work tree; null when its objects never came in: then nothing of it was written. */
async function arrivedTree(repository: Repository, code: RepositoryPart): Promise<Oid | null> {
  return await resolveRef(repository, `${code.worktreeTree}^{tree}`)
}

/** Removes what apply made. True: somebody worked there since, nothing was removed. */
async function undoFresh(
  backup: Extract<PartBackup, { kind: "fresh" }>,
  code: RepositoryPart,
  request: RestoreRequest,
): Promise<boolean> {
  const { directory } = backup
  const dotGit = join(directory, ".git")
  if (await exists(dotGit)) {
    const repository = await openIfWhole(directory)
    if (repository !== null && !(await emptyFresh(repository, code, request))) return true
    await rm(dotGit, { recursive: true, force: true })
    // A submodule's git folder lies in the repository around it, below `modules`.
    const gitDir = repository?.gitDir ?? dotGit
    if (gitDir !== dotGit && /\/modules\//.test(gitDir)) {
      await rm(gitDir, { recursive: true, force: true })
      await rmdir(dirname(gitDir)).catch(() => undefined)
    }
  }
  if (!backup.existed && (await exists(directory)) && !(await hasEntries(directory))) await rmdir(directory)
  return false
}

/** The repository, or null when the making of it was cut off: then no file was written yet. */
async function openIfWhole(directory: string): Promise<Repository | null> {
  try {
    const repository = await openRepository(directory)
    return repository.topLevel === (await realpath(directory)) && (await lstat(join(directory, ".git"))) !== null
      ? repository
      : null
  } catch (error) {
    if (toAppError(error).code === "not_a_repository" || isMissing(error)) return null
    throw error
  }
}

async function emptyFresh(repository: Repository, code: RepositoryPart, request: RestoreRequest): Promise<boolean> {
  await using scratch = await scratchFolder(request.scratch, "restore")
  const empty = await emptyTree(repository)
  const checkout = await readCheckout(repository, { scratch: scratch.path, keep: [code.worktreeTree] })
  if (checkout.worktreeTree !== empty) {
    if ((await arrivedTree(repository, code)) === null) return false
    if ((await unseenFiles(repository, checkout.worktreeTree, [code.worktreeTree])).length > 0) return false
    if (checkout.indexTree !== empty && checkout.indexTree !== code.indexTree) return false
    if (repository.head !== null && repository.head !== code.head) return false
    const refs = (await git(repository, ["for-each-ref", "--format=%(refname)"])).split("\n")
    const own = new Set([...refsOf(code), ...(await arrivedRefs(repository, code))])
    if (refs.some((ref) => ref !== "" && !ref.startsWith("refs/decamp/") && !own.has(ref))) return false
  }
  const details = await readDetails(repository, null)
  const target = { indexTree: empty, worktreeTree: empty, details }
  await moveCheckout(repository, checkout, target, { scratch: scratch.path, foreign: new Set(), steps: request.steps })
  return true
}

/** Refs that a checkpoint's state brings: stashes, bisect. */
async function arrivedRefs(repository: Repository, code: RepositoryPart): Promise<readonly string[]> {
  if (code.stateTree === null || (await resolveRef(repository, `${code.stateTree}^{tree}`)) === null) return []
  const { operation } = await readDetails(repository, code.stateTree)
  return ["refs/stash", ...(operation?.refs.keys() ?? [])]
}

/** Whether a backup holds nothing that the checkpoint which its directory was at has not. */
export function isSpare(backup: Backup): boolean {
  return [backup, ...backup.nested.map((each) => each.backup)].every((part) => {
    if (part.kind === "fresh") return true
    const at = part.base?.code
    return (
      at !== undefined &&
      at.head === part.head &&
      at.branch === part.branch &&
      at.indexTree === part.indexTree &&
      at.worktreeTree === part.worktreeTree &&
      at.stateTree === part.stateTree
    )
  })
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

/** Removes a backup's refs: after `live`, when it held nothing that a checkpoint has not. A ref that is gone already is fine. */
export async function dropBackup(backup: Backup): Promise<void> {
  for (const part of [backup, ...backup.nested.map((each) => each.backup)]) {
    if (part.kind === "fresh") continue
    const repository = await openRepository(part.directory)
    if ((await resolveRef(repository, part.ref)) === part.commit) {
      await git(repository, ["update-ref", "-d", part.ref, part.commit])
    }
    await rm(metFile(repository, part.ref), { force: true })
    await dropReadIndex(repository, part.ref)
  }
}

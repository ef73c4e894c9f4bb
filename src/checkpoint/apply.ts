/** Writing a checkpoint's code into a directory. */
import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, scratchFolder, writeFileDurably } from "../lib/files.ts"
import { step } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { ApplyRequest, Repository } from "./code.ts"
import { fetchInto } from "./fetch.ts"
import { withoutForeign } from "./foreign.ts"
import { gitFailure, gitIn, gitOid, shownPath, type GitPlace } from "./git.ts"
import { besideBackup, refTime, saveTreesAsLeft, unseenFiles } from "./left.ts"
import { requireWritableRefs, writeRefs, type RepositoryBackup } from "./refs.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"
import { moveTrees, rawChanges, readTrees, type ReadTrees } from "./trees.ts"
import { recordWritten } from "./verify.ts"

/**
 * Brings the directory to `code`: packs checked in quarantine, work tree, index, the closed list of refs; files that are equal are not
 * touched. Idempotent: after a crash the same call with the same backup completes it. Contents that are found here and that neither
 * the backup nor the checkpoint has are saved under `refs/decamp/left/` first. Steps: `fetch code`, `apply code`.
 * @throws {AppError} damaged_data (pack), unsupported_state (branch name collision), diverged, busy, not_writable, no_space
 */
export async function applyCode(request: ApplyRequest): Promise<Repository> {
  const { directory, code, steps, backup } = request
  const repository =
    backup.kind === "fresh" ? await openFresh(request, backup.directory) : await openRepository(directory)
  await requireWritableRefs(repository, code)
  if (backup.kind === "repository") {
    const refusal = await unsupportedState(repository)
    if (refusal !== null) throw refusal
  }
  await fetchInto(repository, request)
  await step(steps, "apply code", async () => {
    await using scratch = await scratchFolder(request.scratch, "apply")
    const found = await readTrees(repository, { scratch: scratch.path, keep: [code.worktreeTree] })
    const saved = backup.kind === "fresh" ? await emptyTree(repository) : backup.worktreeTree
    const trees = await withoutForeign(repository, found, [saved, code.worktreeTree], code.worktreeTree)
    await saveUnseen(repository, trees, saved, request)
    await noteWritten(repository, trees, saved, code.worktreeTree)
    await moveTrees(repository, trees, code)
    await writeRefs(repository, code, backup)
  })
  return await openRepository(directory)
}

export async function emptyTree(place: GitPlace): Promise<Oid> {
  return await gitOid(place, ["mktree"], { input: "" })
}

/** The repository of a fresh directory: made now, or by an earlier try. */
async function openFresh(request: ApplyRequest, recorded: string): Promise<Repository> {
  const { directory, code } = request
  if (recorded !== directory) {
    throw new AppError("internal", `the backup is of ${recorded}, not of ${directory}`)
  }
  await mkdir(directory, { recursive: true })
  if (!(await exists(join(directory, ".git"))) && (await hasEntries(directory))) {
    throw new AppError("diverged", `${directory} is not empty any more`, {
      hint: "choose another directory with --into",
    })
  }
  // On a folder that an earlier try left half made, init completes it.
  const branch = code.branch === null ? [] : [`--initial-branch=${code.branch}`]
  const args = ["init", "--quiet", `--object-format=${code.objectFormat}`, ...branch]
  const result = await gitIn(directory, args)
  if (result.exitCode !== 0) throw gitFailure({ topLevel: directory }, args, result.stderr)
  return await openRepository(directory)
}

export async function hasEntries(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length > 0
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

async function saveUnseen(
  repository: Repository,
  trees: ReadTrees,
  saved: Oid,
  { code, backup, steps }: ApplyRequest,
): Promise<void> {
  const unseen = await unseenFiles(repository, trees.worktreeTree, [saved, code.worktreeTree])
  if (backup.kind === "repository") await noteMet(repository, trees.worktreeTree, backup, new Set(unseen))
  const [first] = unseen
  if (first === undefined) return
  const now = Date.now()
  const ref = await saveTreesAsLeft(repository, trees, refTime(now), now)
  steps({ type: "notice", text: `${shownPath(first)} changed since the backup; saved under ${ref}` })
}

/** Notes which files lay here that the backup has not, so that an undo brings them back. */
async function noteMet(
  repository: Repository,
  current: Oid,
  backup: RepositoryBackup,
  unseen: ReadonlySet<string>,
): Promise<void> {
  const file = besideBackup(repository, backup.ref, "met")
  if (await exists(file)) return
  const changes = await rawChanges(repository, ["diff-tree", "--diff-filter=AMT", backup.worktreeTree, current])
  const lines = changes.filter(({ path }) => unseen.has(path))
  const text = lines.map(({ newMode, newOid, path }) => `${newMode} ${newOid}\t${path}\0`).join("")
  await writeFileDurably(file, Buffer.from(text, "latin1"))
}

/** What verify must look at: whatever this call, or an earlier one that was cut off, writes or removes. */
async function noteWritten(repository: Repository, trees: ReadTrees, saved: Oid, target: Oid): Promise<void> {
  const written = new Set<string>()
  for (const tree of new Set([trees.worktreeTree, saved])) {
    for (const { path } of await rawChanges(repository, ["diff-tree", tree, target])) written.add(path)
  }
  await recordWritten(repository, [...written])
}

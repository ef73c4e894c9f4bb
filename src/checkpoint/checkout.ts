/** The whole state of one checkout: read into trees, and brought from one to another. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { namedDiskError } from "../lib/disk-errors.ts"
import type { StepListener } from "../lib/steps.ts"
import { toAppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import { branchCommits, branchFiles, parseBranches, readBranches, type Branches } from "./branches.ts"
import type { Repository } from "./code.ts"
import { conversions } from "./conversion.ts"
import { git, gitFailure, gitRecords, gitResult, type GitPlace } from "./git.ts"
import { copyIndex, installIndex } from "./index-file.ts"
import { checkoutLfs } from "./lfs.ts"
import { listIndex, marksFiles, parseMarks, placeholders, setMarks, type Marks } from "./marks.ts"
import { absoluteOf, applyModes, modesFiles, modesOf, openFolders, parseModes, type Modes } from "./modes.ts"
import { carriedBy, heldBranches, operationFiles, parseOperation, readOperation, type Operation } from "./operation.ts"
import { rawChanges, type RawChange } from "./raw-changes.ts"
import { exists } from "./repository.ts"
import { rollBack } from "./roll-back.ts"
import { commitText, writeCommit } from "./snapshot.ts"
import { parseSparse, readSparse, sparseFiles, writeSparse, type Sparse } from "./sparse.ts"
import { listStashes, parseStashes, stashFiles, travelling, type Stash } from "./stash.ts"
import { readStateFiles, writeStateTree } from "./state.ts"
import { readTrees, type ReadOptions, type ReadTrees } from "./trees.ts"

/** So many files are looked at one by one; with more, all are. */
const MAX_REFRESHED = 500

/** What a state tree says. */
export interface Details {
  readonly marks: Marks
  readonly modes: Modes
  readonly operation: Operation | null
  readonly sparse: Sparse | null
  /** Newest first. */
  readonly stashes: readonly Stash[]
  readonly branches: Branches | null
}

export interface ReadCheckout extends ReadTrees {
  readonly stateTree: Oid | null
  readonly carried: readonly Oid[]
  readonly heldBranches: readonly { readonly name: string; readonly oid: Oid }[]
  readonly details: Details
  /** Stashes of other branches: they stay. */
  readonly otherStashes: readonly Stash[]
}

/** What must be known of a checkout to bring it to another state. */
export type FromCheckout = Pick<ReadCheckout, "indexTree" | "worktreeTree" | "place" | "marks" | "walked">

/** A state to be brought about. */
export interface TargetCheckout {
  readonly indexTree: Oid
  readonly worktreeTree: Oid
  readonly details: Details
}

/**
 * Reads everything. Writes objects only.
 * @throws {AppError} as {@link readTrees}
 */
export async function readCheckout(
  repository: Repository,
  options: ReadOptions & { readonly allBranches?: boolean },
): Promise<ReadCheckout> {
  const objects = options.objects === undefined ? {} : { objects: options.objects }
  const place: GitPlace = { gitDir: repository.gitDir, topLevel: repository.topLevel, ...objects }
  const [trees, operation, stashes, sparse, branches] = await Promise.all([
    readTrees(repository, options),
    readOperation(repository),
    listStashes(repository),
    readSparse(repository),
    options.allBranches === true ? readBranches(repository) : null,
  ])
  const { travel, stay } = travelling(repository, stashes)
  const modes = modesOf(trees.walked)
  const details: Details = { marks: trees.marks, modes, operation, sparse, stashes: travel, branches }
  const contents = trees.marks.unmerged.filter(({ mode }) => mode !== "160000").map(({ oid }) => oid)
  const [stateTree, named, held] = await Promise.all([
    writeStateTree(place, filesOf(details), contents, options.scratch),
    carriedCommits(place, details),
    operation === null ? [] : heldBranches(repository, operation),
  ])
  const carried = [...new Set([...named, ...held.map(({ oid }) => oid)])].sort()
  return { ...trees, stateTree, carried, heldBranches: held, details, otherStashes: stay }
}

function filesOf(details: Details): Map<string, Uint8Array> {
  return new Map([
    ...marksFiles(details.marks),
    ...modesFiles(details.modes),
    ...(details.operation === null ? [] : operationFiles(details.operation)),
    ...(details.sparse === null ? [] : sparseFiles(details.sparse)),
    ...(details.stashes.length === 0 ? [] : stashFiles(details.stashes)),
    ...(details.branches === null ? [] : branchFiles(details.branches)),
  ])
}

/** Commits that the state names; a bare tree travels as the tree of a commit made for it. */
async function carriedCommits(place: GitPlace, details: Details): Promise<readonly Oid[]> {
  const named = details.operation === null ? { commits: [], trees: [] } : await carriedBy(place, details.operation)
  const wrapped: Oid[] = []
  for (const tree of named.trees) wrapped.push(await writeCommit(place, commitText(tree, [], "decamp tree")))
  const branches = details.branches === null ? [] : branchCommits(details.branches)
  return [...new Set([...named.commits, ...wrapped, ...details.stashes.map(({ oid }) => oid), ...branches])]
}

/**
 * The details that a state tree holds.
 * @throws {AppError} damaged_data
 */
export async function readDetails(place: GitPlace, stateTree: Oid | null): Promise<Details> {
  const files = await readStateFiles(place, stateTree)
  return {
    marks: parseMarks(files),
    modes: parseModes(files),
    operation: parseOperation(files),
    sparse: parseSparse(files),
    stashes: parseStashes(files),
    branches: parseBranches(files),
  }
}

export interface Moving {
  /** Folder for temporary files. */
  readonly scratch: string
  /** Files here (byte paths) that belong to nobody's checkpoint: they are left as they are. */
  readonly foreign: ReadonlySet<string>
  readonly steps: StepListener
  /** Files that change are removed before the first is written: what was there once fits again. */
  readonly removesFirst?: boolean
}

/**
 * Brings work tree, permission bits, index and sparse settings from what was just read to another state. Only files that differ are
 * touched; new ones are made 0600 and widened last. The repository's own index is replaced at once, after the work tree. HEAD, refs,
 * stashes and the operation in progress are the caller's affair.
 */
export async function moveCheckout(
  repository: Repository,
  from: FromCheckout,
  to: TargetCheckout,
  moving: Moving,
): Promise<void> {
  const changes =
    from.worktreeTree === to.worktreeTree
      ? []
      : await rawChanges(repository, ["diff-tree", from.worktreeTree, to.worktreeTree])
  const written = writtenBy(changes)
  const wasSparse = (await readSparse(repository)) !== null
  await openFolders(
    repository.topLevel,
    from.walked,
    changes.map(({ path }) => path),
  )
  if (changes.length > 0) await moveFiles(repository, from, to, changes, moving.removesFirst ?? false)
  const lfs = await checkoutLfs(repository, [...written.keys()])
  if (lfs.reason !== null) moving.steps({ type: "warning", text: lfsNotice(lfs) })
  await applyModes(repository.topLevel, to.details.modes, {
    files: written,
    paths: changes.filter(({ status }) => status !== "D").map(({ path }) => path),
    submodules: changes.filter(({ newMode }) => newMode === "160000").map(({ path }) => path),
    before: from.walked,
    foreign: moving.foreign,
    ownFolders: async () =>
      new Set(await gitRecords(repository, ["ls-tree", "-r", "-d", "-z", "--name-only", to.worktreeTree])),
  })
  await writeSparse(repository, to.details.sparse)
  if (changes.length > 0 || !isSameIndex(from, to)) {
    await moveIndex(repository, from, to, { scratch: moving.scratch, written: [...written.keys()], wasSparse })
  }
}

/** @throws {AppError} no_space, not_writable; what git had written until then is taken back */
async function moveFiles(
  repository: Repository,
  from: FromCheckout,
  to: TargetCheckout,
  changes: readonly RawChange[],
  removesFirst: boolean,
): Promise<void> {
  // Contents of Git LFS are put in the place of their pointers afterwards, when they are here.
  const pointers = ["clean", "smudge", "process"].flatMap((name) => ["-c", `filter.lfs.${name}=`])
  const settings = [...pointers, "-c", "filter.lfs.required=false"]
  const args = [...settings, "read-tree", "-m", "-u", from.worktreeTree, to.worktreeTree]
  const startedAtMs = Date.now()
  if (removesFirst) await removeChanged(repository.topLevel, changes)
  const { exitCode, stderr } = await gitResult(from.place, args, { isPrivate: true })
  // What can't be removed git only warns of. Source: unpack-trees.c, unlink_entry, git 2.39.
  if (exitCode === 0 && !/^warning: unable to unlink /m.test(stderr)) return
  const failure = gitFailure(repository, ["read-tree"], stderr)
  if (exitCode !== 0) {
    await rollBack(repository, { place: from.place, changes, walked: from.walked, startedAtMs, settings })
  }
  throw failure
}

async function removeChanged(topLevel: string, changes: readonly RawChange[]): Promise<void> {
  for (const { path, status, oldMode } of changes) {
    if ((status === "M" || status === "T") && oldMode !== "160000")
      await rm(absoluteOf(topLevel, path), { force: true })
  }
}

function writtenBy(changes: readonly RawChange[]): Map<string, "file" | "exec"> {
  return new Map(
    changes
      .filter(({ newMode }) => newMode.startsWith("100"))
      .map(({ path, newMode }) => [path, newMode === "100755" ? "exec" : "file"]),
  )
}

function lfsNotice({ pointers, reason }: Awaited<ReturnType<typeof checkoutLfs>>): string {
  const many = `${pointers.length} ${pointers.length === 1 ? "file" : "files"} of Git LFS`
  return reason === "no-git-lfs"
    ? `${many} arrived as pointers: git-lfs is not set up here (install it, then git lfs install && git lfs pull)`
    : `${many} arrived as pointers: their contents are on the LFS server (git lfs pull)`
}

function isSameIndex(from: FromCheckout, to: TargetCheckout): boolean {
  return from.indexTree === to.indexTree && JSON.stringify(from.marks) === JSON.stringify(to.details.marks)
}

interface IndexMove {
  readonly scratch: string
  readonly written: readonly string[]
  readonly wasSparse: boolean
}

async function moveIndex(
  repository: Repository,
  from: FromCheckout,
  to: TargetCheckout,
  { scratch, written, wasSparse }: IndexMove,
): Promise<void> {
  const place = { gitDir: repository.gitDir, topLevel: repository.topLevel, index: from.place.index }
  // In a sparse checkout the index has marks that git does not show.
  const isPlain = isUnmarked(from.marks) && !wasSparse && to.details.sparse === null
  if (isPlain) await changeIndex(repository, place, from.indexTree, to.indexTree)
  else await git(from.place, ["read-tree", "-i", "-m", to.indexTree])
  await setMarks(place, to.details.marks, await placeholders(scratch))
  await refresh(repository, place, from, to, written)
  try {
    await installIndex(repository, from.place.index)
  } catch (error) {
    // With the entries that are there already only git's note of file times is lost: an undo must not fail for that.
    const { code } = toAppError(namedDiskError(error))
    if (code !== "no_space" || !isSameIndex(from, to)) throw error
  }
}

function isUnmarked(marks: Marks): boolean {
  return Object.values(marks).every((entries) => entries.length === 0)
}

/** The user's index with the entries that are other ones: all else, and git's notes of it, stay. */
async function changeIndex(repository: Repository, place: GitPlace & { readonly index: string }, from: Oid, to: Oid) {
  await rm(place.index, { force: true })
  await copyIndex(join(repository.gitDir, "index"), place.index)
  // No index yet is an empty one.
  if (!(await exists(place.index))) await git(place, ["read-tree", "--empty"])
  const changes = from === to ? [] : await rawChanges(repository, ["diff-tree", from, to])
  const gone = changes.filter(({ status }) => status === "D")
  const lines = [
    ...gone.map(({ path, oldOid }) => `0 ${"0".repeat(oldOid.length)}\t${path}\0`),
    ...changes
      .filter(({ status }) => status !== "D")
      .map(({ newMode, newOid, path }) => `${newMode} ${newOid}\t${path}\0`),
  ]
  if (lines.length > 0) await git(place, ["update-index", "-z", "--index-info"], { input: lines.join("") })
}

/**
 * Notes size and times of the files as they are now, so that the next `git status` need not read them: permission bits were set after
 * git wrote them, and files with a filter were compared without it.
 */
async function refresh(
  repository: Repository,
  place: GitPlace,
  from: FromCheckout,
  to: TargetCheckout,
  written: readonly string[],
): Promise<void> {
  const attributes = [...from.walked.files.keys(), ...written].filter((path) => path.endsWith(".gitattributes"))
  const isFiltered = (await conversions(repository, attributes)) !== null
  if (isFiltered || written.length > MAX_REFRESHED) {
    const intended = new Set(to.details.marks.intentToAdd.map(({ path }) => path))
    if (isFiltered) await forget(place, new Set(written.filter((path) => !intended.has(path))))
    await gitResult(place, ["update-index", "-q", "--refresh"])
    return
  }
  const added = await rawChanges(place, ["diff-tree", "--diff-filter=A", to.indexTree, to.worktreeTree])
  const untracked = new Set(added.map(({ path }) => path))
  const paths = written.filter((path) => !untracked.has(path))
  if (paths.length === 0) return
  const input = paths.map((path) => `${path}\0`).join("")
  const args = ["--literal-pathspecs", "add", "--refresh", "--pathspec-from-file=-", "--pathspec-file-nul"]
  await gitResult(place, args, { input })
}

/**
 * Contents of Git LFS took the place of pointers: by their size alone git would call them changed. Not for entries of `git add -N`, which
 * would lose their mark.
 */
async function forget(place: GitPlace, paths: ReadonlySet<string>): Promise<void> {
  const entries = (await listIndex(place)).filter(({ path, stage }) => stage === 0 && paths.has(path))
  const plain = entries.filter(({ skipsWorktree, isAssumedUnchanged }) => !skipsWorktree && !isAssumedUnchanged)
  const input = plain.map(({ mode, oid, path }) => `${mode} ${oid}\t${path}\0`).join("")
  if (plain.length > 0) await git(place, ["update-index", "-z", "--index-info"], { input })
}

/** Writing a checkpoint's code into a directory. */
import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { withDiskErrors } from "../lib/disk-errors.ts"
import { isMissing, scratchFolder, writeFileDurably } from "../lib/files.ts"
import { step } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { CodePart, NestedPart, RepositoryPart } from "../protocol/manifest.ts"
import { branchCommits, writeBranches } from "./branches.ts"
import {
  moveCheckout,
  readCheckout,
  readDetails,
  type Details,
  type FromCheckout,
  type ReadCheckout,
} from "./checkout.ts"
import type { ApplyRequest, PartBackup, Repository } from "./code.ts"
import { fetchInto } from "./fetch.ts"
import { withoutForeign } from "./foreign.ts"
import { gitFailure, gitIn, gitOid, shownPath, type GitPlace } from "./git.ts"
import { metFile, refTime, saveAsLeft, unseenFiles } from "./left.ts"
import { storeLfs } from "./lfs.ts"
import { probeNames, requireDistinctNames } from "./names.ts"
import { directoriesOf, makeNested } from "./nested.ts"
import { describeOperation, pendingCommands, writeOperation } from "./operation.ts"
import { rawChanges, type RawChange } from "./raw-changes.ts"
import { requireWritableRefs, writeRefs, type RepositoryBackup } from "./refs.ts"
import { exists, openRepository, unsupportedState } from "./repository.ts"
import { requireRoom } from "./room.ts"
import { addStashes } from "./stash.ts"
import { dropReadIndex, unchangedSince } from "./unchanged.ts"
import { recordWritten } from "./verify.ts"

/**
 * Brings the directory to `code`: packs checked in quarantine, work tree, index, the closed list of refs, operation in progress,
 * stashes, then the nested repositories; files that are equal are not touched. Idempotent: after a crash the same call with the same
 * backup completes it. Contents that are found here and that neither the backup nor the checkpoint has are saved under
 * `refs/decamp/left/` first. Names that the disk takes for one are refused, and what does not fit is, before a file is touched; a write
 * that fails is taken back as far as it got. Steps: `fetch code`, `apply code`.
 * @throws {AppError} damaged_data (pack, state), unsupported_state (branch or file names that collide), diverged, busy, not_writable,
 *   no_space
 */
export async function applyCode(request: ApplyRequest): Promise<Repository> {
  return await withDiskErrors(async () => await applyAll(request))
}

async function applyAll(request: ApplyRequest): Promise<Repository> {
  const { directory, code, backup } = request
  const outer = backup.kind === "fresh" ? await openFresh(request, backup.directory) : await openRepository(directory)
  await applyAlone(outer, code, backup, request)
  for (const part of code.nested) {
    const before = backup.nested.find((each) => each.path === part.path)?.backup
    if (before === undefined) throw new AppError("internal", `the backup of ${directory} does not know ${part.path}`)
    const inner = await openNested(directory, part, before)
    await applyAlone(inner, part, before, request)
  }
  return await openRepository(directory)
}

/** What the backup read is of use to this one call, however it ends. */
async function applyAlone(...args: Parameters<typeof applyRepository>): Promise<void> {
  const [repository, , backup] = args
  try {
    await applyRepository(...args)
  } finally {
    if (backup.kind === "repository") await dropReadIndex(repository, backup.ref)
  }
}

async function openNested(top: string, part: NestedPart, before: PartBackup): Promise<Repository> {
  const directory = join(top, part.path)
  if (before.kind === "repository") return await openRepository(directory)
  await requireEmpty(directory)
  return await makeNested(top, part, branchArgs(part))
}

async function applyRepository(
  repository: Repository,
  code: RepositoryPart,
  backup: PartBackup,
  request: ApplyRequest,
): Promise<void> {
  await requireWritableRefs(repository, code)
  const refusal = await unsupportedState(repository)
  if (refusal !== null) throw refusal
  await fetchInto(repository, code, request)
  await requireDistinctNames(repository, code, await (request.namesAt ?? probeNames)(repository))
  await storeLfs(repository, code.lfs, request.source)
  await writeRepository(repository, code, backup, request)
}

/** Brings one repository to a state whose objects are all here. Step: `apply code`. */
export async function writeRepository(
  repository: Repository,
  code: RepositoryPart,
  backup: PartBackup,
  request: Pick<ApplyRequest, "scratch" | "steps">,
): Promise<void> {
  const { steps } = request
  await step(steps, "apply code", async () => {
    await using scratch = await scratchFolder(request.scratch, "apply")
    const details = await readDetails(repository, code.stateTree)
    requireCarried(code, details)
    const saved = backup.kind === "fresh" ? await emptyTree(repository) : backup.worktreeTree
    const unchanged =
      backup.kind === "fresh" ? null : await unchangedSince(repository, backup, { code, details }, scratch.path)
    const { from, foreign } =
      unchanged === null
        ? await readForApply(repository, scratch.path, { saved, code, backup, request })
        : { from: unchanged, foreign: new Set<string>() }
    // Nothing was met: what a cut-off apply leaves from here on is nobody's file.
    if (unchanged !== null && backup.kind === "repository")
      await noteMet(repository, from.worktreeTree, backup, new Set())
    const changes = await noteWritten(repository, from.worktreeTree, saved, code.worktreeTree)
    await requireRoom(repository, changes, from.walked.folders)
    const { indexTree, worktreeTree } = code
    await moveCheckout(
      repository,
      from,
      { indexTree, worktreeTree, details },
      { scratch: scratch.path, foreign, steps },
    )
    await writeRefs(repository, code, backup)
    await bring(repository, details, request)
  })
}

/** Reads what lies here; what neither the backup nor the checkpoint has is saved first, and left where it is not in the way. */
async function readForApply(
  repository: Repository,
  scratch: string,
  known: Unseen,
): Promise<{ readonly from: FromCheckout; readonly foreign: ReadonlySet<string> }> {
  const target = known.code.worktreeTree
  const found = await readCheckout(repository, { scratch, keep: [target] })
  const { checkout, foreign } = await withoutForeign(repository, found, [known.saved, target], target)
  await saveUnseen(repository, checkout, known)
  return { from: checkout, foreign }
}

/** What lies beside HEAD, index and work tree. */
async function bring(repository: Repository, details: Details, { steps }: Pick<ApplyRequest, "steps">): Promise<void> {
  await writeOperation(repository, details.operation)
  await addStashes(repository, details.stashes)
  if (details.operation === null) return
  const pending = pendingCommands(details.operation)
  if (pending.length === 0) return
  const what = describeOperation(details.operation)
  steps({ type: "warning", text: `${what} is in progress: git rebase --continue will run ${pending.join(" · ")}` })
}

/**
 * Writes the other branches and tags that a checkpoint brings (`--all-branches`): those that are absent or can be fast-forwarded. After
 * the hand-off is settled, for it is not undone. Answers a line for each that was left as it is.
 */
export async function bringBranches(directory: string, code: CodePart): Promise<readonly string[]> {
  const lines: string[] = []
  for (const each of [{ directory, part: code }, ...directoriesOf(directory, code)]) {
    if (!each.part.allBranches) continue
    const repository = await openRepository(each.directory)
    const { branches } = await readDetails(repository, each.part.stateTree)
    if (branches === null) continue
    const left = await writeBranches(repository, branches)
    lines.push(...left.map(({ ref, reason }) => `${ref} in ${each.directory} was left as it is: ${reason}`))
  }
  return lines
}

/** Objects that refs will name must be among those whose completeness was proved. */
function requireCarried(code: RepositoryPart, details: Details): void {
  const proved = new Set<string | null>([...code.carried, code.head, code.upstream?.trackingOid ?? null])
  const named = [
    ...details.stashes.map(({ oid }) => oid),
    ...(details.operation?.refs.values() ?? []),
    ...(details.branches === null ? [] : branchCommits(details.branches)),
    ...code.heldBranches.map(({ oid }) => oid),
  ]
  const missing = named.find((oid) => !proved.has(oid))
  if (missing === undefined) return
  throw new AppError("damaged_data", `the checkpoint's state names commit ${missing}, which it does not carry`)
}

export async function emptyTree(place: GitPlace): Promise<Oid> {
  return await gitOid(place, ["mktree"], { input: "" })
}

/** The repository of a fresh directory: made now, or by an earlier try. */
export async function openFresh(
  { directory, code }: { readonly directory: string; readonly code: RepositoryPart },
  recorded: string,
): Promise<Repository> {
  if (recorded !== directory) {
    throw new AppError("internal", `the backup is of ${recorded}, not of ${directory}`)
  }
  await mkdir(directory, { recursive: true })
  await requireEmpty(directory)
  // On a folder that an earlier try left half made, init completes it.
  const args = ["init", "--quiet", `--object-format=${code.objectFormat}`, ...branchArgs(code)]
  const result = await gitIn(directory, args)
  if (result.exitCode !== 0) throw gitFailure({ topLevel: directory }, args, result.stderr)
  return await openRepository(directory)
}

function branchArgs(code: RepositoryPart): readonly string[] {
  return code.branch === null ? [] : [`--initial-branch=${code.branch}`]
}

async function requireEmpty(directory: string): Promise<void> {
  if ((await exists(join(directory, ".git"))) || !(await hasEntries(directory))) return
  throw new AppError("diverged", `${directory} is not empty any more`, {
    hint: "choose another directory with --into",
  })
}

export async function hasEntries(directory: string): Promise<boolean> {
  try {
    return (await readdir(directory)).length > 0
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

interface Unseen {
  readonly saved: Oid
  readonly code: RepositoryPart
  readonly backup: PartBackup
  readonly request: Pick<ApplyRequest, "steps">
}

async function saveUnseen(
  repository: Repository,
  checkout: ReadCheckout,
  { saved, code, backup, request }: Unseen,
): Promise<void> {
  const unseen = await unseenFiles(repository, checkout.worktreeTree, [saved, code.worktreeTree])
  if (backup.kind === "repository") await noteMet(repository, checkout.worktreeTree, backup, new Set(unseen))
  const [first] = unseen
  if (first === undefined) return
  const now = Date.now()
  const ref = await saveAsLeft(repository, checkout, refTime(now), now)
  request.steps({ type: "warning", text: `${shownPath(first)} changed since the backup; saved under ${ref}` })
}

/** Notes which files lay here that the backup has not, so that an undo brings them back. */
async function noteMet(
  repository: Repository,
  current: Oid,
  backup: RepositoryBackup,
  unseen: ReadonlySet<string>,
): Promise<void> {
  const file = metFile(repository, backup.ref)
  if (await exists(file)) return
  const changes = await rawChanges(repository, ["diff-tree", "--diff-filter=AMT", backup.worktreeTree, current])
  const lines = changes.filter(({ path }) => unseen.has(path))
  const text = lines.map(({ newMode, newOid, path }) => `${newMode} ${newOid}\t${path}\0`).join("")
  await writeFileDurably(file, Buffer.from(text, "latin1"))
}

/**
 * What verify must look at: whatever this call, or an earlier one that was cut off, writes or removes. Answers what this call will
 * change.
 */
async function noteWritten(
  repository: Repository,
  current: Oid,
  saved: Oid,
  target: Oid,
): Promise<readonly RawChange[]> {
  const changes = await rawChanges(repository, ["diff-tree", current, target])
  const written = new Set(changes.map(({ path }) => path))
  if (saved !== current) {
    for (const { path } of await rawChanges(repository, ["diff-tree", saved, target])) written.add(path)
  }
  await recordWritten(repository, [...written])
  return changes
}

/** What differs between two states of a workspace's code: checkpoints, backups, the directory as it is. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { gitOid, gitRecords, gitResult, shownPath, type GitPlace } from "./git.ts"
import { readSaved } from "./left.ts"
import { directoriesOf, nestedRepositories, openIfThere } from "./nested.ts"
import { apartFrom } from "./snapshot.ts"
import { readTrees } from "./trees.ts"

/** A state of code, as far as it is compared. */
export interface CodeState {
  readonly worktreeTree: Oid
  /** Null: a backup of another version of decamp, of which only the files are known. */
  readonly at: { readonly head: Oid | null; readonly branch: string | null } | null
  /** By path below the top; null: not known, so not compared. */
  readonly nested: ReadonlyMap<string, NestedState> | null
}

interface NestedState {
  readonly worktreeTree: Oid
  readonly head: Oid | null
}

export interface FileChange {
  /** A nested repository of which one side is not here is told by its path and a slash. */
  readonly path: string
  /** Seen from the first state to the second; a change of the exec bit or of the kind of file is a modification. */
  readonly change: "added" | "modified" | "deleted"
}

export interface CodeDifference {
  readonly files: readonly FileChange[]
  /** HEAD differs; `ahead` and `behind` are commits that only the second and only the first state has, null when they can't be counted. */
  readonly head: {
    readonly from: Oid | null
    readonly to: Oid | null
    readonly ahead: number | null
    readonly behind: number | null
  } | null
  /** HEAD's branch differs; null in it: detached. */
  readonly branch: { readonly from: string | null; readonly to: string | null } | null
}

export function stateOfCode(code: CodePart): CodeState {
  const { worktreeTree, head, branch } = code
  const nested = new Map(code.nested.map((part) => [part.path, { worktreeTree: part.worktreeTree, head: part.head }]))
  return { worktreeTree, at: { head, branch }, nested }
}

/** The state that a ref under `refs/decamp/backup` or `left` holds. */
export async function stateOfBackup(repository: Repository, ref: string): Promise<CodeState> {
  try {
    const { worktreeTree, head, branch, nested } = await readSaved(repository, ref)
    const inner = new Map<string, NestedState>()
    for (const each of nested) {
      const there = await openIfThere(join(repository.topLevel, each.path))
      if (there !== null) inner.set(each.path, await readSaved(there, each.ref))
    }
    return { worktreeTree, at: { head, branch }, nested: inner }
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== "damaged_data") throw error
    const worktreeTree = await gitOid(repository, ["rev-parse", "--verify", "--end-of-options", `${ref}^{tree}`])
    return { worktreeTree, at: null, nested: null }
  }
}

/**
 * Whether all files and commits of a checkpoint are in this repository and in those nested repositories that are here: then nothing
 * has to be fetched to compare with it.
 */
export async function holdsState(repository: Repository, code: CodePart): Promise<boolean> {
  if (!(await holdsPart(repository, code))) return false
  for (const { directory, part } of directoriesOf(repository.topLevel, code)) {
    const inner = await openIfThere(directory)
    if (inner !== null && !(await holdsPart(inner, part))) return false
  }
  return true
}

async function holdsPart(
  repository: Repository,
  part: Pick<RepositoryPart, "worktreeTree" | "head">,
): Promise<boolean> {
  const roots = [part.worktreeTree, part.head].filter((oid) => oid !== null)
  const result = await gitResult(repository, ["rev-list", "--objects", "--quiet", ...roots, "--not", "--all"])
  return result.exitCode === 0
}

/**
 * What one state has otherwise than another. `to` null: the directory as it is now, untracked files too; ignored ones count when
 * `from` has them. The directory and its repositories stay as they are: what has to be written goes to a folder in `scratch`.
 */
export async function compareStates(
  repository: Repository,
  from: CodeState,
  to: CodeState | null,
  scratch: string,
): Promise<CodeDifference> {
  await using folder = await scratchFolder(scratch, "diff")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const now = to === null ? await stateNow(repository, folder.path, place, from) : null
  const other = to ?? now?.state ?? from
  const inner = await compareNested(repository, from.nested, other.nested, now?.places ?? new Map())
  return {
    files: [...(await diffTrees(place, from.worktreeTree, other.worktreeTree)), ...inner],
    ...(await compareHeads(place, from.at, other.at)),
  }
}

/** By path below the top: where the objects of a nested repository's present state were written. */
type Places = ReadonlyMap<string, GitPlace>

async function stateNow(
  repository: Repository,
  scratch: string,
  place: GitPlace & { readonly objects: string },
  from: CodeState,
): Promise<{ readonly state: CodeState; readonly places: Places }> {
  const read = async (each: Repository, objects: string, keep: Oid | undefined): Promise<NestedState> => {
    const { worktreeTree } = await readTrees(each, { scratch, objects, keep: keep === undefined ? [] : [keep] })
    return { worktreeTree, head: each.head === null ? null : oidSchema.parse(each.head) }
  }
  const { worktreeTree, head } = await read(repository, place.objects, from.worktreeTree)
  const nested = new Map<string, NestedState>()
  const places = new Map<string, GitPlace>()
  const { parts } = await nestedRepositories(repository)
  for (const { path, repository: inner } of parts) {
    const apart = await apartFrom(inner, join(scratch, `objects-${places.size}`))
    places.set(path, apart)
    nested.set(path, await read(inner, apart.objects, from.nested?.get(path)?.worktreeTree))
  }
  return { state: { worktreeTree, at: { head, branch: repository.branch }, nested }, places }
}

const CHANGES: Readonly<Record<string, FileChange["change"]>> = { A: "added", D: "deleted" }

/** Files that differ between two trees, in git's order; renames are told as a deletion and an addition. */
export async function diffTrees(place: GitPlace, from: Oid, to: Oid): Promise<readonly FileChange[]> {
  if (from === to) return []
  const records = await gitRecords(place, ["diff-tree", "-r", "--name-status", "--no-renames", "-z", from, to])
  const files: FileChange[] = []
  for (let at = 0; at + 1 < records.length; at += 2) {
    files.push({ path: shownPath(records[at + 1] ?? ""), change: CHANGES[records[at] ?? ""] ?? "modified" })
  }
  return files
}

async function compareNested(
  repository: Repository,
  from: CodeState["nested"],
  to: CodeState["nested"],
  places: Places,
): Promise<FileChange[]> {
  if (from === null || to === null) return []
  const files: FileChange[] = []
  for (const path of [...new Set([...from.keys(), ...to.keys()])].toSorted()) {
    const [before, after] = [from.get(path), to.get(path)]
    if (before === undefined) files.push({ path: `${path}/`, change: "added" })
    else if (after === undefined) files.push({ path: `${path}/`, change: "deleted" })
    else if (before.head !== after.head || before.worktreeTree !== after.worktreeTree) {
      const place = places.get(path) ?? (await openIfThere(join(repository.topLevel, path)))
      files.push(...(place === null ? [whole(path)] : await changesInside(place, path, before, after)))
    }
  }
  return files
}

const whole = (path: string): FileChange => ({ path: `${path}/`, change: "modified" })

async function changesInside(
  place: GitPlace,
  path: string,
  before: NestedState,
  after: NestedState,
): Promise<FileChange[]> {
  const trees = await Promise.all([before, after].map(async (each) => await isTreeHere(place, each.worktreeTree)))
  if (trees.includes(false)) return [whole(path)]
  const files = await diffTrees(place, before.worktreeTree, after.worktreeTree)
  // Only its commit differs.
  return files.length === 0 ? [whole(path)] : files.map((file) => ({ ...file, path: `${path}/${file.path}` }))
}

async function isTreeHere(place: GitPlace, tree: Oid): Promise<boolean> {
  return (await gitResult(place, ["cat-file", "-e", `${tree}^{tree}`])).exitCode === 0
}

async function compareHeads(
  place: GitPlace,
  from: CodeState["at"],
  to: CodeState["at"],
): Promise<Pick<CodeDifference, "head" | "branch">> {
  if (from === null || to === null) return { head: null, branch: null }
  const branch = from.branch === to.branch ? null : { from: from.branch, to: to.branch }
  if (from.head === to.head) return { head: null, branch }
  return { head: { from: from.head, to: to.head, ...(await countBetween(place, from.head, to.head)) }, branch }
}

async function countBetween(
  place: GitPlace,
  from: Oid | null,
  to: Oid | null,
): Promise<{ ahead: number | null; behind: number | null }> {
  const unknown = { ahead: null, behind: null }
  if (from === null || to === null) return unknown
  // Commits that are not here make this fail: then the two ids have to do.
  const result = await gitResult(place, ["rev-list", "--left-right", "--count", `${from}...${to}`, "--"])
  if (result.exitCode !== 0) return unknown
  const [behind, ahead] = Buffer.from(result.stdout).toString("utf8").trim().split("\t").map(Number)
  return { ahead: ahead ?? null, behind: behind ?? null }
}

/** What differs between two states of a workspace's code: checkpoints, backups, the directory as it is. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { gitOid, gitRecords, gitResult, shownPath, type GitPlace } from "./git.ts"
import { apartFrom } from "./snapshot.ts"
import { readTrees } from "./trees.ts"

/** A state of code, as far as it is compared. */
export interface CodeState {
  readonly worktreeTree: Oid
  /** Null: of a backup only the files are compared. */
  readonly at: { readonly head: Oid | null; readonly branch: string | null } | null
}

export interface FileChange {
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
  return { worktreeTree: code.worktreeTree, at: { head: code.head, branch: code.branch } }
}

/** The state that a ref under `refs/decamp/backup` or `left` holds: its commit's tree is the work tree. */
export async function stateOfBackup(repository: Repository, ref: string): Promise<CodeState> {
  const worktreeTree = await gitOid(repository, ["rev-parse", "--verify", "--end-of-options", `${ref}^{tree}`])
  return { worktreeTree, at: null }
}

/** Whether all files and commits of a checkpoint are in this repository: then nothing has to be fetched to compare with it. */
export async function holdsState(repository: Repository, code: CodePart): Promise<boolean> {
  const roots = [code.worktreeTree, code.head].filter((oid) => oid !== null)
  const result = await gitResult(repository, ["rev-list", "--objects", "--quiet", ...roots, "--not", "--all"])
  return result.exitCode === 0
}

/**
 * What one state has otherwise than another. `to` null: the directory as it is now, untracked files too; ignored ones count when
 * `from` has them. The directory and its repository stay as they are: what has to be written goes to a folder in `scratch`.
 */
export async function compareStates(
  repository: Repository,
  from: CodeState,
  to: CodeState | null,
  scratch: string,
): Promise<CodeDifference> {
  await using folder = await scratchFolder(scratch, "diff")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const other = to ?? (await stateNow(repository, folder.path, place.objects, from))
  return {
    files: await diffTrees(place, from.worktreeTree, other.worktreeTree),
    ...(await compareHeads(place, from.at, other.at)),
  }
}

async function stateNow(repository: Repository, scratch: string, objects: string, from: CodeState): Promise<CodeState> {
  const { worktreeTree } = await readTrees(repository, { scratch, objects, keep: [from.worktreeTree] })
  const head = repository.head === null ? null : oidSchema.parse(repository.head)
  return { worktreeTree, at: { head, branch: repository.branch } }
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
  const range = `${from}...${to}`
  // Commits that are not here make this fail: then the two ids have to do.
  const result = await gitResult(place, ["rev-list", "--left-right", "--count", range, "--"])
  if (result.exitCode !== 0) return unknown
  const [behind, ahead] = Buffer.from(result.stdout).toString("utf8").trim().split("\t").map(Number)
  return { ahead: ahead ?? null, behind: behind ?? null }
}

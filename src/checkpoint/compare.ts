/** What a directory has that a checkpoint has not. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Base, Differences, Repository } from "./code.ts"
import { git, gitRecords, gitResult, resolveRef, shownPath, type GitPlace } from "./git.ts"
import { apartFrom } from "./snapshot.ts"
import { rawChanges, readTrees, type RawChange, type ReadTrees } from "./trees.ts"

/** Commits that are told one by one. */
const MAX_COMMITS = 100

/**
 * What this directory has that its base checkpoint has not. Without a base (a clone that decamp never wrote), commits count that
 * `incoming`'s HEAD does not reach, and every file that is not as HEAD has it. As long as `incoming`'s commits are not here (before
 * `fetchCode`, or when there is none) commits count that no remote-tracking ref reaches. Changes nothing.
 */
export async function differences(
  repository: Repository,
  base: Base | null,
  scratch: string,
  incoming: CodePart | null = null,
): Promise<Differences> {
  await using folder = await scratchFolder(scratch, "compare")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const known = await knownState(place, repository, base)
  const trees = await readTrees(repository, {
    scratch: folder.path,
    objects: place.objects,
    keep: [known.worktreeTree, ...(incoming === null ? [] : [incoming.worktreeTree])],
  })
  const exclude = [base?.code.head, incoming?.head].filter((oid) => oid !== undefined)
  return {
    commits: await newCommits(place, repository, exclude),
    files: await changedFiles(place, known, trees),
    branch: base === null || repository.branch === base.code.branch ? null : (repository.branch ?? "(detached HEAD)"),
  }
}

interface KnownState {
  readonly indexTree: Oid
  readonly worktreeTree: Oid
}

async function knownState(place: GitPlace, repository: Repository, base: Base | null): Promise<KnownState> {
  if (base !== null && (await isHere(place, base.code.indexTree)) && (await isHere(place, base.code.worktreeTree))) {
    return base.code
  }
  const tree = repository.head === null ? null : await resolveRef(place, `${repository.head}^{tree}`)
  const known = tree ?? oidSchema.parse((await git(place, ["mktree"], { input: "" })).trim())
  return { indexTree: known, worktreeTree: known }
}

async function isHere(place: GitPlace, oid: Oid): Promise<boolean> {
  return (await gitResult(place, ["cat-file", "-e", oid])).exitCode === 0
}

async function newCommits(
  place: GitPlace,
  repository: Repository,
  exclude: readonly Oid[],
): Promise<Differences["commits"]> {
  if (repository.head === null) return []
  const present: Oid[] = []
  for (const oid of exclude) if (await isHere(place, oid)) present.push(oid)
  const args = ["log", "-z", "--no-show-signature", `--max-count=${MAX_COMMITS}`, "--format=%h %s", repository.head]
  // The checkpoint's commits are not all here: what a git remote has is not lost either, and a clone is not "ahead" for being a clone.
  const remotes = present.length === 0 ? ["--remotes"] : []
  const lines = await gitRecords(place, [...args, "--not", ...present, ...remotes, "--"])
  return lines.map((line) => {
    const at = line.indexOf(" ")
    return { oid: line.slice(0, at), subject: shownPath(line.slice(at + 1)) }
  })
}

async function changedFiles(place: GitPlace, known: KnownState, trees: ReadTrees): Promise<Differences["files"]> {
  const [staged, written, indexed] = await Promise.all([
    rawChanges(place, ["diff-tree", known.indexTree, trees.indexTree]),
    rawChanges(place, ["diff-tree", known.worktreeTree, trees.worktreeTree]),
    rawChanges(place, ["diff-tree", trees.indexTree, trees.worktreeTree]),
  ])
  const untracked = new Set(indexed.filter(({ status }) => status === "A").map(({ path }) => path))
  const files = new Map<string, Differences["files"][number]>()
  for (const { path } of staged) files.set(path, { path: shownPath(path), change: "staged" })
  for (const change of written) {
    files.set(change.path, { path: shownPath(change.path), change: nameOf(change, untracked) })
  }
  return [...files.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

function nameOf(change: RawChange, untracked: ReadonlySet<string>): Differences["files"][number]["change"] {
  if (change.status === "D") return "deleted"
  if (untracked.has(change.path) && change.status === "A") return "untracked"
  return change.status === "A" ? "added" : "modified"
}

export function isClean(found: Differences): boolean {
  return found.commits.length === 0 && found.files.length === 0 && found.branch === null
}

/** One line for a person: `main, 3 commits ahead, 5 modified, 2 untracked`. */
export async function summary(repository: Repository): Promise<string> {
  const args = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames"]
  const records = await gitRecords(repository, args)
  const parts = [repository.branch ?? `detached at ${repository.head?.slice(0, 10) ?? "nothing"}`]
  const [, ahead = "0", behind = "0"] =
    records.map((line) => /^# branch\.ab \+(\d+) -(\d+)$/.exec(line)).find((match) => match !== null) ?? []
  if (ahead !== "0") parts.push(`${ahead} ${ahead === "1" ? "commit" : "commits"} ahead`)
  if (behind !== "0") parts.push(`${behind} behind`)
  const count = (test: RegExp): number => records.filter((line) => test.test(line)).length
  const counts = [
    [count(/^[1u] [^.]/), "staged"],
    [count(/^1 .[^.]/), "modified"],
    [count(/^\? /), "untracked"],
  ] as const
  for (const [number, word] of counts) if (number > 0) parts.push(`${number} ${word}`)
  return parts.length === 1 ? `${parts[0]}, clean` : parts.join(", ")
}

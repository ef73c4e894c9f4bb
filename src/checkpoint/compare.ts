/** What a directory has that a checkpoint has not. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import type { Oid } from "../protocol/ids.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import { readBase } from "./base.ts"
import { readCheckout, readDetails, type Details, type ReadCheckout } from "./checkout.ts"
import type { Base, Differences, Repository } from "./code.ts"
import { gitRecords, gitResult, shownPath, type GitPlace } from "./git.ts"
import { modeDifferences } from "./modes.ts"
import { nestedRepositories } from "./nested.ts"
import { describeOperation, isSameOperation, readOperation } from "./operation.ts"
import { rawChanges, type RawChange } from "./raw-changes.ts"
import { apartFrom } from "./snapshot.ts"

/** Commits that are told one by one. */
const MAX_COMMITS = 100

/**
 * What this directory and the nested repositories in it have that their base checkpoint has not. Without a base (a clone that decamp
 * never wrote), commits count that `incoming`'s HEAD does not reach, and every file that is not as HEAD has it. As long as
 * `incoming`'s commits are not here (before `fetchCode`, or when there is none) commits count that no remote-tracking ref reaches.
 * Changes nothing.
 */
export async function differences(
  repository: Repository,
  base: Base | null,
  scratch: string,
  incoming: CodePart | null = null,
): Promise<Differences> {
  const outer = await repositoryDifferences(repository, base, scratch, incoming)
  const { parts } = await nestedRepositories(repository)
  const all = [outer]
  for (const { path, repository: inner } of parts) {
    const part = incoming?.nested.find((each) => each.path === path) ?? null
    const found = await repositoryDifferences(inner, await readBase(inner), scratch, part)
    all.push({ ...found, files: found.files.map((file) => ({ ...file, path: `${path}/${file.path}` })) })
  }
  return {
    commits: all.flatMap(({ commits }) => commits),
    files: all.flatMap(({ files }) => files),
    branch: all.find(({ branch }) => branch !== null)?.branch ?? null,
    operation: all.find(({ operation }) => operation !== null)?.operation ?? null,
  }
}

async function repositoryDifferences(
  repository: Repository,
  base: Base | null,
  scratch: string,
  incoming: RepositoryPart | null,
): Promise<Differences> {
  await using folder = await scratchFolder(scratch, "compare")
  const place = await apartFrom(repository, join(folder.path, "objects"))
  const known = base !== null && (await hasState(place, base.code)) ? base.code : null
  const exclude = [base?.code.head, incoming?.head].filter((oid) => oid !== undefined && oid !== null)
  const commits = await newCommits(place, repository, exclude)
  const branch =
    base === null || repository.branch === base.code.branch ? null : (repository.branch ?? "(detached HEAD)")
  if (known === null) {
    const operation = await readOperation(repository)
    return {
      commits,
      files: await uncommittedFiles(repository),
      branch,
      operation: operation && describeOperation(operation),
    }
  }
  const keep = [known.worktreeTree, ...(incoming === null ? [] : [incoming.worktreeTree])]
  const [checkout, details] = await Promise.all([
    readCheckout(repository, { scratch: folder.path, objects: place.objects, keep }),
    readDetails(place, known.stateTree),
  ])
  const files = [...(await changedFiles(place, known, checkout)), ...changedMarks(details, checkout)]
  const byPath = new Map(files.reverse().map((file) => [file.path, file]))
  return {
    commits,
    files: [...byPath.values()].sort((one, other) => (one.path < other.path ? -1 : 1)),
    branch,
    operation: changedOperation(details, checkout),
  }
}

async function hasState(place: GitPlace, code: RepositoryPart): Promise<boolean> {
  const { indexTree, worktreeTree, stateTree } = code
  for (const tree of [indexTree, worktreeTree, stateTree])
    if (tree !== null && !(await isHere(place, tree))) return false
  return true
}

/** Every file that is not as HEAD has it, as `git status` tells. */
async function uncommittedFiles(repository: Repository): Promise<Differences["files"]> {
  const args = ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all"]
  const records = await gitRecords(repository, args)
  const names = { "?": "untracked", A: "added", D: "deleted" } as const
  return records.map((record) => {
    const [staged = " ", written = " "] = record
    const letter = written === " " ? staged : written
    const change = letter === "?" || letter === "A" || letter === "D" ? names[letter] : "modified"
    return { path: shownPath(record.slice(3)), change: written === " " && letter !== "?" ? "staged" : change }
  })
}

/** Permission bits, and paths whose marks or unmerged stages are other ones. */
function changedMarks(known: Details, found: ReadCheckout): Differences["files"][number][] {
  const bits = modeDifferences(known.modes, found.walked).map((path) => ({
    path: shownPath(path),
    change: "mode" as const,
  }))
  const paths = (marks: Details["marks"]): Map<string, string> =>
    new Map(
      Object.entries(marks).flatMap(([kind, entries]) =>
        entries.map((entry): [string, string] =>
          typeof entry === "string" ? [entry, kind] : [entry.path, JSON.stringify([kind, entry])],
        ),
      ),
    )
  const [before, now] = [paths(known.marks), paths(found.marks)]
  const marked = [...new Set([...before.keys(), ...now.keys()])].filter((path) => before.get(path) !== now.get(path))
  return [...bits, ...marked.map((path) => ({ path: shownPath(path), change: "staged" as const }))]
}

function changedOperation(known: Details, found: ReadCheckout): string | null {
  const { operation } = found.details
  if (isSameOperation(known.operation, operation)) return null
  return operation === null ? "none" : describeOperation(operation)
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

async function changedFiles(
  place: GitPlace,
  known: RepositoryPart,
  trees: ReadCheckout,
): Promise<Differences["files"]> {
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
  const { commits, files, branch, operation } = found
  return commits.length === 0 && files.length === 0 && branch === null && operation === null
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

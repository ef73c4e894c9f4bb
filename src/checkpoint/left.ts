/** Saving a directory, or what is new in it, as one commit under `refs/decamp/`. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, resolveRef } from "./git.ts"
import { commitText, writeCommit } from "./snapshot.ts"
import { rawChanges, readTrees, type ReadTrees } from "./trees.ts"

/**
 * A commit whose tree is the work tree (so that `git show REF:file` works) and whose parents are HEAD, the index and the tips of refs
 * that may be overwritten.
 */
export async function writeStateCommit(
  repository: Repository,
  trees: Pick<ReadTrees, "indexTree" | "worktreeTree">,
  about: { readonly title: string; readonly facts: Readonly<Record<string, unknown>>; readonly atMs: number },
  tips: readonly Oid[] = [],
): Promise<Oid> {
  const seconds = Math.floor(about.atMs / 1000)
  const head = repository.head === null ? [] : [oidSchema.parse(repository.head)]
  const index = await writeCommit(repository, commitText(trees.indexTree, head, "decamp index", seconds))
  const parents = [...new Set([...head, index, ...tips])]
  const facts = JSON.stringify({ branch: repository.branch, head: repository.head, ...about.facts })
  return await writeCommit(repository, commitText(trees.worktreeTree, parents, `${about.title}\n\n${facts}`, seconds))
}

/** Sets a new ref; a taken name gets `-2`, `-3`, …; answers the name. */
export async function writeNewRef(repository: Repository, name: string, commit: Oid): Promise<string> {
  for (let number = 1; ; number += 1) {
    const ref = number === 1 ? name : `${name}-${number}`
    const now = await resolveRef(repository, ref)
    if (now === commit) return ref
    if (now !== null) continue
    await git(repository, ["update-ref", ref, commit, "0".repeat(commit.length)])
    return ref
  }
}

/** `20261122T225912Z`: a time as part of a ref's name. */
export function refTime(atMs: number): string {
  return new Date(atMs).toISOString().replaceAll(/[-:]|\.\d+/g, "")
}

/**
 * A file that belongs to a backup: the raw `index`; `met`, the files that apply found and the backup had not, as lines for
 * `update-index --index-info`. `met` is written once, by the first apply: what a cut-off apply wrote is nobody's file.
 */
export function besideBackup(repository: Repository, ref: string, what: "index" | "met"): string {
  return join(repository.gitDir, "decamp", "backup", `${ref.split("/").at(-1) ?? ""}.${what}`)
}

/** Byte paths of files whose contents here are in none of the trees. */
export async function unseenFiles(
  repository: Repository,
  current: Oid,
  seen: readonly Oid[],
): Promise<readonly string[]> {
  const changed: (readonly string[])[] = []
  for (const tree of seen) {
    const changes = await rawChanges(repository, ["diff-tree", "--diff-filter=AMT", tree, current])
    changed.push(changes.map(({ path }) => path))
  }
  const [first = [], ...others] = changed
  const rest = others.map((paths) => new Set(paths))
  return first.filter((path) => rest.every((paths) => paths.has(path)))
}

/** Saves the directory under `refs/decamp/left/<name>` and answers the ref. */
export async function saveTreesAsLeft(
  repository: Repository,
  trees: Pick<ReadTrees, "indexTree" | "worktreeTree">,
  name: string,
  atMs: number,
): Promise<string> {
  const about = { title: "decamp: left behind", facts: { directory: repository.topLevel }, atMs }
  return await writeNewRef(repository, `refs/decamp/left/${name}`, await writeStateCommit(repository, trees, about))
}

/** Saves the directory as it is under `refs/decamp/left/<epoch>` (a taken name gets `-2`, …); answers the ref. */
export async function saveLeft(repository: Repository, epoch: number, scratch: string): Promise<string> {
  await using folder = await scratchFolder(scratch, "left")
  const trees = await readTrees(repository, { scratch: folder.path, keep: [] })
  return await saveTreesAsLeft(repository, trees, String(epoch), Date.now())
}

/** Refs under `refs/decamp/left/`, newest first. */
export async function listLeft(
  repository: Repository,
): Promise<readonly { readonly ref: string; readonly createdAtMs: number }[]> {
  const args = [
    "for-each-ref",
    "--sort=-committerdate",
    "--format=%(refname) %(committerdate:unix)",
    "refs/decamp/left",
  ]
  const lines = (await gitRecords(repository, args)).join("").split("\n")
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const [ref = "", seconds = "0"] = line.split(" ")
      return { ref, createdAtMs: Number(seconds) * 1000 }
    })
}

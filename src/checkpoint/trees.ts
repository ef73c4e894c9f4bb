/** Reading index and work tree into git trees through a private copy of the index. */
import { join } from "node:path"
import type { Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { convertedFiles } from "./conversion.ts"
import { git, gitFailure, gitOid, gitRecords, gitResult, type GitPlace } from "./git.ts"
import { readIncludes } from "./include.ts"
import { copyIndex } from "./index-file.ts"
import { keptFiles } from "./kept.ts"
import { dropUnmerged, intendedEntries, listIndex, marksOf, type IndexEntry, type Marks } from "./marks.ts"
import { lookAt, walk, type Walked } from "./modes.ts"
import { rawChanges } from "./raw-changes.ts"
import { openShadow } from "./shadow.ts"
import { readSparse } from "./sparse.ts"

/** How often files that change while they are read are read again. */
const TRIES = 5
/** Paths that are named on a command line. */
const MAX_NAMED = 200

export interface ReadTrees {
  readonly indexTree: Oid
  readonly worktreeTree: Oid
  /** Where the work tree was read byte for byte; its index holds it, with fresh stat data. */
  readonly place: GitPlace & { readonly index: string }
  readonly marks: Marks
  readonly walked: Walked
  /** Ignored files and folders (byte paths; a folder ends with `/`). */
  readonly ignored: readonly string[]
  /** Files that are ignored here and taken all the same: a tree of `keep` has them, or `.worktreeinclude` names them (byte paths). */
  readonly kept: readonly string[]
  /** Of what was taken: looks like a secret, and `.worktreeinclude` names it (byte paths). */
  readonly secrets: readonly string[]
  /** Not ignored, not taken: looks like a secret (byte paths). */
  readonly withheld: readonly string[]
  /** Changed with every try to read them; taken as they were read last (byte paths). */
  readonly unstable: readonly string[]
}

export interface ReadOptions {
  /** Folder for the private index. */
  readonly scratch: string
  /** Object folder to write; absent: the repository's own. */
  readonly objects?: string
  /** Trees whose files are taken when they lie on disk, also when they are ignored here. Missing trees are passed over. */
  readonly keep: readonly Oid[]
  /** Byte paths whose stat data in the index must not be believed; "all": of none. */
  readonly distrust?: readonly string[] | "all"
}

/**
 * Trees of the index and of the work tree. Writes objects only. What doesn't depend on one another runs side by side: on a large
 * repository the look at every file (`add`) is most of the time, the rest hides behind it.
 * @throws {AppError} not_writable (a file that can't be read), unsupported_state, no_space
 */
export async function readTrees(repository: Repository, options: ReadOptions): Promise<ReadTrees> {
  const index = join(options.scratch, `index-${crypto.randomUUID().slice(0, 8)}`)
  const objects = options.objects === undefined ? {} : { objects: options.objects }
  const staged: GitPlace = {
    gitDir: repository.gitDir,
    topLevel: repository.topLevel,
    index: `${index}-staged`,
    ...objects,
  }
  const ignoring = ignoredPaths(repository)
  const surveying = repository.survey().then(async (survey) => {
    const includes = await readIncludes(repository, survey.untracked)
    const { topLevel } = repository
    const nested = survey.nested.map((path) => bytePath(path.slice(topLevel.length + 1)))
    return { ...includes, untracked: survey.untracked, left: [...nested, ...includes.withheld] }
  })
  const walking = Promise.all([ignoring, surveying]).then(async ([ignored, { left }]) => {
    return await walk(repository.topLevel, new Set([...ignored.map((path) => path.replace(/\/$/, "")), ...left]))
  })
  const [entries, sparse, shadow] = await Promise.all([
    listIndex(repository),
    readSparse(repository),
    openShadow(repository, options.scratch, options.objects),
    copyIndex(join(repository.gitDir, "index"), staged.index ?? ""),
  ])
  const place = { ...shadow, index }
  await copyIndex(`${index}-staged`, index)
  const [indexed, , walked, includes, ignored] = await Promise.all([
    readIndexTree(staged, marksOf(entries)),
    addAll(place, repository, entries, { ...options, walking, surveying, isSparse: sparse !== null }),
    walking,
    surveying,
    ignoring,
  ])
  const kept = [...new Set([...includes.included, ...(await keptFiles(place, repository, options.keep))])]
  const extra = await gitlinkCorrections(place, entries, indexed.indexTree)
  if (extra !== "") await git(place, ["update-index", "-z", "--index-info"], { input: extra })
  if (kept.length > 0) await take(place, kept)
  const settled = await settle(place, indexed.indexTree)
  return {
    ...indexed,
    worktreeTree: settled.tree,
    place,
    walked: lookAt(walked, repository.topLevel, kept),
    ignored,
    kept,
    secrets: includes.secrets,
    withheld: includes.withheld,
    unstable: settled.unstable,
  }
}

async function readIndexTree(staged: GitPlace, marks: Marks): Promise<{ indexTree: Oid; marks: Marks }> {
  await dropUnmerged(staged, marks)
  const indexTree = await gitOid(staged, ["write-tree"])
  return { indexTree, marks: { ...marks, intentToAdd: await intendedEntries(staged, indexTree) } }
}

async function ignoredPaths(repository: Repository): Promise<readonly string[]> {
  return await gitRecords(repository, ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"])
}

export function bytePath(path: string): string {
  return Buffer.from(path, "utf8").toString("latin1")
}

const joined = (paths: readonly string[]): string => paths.map((path) => `${path}\0`).join("")

/** What is found out meanwhile. */
interface Looking {
  readonly isSparse: boolean
  readonly walking: Promise<Walked>
  /** Untracked files, and what `add` must leave alone (byte paths). */
  readonly surveying: Promise<{ readonly untracked: readonly string[]; readonly left: readonly string[] }>
}

/** Brings the private index to the work tree. Answers the files (byte paths) that git could not read because they came and went. */
async function addAll(
  place: GitPlace,
  repository: Repository,
  entries: readonly IndexEntry[],
  options: ReadOptions & Looking,
): Promise<readonly string[]> {
  // Entries of an unmerged path bear no marks, and git takes none for them.
  const merged = entries.filter(({ stage }) => stage === 0)
  const assumed = merged.filter((entry) => entry.isAssumedUnchanged).map(({ path }) => path)
  // In a sparse checkout git shows no mark on a file that is there all the same; in the index it has one.
  const skipped = merged.filter((entry) => entry.skipsWorktree || options.isSparse).map(({ path }) => path)
  // One call clears only the first kind it is told about.
  if (assumed.length > 0) {
    await git(place, ["update-index", "--no-assume-unchanged", "-z", "--stdin"], { input: joined(assumed) })
  }
  if (skipped.length > 0) {
    await git(place, ["update-index", "--no-skip-worktree", "-z", "--stdin"], { input: joined(skipped) })
  }
  await forgetStats(place, entries, await distrusted(repository, entries, options))
  const excluded = (await options.surveying).left.map((path) => `:(exclude,top,literal)${path}`)
  const args = ["add", "--all", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul"]
  for (let number = 1; ; number += 1) {
    const result = await gitResult(place, args, { input: joined([".", ...excluded]) })
    if (result.exitCode === 0) return []
    const came = vanished(result.stderr)
    if (came === null) throw gitFailure(place, args, result.stderr)
    if (number === TRIES) return came
  }
}

/** Files that git could not read because they were gone, or had changed, when it came to them; null: it failed for another reason. */
function vanished(stderr: string): readonly string[] | null {
  const lines = stderr.split("\n").filter((line) => /^(error|fatal):/.test(line))
  const harmless =
    /No such file or directory|short read|unable to index file|adding files failed|file changed|unable to stat/i
  if (lines.length === 0 || !lines.every((line) => harmless.test(line))) return null
  return lines.flatMap((line) => /(?:open\("|unable to (?:stat|index file) ')(.+?)["']/.exec(line)?.[1] ?? [])
}

async function distrusted(
  repository: Repository,
  entries: readonly IndexEntry[],
  options: ReadOptions & Looking,
): Promise<readonly string[] | "all"> {
  if (options.distrust === "all") return "all"
  const { untracked } = await options.surveying
  return [...(options.distrust ?? []), ...(await convertedFiles(repository, { entries, untracked }, options.walking))]
}

/** Takes the stat data from entries, so that `add` reads the files again, byte for byte. */
async function forgetStats(
  place: GitPlace,
  entries: readonly IndexEntry[],
  distrust: readonly string[] | "all",
): Promise<void> {
  if (distrust.length === 0) return
  const wanted = distrust === "all" ? null : new Set(distrust)
  const lines = entries.filter(({ path, stage }) => stage === 0 && (wanted === null || wanted.has(path)))
  // An entry that is set anew from its mode and object id starts without stat data.
  const input = lines.map(({ mode, oid, path }) => `${mode} ${oid}\t${path}\0`).join("")
  if (lines.length > 0) await git(place, ["update-index", "-z", "--index-info"], { input })
}

/** Submodules are parts of their own: their entries stay as the index has them. */
async function gitlinkCorrections(place: GitPlace, entries: readonly IndexEntry[], indexTree: Oid): Promise<string> {
  if (entries.every(({ mode }) => mode !== "160000")) return ""
  const changes = await rawChanges(place, ["diff-index", "--cached", indexTree])
  return changes
    .filter(({ newMode, oldMode }) => newMode === "160000" || oldMode === "160000")
    .map(({ oldMode, oldOid, path }) =>
      oldMode === "160000" ? `${oldMode} ${oldOid}\t${path}\0` : `0 ${"0".repeat(oldOid.length)}\t${path}\0`,
    )
    .join("")
}

async function take(place: GitPlace, paths: readonly string[]): Promise<void> {
  await git(place, ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"], { input: joined(paths) })
}

/**
 * Writes the tree, and looks whether every file that was read is still as it was read: git notes a file's size and times before it
 * reads it. Files that are not are read again, five times at most.
 */
async function settle(
  place: GitPlace,
  indexTree: Oid,
): Promise<{ readonly tree: Oid; readonly unstable: readonly string[] }> {
  for (let number = 1; ; number += 1) {
    const [tree, read] = await Promise.all([
      gitOid(place, ["write-tree"]),
      rawChanges(place, ["diff-index", "--cached", indexTree]),
    ])
    const changed = await changedSince(
      place,
      read.map(({ path }) => path),
    )
    if (changed.length === 0) return { tree, unstable: [] }
    if (number === TRIES) return { tree, unstable: changed }
    await take(place, changed)
  }
}

/** Of these paths, those whose file is not the one that the private index knows. */
async function changedSince(place: GitPlace, paths: readonly string[]): Promise<readonly string[]> {
  if (paths.length === 0) return []
  const args = ["--literal-pathspecs", "diff-files", "--name-only", "-z", "--ignore-submodules=all"]
  // A few are looked at one by one; names that are not ASCII can't be told to git on its command line, byte for byte.
  const isNamed = paths.length <= MAX_NAMED && paths.every((path) => /^[\u0020-\u007e]+$/.test(path))
  return await gitRecords(place, isNamed ? [...args, "--", ...paths] : args)
}

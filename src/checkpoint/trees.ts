/** Reading index and work tree into git trees through a private copy of the index, and moving a directory from one state to another. */
import { chmod, copyFile, link, lstat, open, readdir, rename, rm, stat, utimes } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, privateFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { git, gitOid, gitRecords, gitResult, type GitPlace } from "./git.ts"

export interface ReadTrees {
  readonly indexTree: Oid
  readonly worktreeTree: Oid
  /** Private index that holds the work tree, with fresh stat data. */
  readonly index: string
  /** Files marked assume-unchanged or skip-worktree (byte paths). Their contents on disk are in the work tree's tree. */
  readonly flagged: readonly string[]
  /** Files that are ignored here and taken all the same, because a tree of `keep` has them (byte paths). */
  readonly kept: readonly string[]
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
 */
export async function readTrees(repository: Repository, options: ReadOptions): Promise<ReadTrees> {
  const index = join(options.scratch, `index-${crypto.randomUUID().slice(0, 8)}`)
  const common = {
    gitDir: repository.gitDir,
    topLevel: repository.topLevel,
    ...(options.objects === undefined ? {} : { objects: options.objects }),
  }
  const staged: GitPlace = { ...common, index: `${index}-staged` }
  const place: GitPlace = { ...common, index }
  const own = join(repository.gitDir, "index")
  const [flagged] = await Promise.all([flaggedFiles(repository), copyIndex(own, `${index}-staged`)])
  await copyIndex(`${index}-staged`, index)
  const [indexTree] = await Promise.all([gitOid(staged, ["write-tree"]), addAll(place, repository, flagged, options)])
  const [tree, gitlinks, kept] = await Promise.all([
    gitOid(place, ["write-tree"]),
    gitlinkCorrections(place, indexTree),
    keptFiles(place, repository, options.keep),
  ])
  const isAsAdded = gitlinks === "" && kept.length === 0
  if (gitlinks !== "") await git(place, ["update-index", "-z", "--index-info"], { input: gitlinks })
  if (kept.length > 0) {
    const input = kept.map((path) => `${path}\0`).join("")
    await git(place, ["update-index", "--add", "--replace", "-z", "--stdin"], { input })
  }
  const worktreeTree = isAsAdded ? tree : await gitOid(place, ["write-tree"])
  return { indexTree, worktreeTree, index, flagged, kept }
}

async function addAll(
  place: GitPlace,
  repository: Repository,
  flagged: readonly string[],
  options: ReadOptions,
): Promise<void> {
  if (flagged.length > 0) {
    const input = flagged.map((path) => `${path}\0`).join("")
    // One call clears only the first kind it is told about.
    await git(place, ["update-index", "--no-assume-unchanged", "-z", "--stdin"], { input })
    await git(place, ["update-index", "--no-skip-worktree", "-z", "--stdin"], { input })
  }
  await forgetStats(place, options.distrust ?? [])
  await git(place, ["add", "--all", "--", ".", ...repository.nested.map((path) => excluded(repository, path))])
}

function excluded(repository: Repository, path: string): string {
  return `:(exclude,top,literal)${path.slice(repository.topLevel.length + 1)}`
}

/**
 * Copies an index with its modification time. Git believes the stat data of an entry only when the entry is older than the index
 * file: a copy that looked newer would hide an edit made in the same instant as the original was written.
 */
async function copyIndex(from: string, to: string): Promise<void> {
  try {
    const { mtimeNs } = await stat(from, { bigint: true })
    await copyFile(from, to)
    const seconds = Number(mtimeNs / 1000n - 2n) / 1e6
    await utimes(to, seconds, seconds)
  } catch (error) {
    // No index yet is an empty one.
    if (!isMissing(error)) throw error
  }
}

/** Files marked assume-unchanged or skip-worktree, at which `add` would not look. */
async function flaggedFiles(repository: Repository): Promise<readonly string[]> {
  const tagged = await gitRecords(repository, ["ls-files", "-v", "-z"])
  return tagged.filter((line) => line.startsWith("S ") || /^[a-z] /.test(line)).map((line) => line.slice(2))
}

/** Takes the stat data from entries, so that `add` reads the files again, byte for byte. */
async function forgetStats(place: GitPlace, distrust: readonly string[] | "all"): Promise<void> {
  if (distrust.length === 0) return
  const staged = await gitRecords(place, ["ls-files", "--stage", "-z"])
  const wanted = distrust === "all" ? null : new Set(distrust)
  const lines = staged.filter((line) => wanted === null || wanted.has(line.slice(line.indexOf("\t") + 1)))
  // An entry that is set anew from its mode and object id starts without stat data.
  const input = lines.map((line) => `${line}\0`).join("")
  if (lines.length > 0) await git(place, ["update-index", "-z", "--index-info"], { input })
}

/** Nested repositories and submodules don't travel: their entries stay as the index has them, and none is added. */
async function gitlinkCorrections(place: GitPlace, indexTree: Oid): Promise<string> {
  const changes = await rawChanges(place, ["diff-index", "--cached", indexTree])
  return changes
    .filter(({ newMode, oldMode }) => newMode === "160000" || oldMode === "160000")
    .map(({ oldMode, oldOid, path }) =>
      oldMode === "160000" ? `${oldMode} ${oldOid}\t${path}\0` : `0 ${"0".repeat(oldOid.length)}\t${path}\0`,
    )
    .join("")
}

export interface RawChange {
  readonly oldMode: string
  readonly newMode: string
  readonly oldOid: string
  readonly newOid: string
  /** A added, D deleted, M modified, T type changed. */
  readonly status: string
  /** Byte path. */
  readonly path: string
}

/** Parsed `--raw -z` output of `diff-index` or `diff-tree`. */
export async function rawChanges(place: GitPlace, args: readonly [string, ...string[]]): Promise<readonly RawChange[]> {
  const [command, ...rest] = args
  const records = await gitRecords(place, [command, "--raw", "-r", "-z", "--no-renames", "--no-abbrev", ...rest])
  const changes: RawChange[] = []
  for (let at = 0; at + 1 < records.length; at += 2) {
    const [oldMode = "", newMode = "", oldOid = "", newOid = "", status = ""] = (records[at] ?? "").slice(1).split(" ")
    changes.push({ oldMode, newMode, oldOid, newOid, status, path: records[at + 1] ?? "" })
  }
  return changes
}

/** What lies on disk at, or in the way of, the paths of `keep` and is not in the private index: it is ignored here. */
async function keptFiles(place: GitPlace, repository: Repository, keep: readonly Oid[]): Promise<readonly string[]> {
  const found = new Set<string>()
  for (const tree of new Set(keep)) {
    if ((await gitResult(place, ["cat-file", "-e", tree])).exitCode !== 0) continue
    const missing = await rawChanges(place, ["diff-index", "--cached", "--diff-filter=D", tree])
    const paths = missing.filter(({ oldMode }) => oldMode !== "160000").map(({ path }) => path)
    for (const path of await onDisk(repository, paths)) found.add(path)
  }
  return [...found]
}

/** Files and links that lie at these paths, above them in the place of a folder, or below them in the place of a file. */
async function onDisk(repository: Repository, paths: readonly string[]): Promise<ReadonlySet<string>> {
  const top = Buffer.from(`${repository.topLevel}/`)
  const absolute = (path: string): Buffer => Buffer.concat([top, Buffer.from(path, "latin1")])
  const isNested = (path: string): boolean =>
    repository.nested.includes(Buffer.concat([top, Buffer.from(path, "latin1")]).toString("utf8"))
  const found = new Set<string>()
  const folders = new Map<string, boolean>()
  const take = async (path: string): Promise<boolean> => {
    const kind = await kindOf(absolute(path))
    if (kind === "file") found.add(path)
    return kind === "folder" && !isNested(path)
  }
  for (const path of paths) {
    const parts = path.split("/")
    let isReachable = true
    for (let depth = 1; depth < parts.length && isReachable; depth += 1) {
      const above = parts.slice(0, depth).join("/")
      const known = folders.get(above)
      isReachable = known ?? (await take(above))
      if (known === undefined) folders.set(above, isReachable)
    }
    if (isReachable && (await take(path))) {
      for (const below of await filesBelow(absolute(path), path)) found.add(below)
    }
  }
  return found
}

async function kindOf(path: Buffer): Promise<"file" | "folder" | "none"> {
  try {
    const info = await lstat(path)
    if (info.isDirectory()) return "folder"
    return info.isFile() || info.isSymbolicLink() ? "file" : "none"
  } catch (error) {
    if (isMissing(error)) return "none"
    throw error
  }
}

async function filesBelow(folder: Buffer, path: string): Promise<readonly string[]> {
  const files: string[] = []
  // Bun 1.4.5 gives no names with `withFileTypes` and buffers together, so each is looked at.
  for (const name of await readdir(folder, { encoding: "buffer" })) {
    const text = name.toString("latin1")
    const absolute = Buffer.concat([folder, Buffer.from("/"), name])
    if (text.toLowerCase() === ".git") {
      throw new AppError(
        "unsupported_state",
        `a repository of its own lies at ${folder.toString("utf8")}, where a file must go`,
        { hint: "move it away first" },
      )
    }
    const kind = await kindOf(absolute)
    if (kind === "folder") files.push(...(await filesBelow(absolute, `${path}/${text}`)))
    else if (kind === "file") files.push(`${path}/${text}`)
  }
  return files
}

/**
 * Brings work tree and index from what was just read to other trees. Only files that differ are touched. The repository's own index
 * is replaced last, at once.
 */
export async function moveTrees(
  repository: Repository,
  from: ReadTrees,
  to: { readonly indexTree: Oid; readonly worktreeTree: Oid },
): Promise<void> {
  const place: GitPlace = { gitDir: repository.gitDir, topLevel: repository.topLevel, index: from.index }
  if (from.worktreeTree !== to.worktreeTree) {
    await git(place, ["read-tree", "-m", "-u", from.worktreeTree, to.worktreeTree])
  }
  if (from.indexTree === to.indexTree && from.worktreeTree === to.worktreeTree) return
  await git(place, ["read-tree", "-m", to.indexTree])
  await installIndex(repository, from.index)
}

/**
 * Replaces the repository's index under git's own lock. The lock appears complete, as a second name of a file of ours: one that a
 * crash left is known by that and removed, another program's is not.
 * @throws {AppError} busy when another git command holds the lock
 */
export async function installIndex(repository: Repository, from: string): Promise<void> {
  const target = join(repository.gitDir, "index")
  const lock = `${target}.lock`
  const own = join(await privateFolder(join(repository.gitDir, "decamp")), "index.new")
  const [ours, locked] = await Promise.all([inodeOf(own), inodeOf(lock)])
  if (ours !== null && ours === locked) await rm(lock)
  await rm(own, { force: true })
  await copyIndex(from, own)
  await chmod(own, 0o644)
  const file = await open(own, "r+")
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(own, lock)
  } catch (error) {
    await rm(own, { force: true })
    throw new AppError("busy", `another git command is changing ${repository.topLevel}`, {
      hint: `wait for it; when none runs, remove ${lock}`,
      cause: error,
    })
  }
  await rename(lock, target)
  await rm(own, { force: true })
}

async function inodeOf(path: string): Promise<number | null> {
  try {
    return (await lstat(path)).ino
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

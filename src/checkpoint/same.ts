/**
 * Whether a checkout is in a known state: much cheaper than reading it into trees. Git's record of size and times is believed, as `git
 * status` does, but for files that are named: those are read byte for byte.
 */
import { lstatSync, readFileSync } from "node:fs"
import { open, readlink } from "node:fs/promises"
import { isMissing } from "../lib/files.ts"
import { newMemoryPace } from "../lib/memory.ts"
import type { Oid } from "../protocol/ids.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import { readDetails, type Details } from "./checkout.ts"
import type { Repository } from "./code.ts"
import { gitOid, gitRecords, type GitPlace } from "./git.ts"
import { copyIndex } from "./index-file.ts"
import { dropUnmerged, intendedEntries, listIndex, marksOf, type IndexEntry } from "./marks.ts"
import { absoluteOf } from "./modes.ts"
import { isSameOperation, readOperation, type Operation } from "./operation.ts"
import { rawChanges } from "./raw-changes.ts"
import { readSparse, rulesOf } from "./sparse.ts"
import { listStashes } from "./stash.ts"

/** Files that are read before others have a turn: some milliseconds. */
const FILES_AT_ONCE = 100
const SMALL_BYTES = 256 * 1024

export interface Deviations {
  readonly indexTree: Oid
  /** Files (byte paths) that are not what the work-tree tree says: changed, missing, or there although they must not be. */
  readonly files: readonly string[]
  /** Marks of the index, operation in progress, sparse settings, stashes that are missing: what is not as the state says. */
  readonly state: readonly ("index marks" | "operation in progress" | "sparse checkout" | "stash list")[]
}

/**
 * Compares a checkout with the part of a checkpoint; permission bits apart (`modeDifferences`). Untracked files that the checkpoint
 * does not have are not looked for.
 * @param named files (byte paths) that are read; "all": every one
 * @param place where objects may be written
 */
export async function deviations(
  repository: Repository,
  code: RepositoryPart,
  place: GitPlace,
  options: { readonly scratch: string; readonly named: readonly string[] | "all" },
): Promise<Deviations> {
  const index = `${options.scratch}/staged-${crypto.randomUUID().slice(0, 8)}`
  const staged: GitPlace = { ...place, index }
  const [entries, details, dirty, own] = await Promise.all([
    listIndex(repository),
    readDetails(place, code.stateTree),
    dirtyFiles(repository),
    rawChanges(place, ["diff-tree", code.indexTree, code.worktreeTree]),
    copyIndex(`${repository.gitDir}/index`, index),
  ])
  const marks = marksOf(entries)
  await dropUnmerged(staged, marks)
  const wanted = new Map<string, Entry>(entries.filter(({ stage }) => stage === 0).map((entry) => [entry.path, entry]))
  for (const { path, status, newMode, newOid } of own) {
    if (status === "D") wanted.delete(path)
    else wanted.set(path, { mode: newMode, oid: newOid })
  }
  const changed = new Set(own.map(({ path }) => path))
  // An entry of `git add -N` is in no tree: its file counts when the work tree's tree has it.
  const intended = details.marks.intentToAdd.map(({ path }) => path)
  for (const path of intended) if (!changed.has(path)) wanted.delete(path)
  const apart = entries.filter((entry) => entry.stage > 0 || isUnseen(entry)).map(({ path }) => path)
  const { named } = options
  // Git calls a file dirty when only its times are other ones: what it contains decides.
  const read = new Set([...changed, ...intended, ...apart, ...dirty, ...(named === "all" ? wanted.keys() : named)])
  const [indexTree, files, state] = await Promise.all([
    gitOid(staged, ["write-tree"]),
    differentFiles(repository, code.objectFormat, wanted, read),
    differentState(repository, details),
  ])
  const intentToAdd = await intendedEntries(staged, indexTree)
  const isMarked = JSON.stringify({ ...marks, intentToAdd }) === JSON.stringify(details.marks)
  return {
    indexTree,
    files,
    state: isMarked ? state : ["index marks", ...state],
  }
}

function isUnseen({ skipsWorktree, isAssumedUnchanged }: IndexEntry): boolean {
  return skipsWorktree || isAssumedUnchanged
}

/** Tracked files that are not as the index has them, by git's own record. */
async function dirtyFiles(repository: Repository): Promise<readonly string[]> {
  const args = ["diff-files", "--name-only", "-z", "--ignore-submodules=all"]
  return await gitRecords(repository, args)
}

interface Entry {
  readonly mode: string
  readonly oid: string
}

/** Of these files, those that are not, byte for byte, what the tree says. */
async function differentFiles(
  repository: Repository,
  format: RepositoryPart["objectFormat"],
  wanted: ReadonlyMap<string, Entry>,
  paths: Iterable<string>,
): Promise<readonly string[]> {
  const wrong: string[] = []
  const pace = newMemoryPace()
  let count = 0
  for (const path of paths) {
    count += 1
    if (count % FILES_AT_ONCE === 0) await Bun.sleep(0)
    const entry = wanted.get(path)
    const absolute = absoluteOf(repository.topLevel, path)
    const { kind, size } = lookAt(absolute)
    // The bytes, and what a path, a hash and a stat leave behind.
    pace(Math.min(size, SMALL_BYTES) + 2_000)
    if (entry === undefined) {
      if (kind !== "none" && kind !== "folder") wrong.push(path)
    } else if (kind !== expected(entry.mode)) wrong.push(path)
    else if (kind !== "folder" && !(await isContent(absolute, kind, size, format, entry.oid))) wrong.push(path)
  }
  return wrong
}

async function isContent(path: Buffer, kind: Kind, size: number, format: RepositoryPart["objectFormat"], oid: string) {
  if (kind === "link") return blobOid(format, await readlink(path, { encoding: "buffer" })) === oid
  const header = new Bun.CryptoHasher(format).update(`blob ${size}\0`)
  if (size <= SMALL_BYTES) {
    // At once: as promises, 25,000 small files take ten times as long.
    const bytes = readFileSync(path)
    if (header.update(bytes).digest("hex") === oid) return true
  } else if ((await digest(path, header)) === oid) return true
  // A content of Git LFS lies where the tree has its pointer. Source of the text: git-lfs docs/spec.md, version 1.
  const content = await digest(path, new Bun.CryptoHasher("sha256"))
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${content}\nsize ${size}\n`
  return blobOid(format, Buffer.from(pointer)) === oid
}

function blobOid(format: RepositoryPart["objectFormat"], bytes: Uint8Array): string {
  return new Bun.CryptoHasher(format).update(`blob ${bytes.byteLength}\0`).update(bytes).digest("hex")
}

async function digest(path: Buffer, hasher: Bun.CryptoHasher): Promise<string> {
  const file = await open(path, "r")
  try {
    const buffer = Buffer.allocUnsafe(256 * 1024)
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.byteLength)
      if (bytesRead === 0) return hasher.digest("hex")
      hasher.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}

type Kind = "file" | "exec" | "link" | "folder" | "none" | "other"

function expected(mode: string): Kind {
  if (mode === "120000") return "link"
  if (mode === "160000") return "folder"
  return mode === "100755" ? "exec" : "file"
}

function lookAt(path: Buffer): { readonly kind: Kind; readonly size: number } {
  try {
    const info = lstatSync(path)
    const { size } = info
    if (info.isSymbolicLink()) return { kind: "link", size }
    if (info.isDirectory()) return { kind: "folder", size }
    if (!info.isFile()) return { kind: "other", size }
    return { kind: (info.mode & 0o100) === 0 ? "file" : "exec", size }
  } catch (error) {
    if (isMissing(error) || (error instanceof Error && "code" in error && error.code === "ENOTDIR")) {
      return { kind: "none", size: 0 }
    }
    throw error
  }
}

async function differentState(repository: Repository, wanted: Details): Promise<Deviations["state"]> {
  const [operation, sparse, stashes] = await Promise.all([
    readOperation(repository),
    readSparse(repository),
    wanted.stashes.length === 0 ? [] : listStashes(repository),
  ])
  const found: Deviations["state"][number][] = []
  if (!isSameOperation(wanted.operation, asFarAs(wanted.operation, operation))) found.push("operation in progress")
  if (rulesOf(wanted.sparse) !== rulesOf(sparse)) found.push("sparse checkout")
  const here = new Set(stashes.map(({ oid }) => oid))
  if (wanted.stashes.some(({ oid }) => !here.has(oid))) found.push("stash list")
  return found
}

/** ORIG_HEAD may lie there from before; it belongs to an operation that has one. */
function asFarAs(wanted: Operation | null, found: Operation | null): Operation | null {
  if (wanted === null || found === null || wanted.files.has("ORIG_HEAD")) return found
  return { ...found, files: new Map([...found.files].filter(([name]) => name !== "ORIG_HEAD")) }
}

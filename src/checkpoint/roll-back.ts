/** Taking a change of the work tree back that broke off in the middle, without needing room on the disk. */
import { chmod, lstat, open, readlink, rm, rmdir, type FileHandle } from "node:fs/promises"
import { isMissing } from "../lib/files.ts"
import type { Repository } from "./code.ts"
import { git, gitStream, type GitPlace } from "./git.ts"
import { checkoutLfs } from "./lfs.ts"
import { absoluteOf, foldersAbove, type Walked } from "./modes.ts"
import type { RawChange } from "./raw-changes.ts"

export interface BrokenOff {
  /** Its index holds the work tree as it was; git replaces an index only when all went well. */
  readonly place: GitPlace
  /** What was to be changed. */
  readonly changes: readonly RawChange[]
  /** What lay there. */
  readonly walked: Walked
  /** When the change began, milliseconds. */
  readonly startedAtMs: number
  /** Settings that keep filters out. */
  readonly settings: readonly string[]
}

/** Times of files are those of the last tick of the kernel's clock: at most 10 ms old (CONFIG_HZ=100). */
const CLOCK_STEP_MS = 20

/**
 * Puts the files back that git had already removed, replaced or cut off, with their bits. All that was written goes first, so that what
 * was there finds its room again; no object and no index is written. A file that is neither of the old nor of the new state is
 * somebody's edit and stays.
 */
export async function rollBack(repository: Repository, broken: BrokenOff): Promise<void> {
  const { place, changes, walked } = broken
  const missing: string[] = []
  // What came new may lie where a file or a folder was.
  const inOrder = [...changes].sort((one, other) => Number(other.status === "A") - Number(one.status === "A"))
  for (const change of inOrder.filter(({ newMode }) => newMode !== "160000")) {
    const path = absoluteOf(repository.topLevel, change.path)
    const isThere = await isWritten(place, path, change, broken.startedAtMs)
    if (isThere === "written") {
      await rm(path, { force: true })
      await removeFolders(repository, change.path, walked)
    }
    if (isThere !== "kept" && change.status !== "A" && change.oldMode !== "160000") missing.push(change.path)
  }
  if (missing.length === 0) return
  const input = missing.map((path) => `${path}\0`).join("")
  await git(place, [...broken.settings, "checkout-index", "--force", "-z", "--stdin"], { input, isPrivate: true })
  await checkoutLfs(repository, missing)
  for (const path of [...missing, ...new Set(missing.flatMap(foldersAbove).reverse())]) {
    const mode = walked.files.get(path)?.mode ?? walked.folders.get(path)
    if (mode !== undefined) await chmod(absoluteOf(repository.topLevel, path), mode)
  }
}

/** Folders that were made for a file and are empty now. */
async function removeFolders(repository: Repository, path: string, walked: Walked): Promise<void> {
  for (const folder of foldersAbove(path).reverse()) {
    if (walked.folders.has(folder)) return
    try {
      await rmdir(absoluteOf(repository.topLevel, folder))
    } catch {
      // Something else lies in it.
      return
    }
  }
}

/** Whether git wrote this file a moment ago, whole or not to the end. */
async function isWritten(
  place: GitPlace,
  path: Buffer,
  { newMode, newOid }: RawChange,
  startedAtMs: number,
): Promise<"written" | "missing" | "kept"> {
  try {
    const info = await lstat(path)
    if (info.isDirectory() || info.ctimeMs < startedAtMs - CLOCK_STEP_MS || newMode === "000000") return "kept"
    if (info.isSymbolicLink()) {
      const target = await readlink(path, { encoding: "buffer" })
      const wanted = newMode === "120000" ? await wholeBlob(place, newOid) : null
      return wanted?.equals(target) === true ? "written" : "kept"
    }
    if (info.isFile() && info.size === 0) return "written"
    if (!info.isFile()) return "kept"
    const isWhole = (await hashOf(path, info.size, newOid.length)) === newOid
    return isWhole || (await isBeginning(place, path, newOid)) ? "written" : "kept"
  } catch (error) {
    if (isMissing(error)) return "missing"
    throw error
  }
}

async function wholeBlob(place: GitPlace, oid: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of gitStream(place, ["cat-file", "blob", oid], "")) parts.push(part)
  return Buffer.concat(parts)
}

/** A git process for each of many files would take long; for most of them this decides. */
async function hashOf(path: Buffer, size: number, length: number): Promise<string> {
  const hasher = new Bun.CryptoHasher(length === 64 ? "sha256" : "sha1").update(`blob ${size}\0`)
  const file = await open(path, "r")
  try {
    for (;;) {
      const part = await readPart(file, 256 * 1024)
      if (part.byteLength === 0) return hasher.digest("hex")
      hasher.update(part)
    }
  } finally {
    await file.close()
  }
}

/** Whether the file is the blob, or cut off somewhere in it. */
async function isBeginning(place: GitPlace, path: Buffer, oid: string): Promise<boolean> {
  const file = await open(path, "r")
  try {
    for await (const part of gitStream(place, ["cat-file", "blob", oid], "")) {
      const found = await readPart(file, part.byteLength)
      if (!found.equals(part.subarray(0, found.byteLength))) return false
      if (found.byteLength < part.byteLength) return true
    }
    return (await readPart(file, 1)).byteLength === 0
  } finally {
    await file.close()
  }
}

async function readPart(file: FileHandle, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  let at = 0
  while (at < length) {
    const { bytesRead } = await file.read(buffer, at, length - at)
    if (bytesRead === 0) break
    at += bytesRead
  }
  return buffer.subarray(0, at)
}

/** Whether the files that are about to be written fit on the disk: known before the first of them is touched. */
import { statfs } from "node:fs/promises"
import { AppError } from "../protocol/errors.ts"
import { git, type GitPlace } from "./git.ts"
import { foldersAbove } from "./modes.ts"
import type { RawChange } from "./raw-changes.ts"

/** For the index, refs and records that are written beside the files. */
const SPARE_BYTES = 1024 * 1024
const SPARE_INODES = 16

/**
 * @param folders folders that are there (byte paths)
 * @throws {AppError} no_space with what is needed and what is free
 */
export async function requireRoom(
  place: GitPlace,
  changes: readonly RawChange[],
  folders: ReadonlyMap<string, unknown>,
): Promise<void> {
  if (changes.length === 0) return
  const facts = await statfs(place.topLevel)
  const needed = await growthOf(place, changes, facts.bsize)
  const free = facts.bavail * facts.bsize
  if (needed > 0 && needed + SPARE_BYTES > free) {
    throw tooSmall(place, `${needed + SPARE_BYTES} bytes`, String(free))
  }
  const entries = newEntries(changes, folders)
  // A file system that makes inodes as they are needed (btrfs) says that it has none.
  if (facts.files > 0 && entries > 0 && entries + SPARE_INODES > facts.ffree) {
    throw tooSmall(place, `${entries + SPARE_INODES} inodes`, String(facts.ffree))
  }
}

function tooSmall(place: GitPlace, needed: string, free: string): AppError {
  return new AppError("no_space", `${place.topLevel} needs ${needed} and has ${free} free`, {
    hint: "nothing was written: make room there and try again",
  })
}

/** Bytes that come on top of what lies there: files that go are removed first, a file that changes makes room for itself. */
async function growthOf(place: GitPlace, changes: readonly RawChange[], block: number): Promise<number> {
  const files = changes.flatMap(({ oldMode, oldOid, newMode, newOid }) => [
    ...(isFile(oldMode) ? [oldOid] : []),
    ...(isFile(newMode) ? [newOid] : []),
  ])
  if (files.length === 0) return 0
  const oids = [...new Set(files)]
  const input = oids.map((oid) => `${oid}\n`).join("")
  const listed = await git(place, ["cat-file", "--batch-check=%(objectsize)"], { input })
  const sizes = listed.split("\n")
  const blocks = new Map(oids.map((oid, at) => [oid, Math.ceil((Number(sizes[at]) || 0) / block) * block]))
  let grown = 0
  for (const { oldMode, oldOid, newMode, newOid } of changes) {
    const before = isFile(oldMode) ? (blocks.get(oldOid) ?? 0) : 0
    const after = isFile(newMode) ? (blocks.get(newOid) ?? 0) : 0
    grown += newMode === "000000" ? -before : Math.max(0, after - before)
  }
  return grown
}

const isFile = (mode: string): boolean => mode.startsWith("100")

function newEntries(changes: readonly RawChange[], folders: ReadonlyMap<string, unknown>): number {
  const added = changes.filter(({ status }) => status === "A").map(({ path }) => path)
  const gone = changes.filter(({ status }) => status === "D").length
  const made = new Set(added.flatMap(foldersAbove).filter((folder) => !folders.has(folder)))
  return added.length + made.size - gone
}

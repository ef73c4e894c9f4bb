/** The index file: copied with what git believes of it, replaced under git's own lock. */
import { chmod, copyFile, link, lstat, open, rename, rm, stat, utimes } from "node:fs/promises"
import { join } from "node:path"
import { isMissing, privateFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { Repository } from "./code.ts"

/**
 * Copies an index with its modification time. Git believes the stat data of an entry only when the entry is older than the index
 * file: a copy that looked newer would hide an edit made in the same instant as the original was written.
 */
export async function copyIndex(from: string, to: string): Promise<void> {
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

/**
 * Runs what changes an index from another folder than its checkout, and leaves its modification time as it was: git, which marks entries
 * that are as young as the index when it writes it, looks for their files in vain there (2.39: ce_smudge_racily_clean_entry), and an edit
 * of the same length made in the second of the last write would be hidden from then on.
 */
export async function keepingTime(index: string, work: () => Promise<unknown>): Promise<void> {
  const { mtimeNs } = await stat(index, { bigint: true })
  await work()
  const seconds = Number(mtimeNs / 1000n - 2n) / 1e6
  await utimes(index, seconds, seconds)
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

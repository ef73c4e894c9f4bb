/** The saved states of a directory, and taking old ones away when the user asks for it. */
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../lib/files.ts"
import { listBackups } from "./backup.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords } from "./git.ts"
import { listLeft } from "./left.ts"

export interface SavedState {
  /** `refs/decamp/backup/…` or `refs/decamp/left/…` */
  readonly ref: string
  readonly createdAtMs: number
}

/** What is saved here, newest first. */
export async function listSaved(repository: Repository): Promise<readonly SavedState[]> {
  const [backups, left] = await Promise.all([listBackups(repository), listLeft(repository)])
  return [...backups, ...left].toSorted((one, other) => other.createdAtMs - one.createdAtMs)
}

/**
 * Removes saved states, all or none; git's own upkeep frees the space later. One that is gone already is fine.
 * @throws {AppError} busy when git holds a lock on one of them
 */
export async function removeSaved(repository: Repository, refs: readonly string[]): Promise<void> {
  if (refs.length === 0) return
  const wanted = new Set(refs)
  const lines = await gitRecords(repository, ["for-each-ref", "--format=%(refname) %(objectname)%00", "refs/decamp/"])
  const known = lines.map((line) => line.trim().split(" ")).filter(([ref = ""]) => wanted.has(ref))
  if (known.length > 0) {
    // Guarded by what each is now: a ref that somebody sets anew in between stays.
    const input = known.map(([ref = "", oid = ""]) => `delete ${ref} ${oid}\n`).join("")
    await git(repository, ["update-ref", "--stdin"], { input })
  }
  await removeBeside(repository, refs)
}

/** Files that belong to a backup and are no objects (left.ts): `<time>.index` and the like. */
async function removeBeside(repository: Repository, refs: readonly string[]): Promise<void> {
  const folder = join(repository.gitDir, "decamp", "backup")
  const owners = new Set(
    refs.filter((ref) => ref.startsWith("refs/decamp/backup/")).map((ref) => ref.slice(ref.lastIndexOf("/") + 1)),
  )
  try {
    for (const name of await readdir(folder)) {
      if (owners.has(name.replace(/\.[^.]*$/, ""))) await rm(join(folder, name), { force: true, recursive: true })
    }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

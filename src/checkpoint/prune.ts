/** The saved states of a directory, and taking old ones away when the user asks for it. */
import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { isMissing } from "../lib/files.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, shownPath } from "./git.ts"
import { savedSchema, type Saved } from "./left.ts"
import { openIfThere } from "./nested.ts"
import { exists } from "./repository.ts"

export interface SavedState {
  /** `refs/decamp/backup/…` or `refs/decamp/left/…` */
  readonly ref: string
  readonly createdAtMs: number
}

type Listed = SavedState & Pick<Saved, "nested"> & { readonly oid: string }

/** What is saved of this directory, newest first. */
export async function listSaved(repository: Repository): Promise<readonly SavedState[]> {
  return (await list(repository)).map(({ ref, createdAtMs }) => ({ ref, createdAtMs }))
}

async function list(repository: Repository): Promise<readonly Listed[]> {
  const format = "--format=%(refname)%00%(objectname)%00%(committerdate:unix)%00%(contents:body)%00"
  const args = ["for-each-ref", "--sort=-committerdate", format, "refs/decamp/backup", "refs/decamp/left"]
  const [records, elsewhere] = await Promise.all([gitRecords(repository, args), otherWorktrees(repository)])
  const listed: Listed[] = []
  for (let at = 0; at + 3 < records.length; at += 4) {
    const [name = "", oid = "", seconds = "0", body = ""] = records.slice(at, at + 4)
    const facts = factsOf(body)
    if (facts !== null && elsewhere.has(facts.directory)) continue
    listed.push({ ref: name.trim(), oid, createdAtMs: Number(seconds) * 1000, nested: facts?.nested ?? [] })
  }
  return listed
}

/** Null: written by another version; its ref is listed all the same. */
function factsOf(body: string): Saved | null {
  try {
    return savedSchema.parse(JSON.parse(Buffer.from(body, "latin1").toString("utf8")))
  } catch {
    return null
  }
}

/** Linked worktrees share their refs; each is a workspace of its own. Tops of those that are not this one. */
async function otherWorktrees(repository: Repository): Promise<ReadonlySet<string>> {
  if (!(await exists(join(repository.commonDir, "worktrees")))) return new Set()
  const lines = await gitRecords(repository, ["worktree", "list", "--porcelain", "-z"])
  const tops = lines.flatMap((line) =>
    line.startsWith("worktree ") ? [shownPath(line.slice("worktree ".length))] : [],
  )
  return new Set(tops.filter((top) => top !== repository.topLevel))
}

/**
 * Removes saved states, all or none, with those of the nested repositories that belong to them; git's own upkeep frees the space
 * later. One that is gone already is fine.
 * @throws {AppError} busy when git holds a lock on one of them
 */
export async function removeSaved(repository: Repository, refs: readonly string[]): Promise<void> {
  const wanted = new Set(refs)
  const known = (await list(repository)).filter(({ ref }) => wanted.has(ref))
  const inner = new Map<string, string[]>()
  for (const { path, ref } of known.flatMap(({ nested }) => nested)) inner.set(path, [...(inner.get(path) ?? []), ref])
  for (const [path, theirs] of inner) {
    const nested = await openIfThere(join(repository.topLevel, path))
    // One call a repository: what is nested in it stands in the outermost one's list.
    if (nested !== null)
      await removeRefs(
        nested,
        (await list(nested)).filter(({ ref }) => theirs.includes(ref)),
      )
  }
  await removeRefs(repository, known)
}

async function removeRefs(repository: Repository, saved: readonly Listed[]): Promise<void> {
  if (saved.length === 0) return
  // Guarded by what each is now: a ref that somebody sets anew in between stays.
  const input = saved.map(({ ref, oid }) => `delete ${ref} ${oid}\n`).join("")
  await git(repository, ["update-ref", "--stdin"], { input })
  await removeBeside(repository, saved)
}

/** Files that belong to a backup and are no objects (left.ts): `<time>.met` and the like. */
async function removeBeside(repository: Repository, saved: readonly Listed[]): Promise<void> {
  const folder = join(repository.gitDir, "decamp", "backup")
  const backups = saved.filter(({ ref }) => ref.startsWith("refs/decamp/backup/"))
  const owners = new Set(backups.map(({ ref }) => ref.slice(ref.lastIndexOf("/") + 1)))
  try {
    for (const name of await readdir(folder)) {
      if (owners.has(name.replace(/\.[^.]*$/, ""))) await rm(join(folder, name), { force: true, recursive: true })
    }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
}

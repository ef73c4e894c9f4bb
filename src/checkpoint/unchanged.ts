/** Going on from the index that a backup was read into, when nothing was touched since: an apply then need not read everything again. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { privateFolder } from "../lib/files.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import { decampFolder } from "./base.ts"
import { readDetails, type Details, type FromCheckout } from "./checkout.ts"
import type { Repository } from "./code.ts"
import { gitOid, gitRecords, type GitPlace } from "./git.ts"
import { copyIndex } from "./index-file.ts"
import { keptFiles } from "./kept.ts"
import { NO_MARKS } from "./marks.ts"
import { lookAt, NOTHING_WALKED, type Modes } from "./modes.ts"
import { rawChanges } from "./raw-changes.ts"
import type { RepositoryBackup } from "./refs.ts"
import { exists } from "./repository.ts"
import { openShadow } from "./shadow.ts"

function indexFile(repository: Repository, ref: string): string {
  return join(repository.gitDir, "decamp", "backup", `${ref.split("/").at(-1) ?? ""}.index`)
}

/** Keeps the index of what a backup saved, with its stat data, until the apply. */
export async function keepReadIndex(repository: Repository, ref: string, place: GitPlace): Promise<void> {
  if (place.index === undefined) return
  await privateFolder(join(await decampFolder(repository), "backup"))
  await copyIndex(place.index, indexFile(repository, ref))
}

export async function dropReadIndex(repository: Repository, ref: string): Promise<void> {
  await rm(indexFile(repository, ref), { force: true })
}

/**
 * The checkout as the backup read it, when it still is like that and a plain one; null: read it again. Plain: no marks, no operation in
 * progress, the usual permission bits are the same before and after, and nothing ignored lies where the target has a file.
 */
export async function unchangedSince(
  repository: Repository,
  backup: RepositoryBackup,
  target: { readonly code: RepositoryPart; readonly details: Details },
  scratch: string,
): Promise<FromCheckout | null> {
  const kept = indexFile(repository, backup.ref)
  if (!(await exists(kept)) || repository.head !== backup.head || repository.branch !== backup.branch) return null
  const before = await readDetails(repository, backup.stateTree)
  if (!isPlain(before) || !isPlain(target.details) || !isSameUsual(before.modes, target.details.modes)) return null
  const index = join(scratch, "kept-index")
  const staged = join(scratch, "kept-staged")
  const [shadow] = await Promise.all([
    openShadow(repository, scratch),
    copyIndex(kept, index),
    copyIndex(join(repository.gitDir, "index"), staged),
  ])
  const place = { ...shadow, index }
  const [changed, others, indexTree, inTheWay, attributes, moving] = await Promise.all([
    gitRecords(place, ["diff-files", "--name-only", "-z", "--ignore-submodules=all"]),
    gitRecords(place, ["ls-files", "--others", "--exclude-standard", "-z"]),
    gitOid({ gitDir: repository.gitDir, topLevel: repository.topLevel, index: staged }, ["write-tree"]),
    keptFiles(place, repository, [target.code.worktreeTree]),
    gitRecords(place, ["ls-files", "-z", "--", ":(glob)**/.gitattributes"]),
    rawChanges(repository, ["diff-tree", backup.worktreeTree, target.code.worktreeTree]),
  ])
  // Repositories of their own are told with a slash; they are looked at by themselves.
  const isNew = others.some((path) => !path.endsWith("/"))
  if (changed.length > 0 || isNew || indexTree !== backup.indexTree || inTheWay.length > 0) return null
  const paths = [before.modes, target.details.modes].flatMap(({ others: unusual }) => unusual.map(([, path]) => path))
  const walked = { ...NOTHING_WALKED, emptyFolders: before.modes.emptyFolders }
  return {
    indexTree,
    worktreeTree: backup.worktreeTree,
    place,
    marks: NO_MARKS,
    walked: lookAt(walked, repository.topLevel, [...paths, ...attributes, ...moving.map(({ path }) => path)]),
  }
}

function isPlain({ marks, operation, sparse }: Details): boolean {
  return Object.values(marks).every((entries) => entries.length === 0) && operation === null && sparse === null
}

function isSameUsual(one: Modes, other: Modes): boolean {
  return one.file === other.file && one.exec === other.exec && one.folder === other.folder
}

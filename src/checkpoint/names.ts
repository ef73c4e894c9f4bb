/** Destinations that take two different names for one: macOS and Windows disks by default, folders with `chattr +F`. */
import { lstat, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import { decampFolder } from "./base.ts"
import type { Repository } from "./code.ts"
import { gitRecords, shownPath } from "./git.ts"
import { foldersAbove } from "./modes.ts"

/** How a file system compares names. */
export interface NameRules {
  readonly foldsCase: boolean
  /** The composed and the decomposed form of a letter are one name. */
  readonly foldsUnicode: boolean
}

/**
 * Finds out by looking for a name under another spelling. Writes no file into the work tree: its `.git` is there already. Forms of
 * letters are tried in `$GIT_DIR/decamp`.
 */
export async function probeNames(repository: Repository): Promise<NameRules> {
  const foldsCase = await isOneFile(join(repository.topLevel, ".git"), join(repository.topLevel, ".GIT"))
  const probe = join(await decampFolder(repository), `probe-\u00e9-${crypto.randomUUID().slice(0, 8)}`)
  await writeFile(probe, "", { mode: 0o600 })
  try {
    return { foldsCase, foldsUnicode: await isOneFile(probe, join(dirname(probe), nameOf(probe).normalize("NFD"))) }
  } finally {
    await rm(probe, { force: true })
  }
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

async function isOneFile(path: string, other: string): Promise<boolean> {
  try {
    const [one, two] = await Promise.all([lstat(path), lstat(other)])
    return one.ino === two.ino && one.dev === two.dev
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/**
 * The first two of these paths (byte paths), or of the folders above them, that such a file system takes for one; null when all differ.
 * @param staying files and folders that lie there and are not written: one of them may be in the way of a path
 */
export function findCollision(
  paths: Iterable<string>,
  rules: NameRules,
  staying: Iterable<string> = [],
): readonly [string, string] | null {
  const seen = new Map<string, string>()
  const kept = new Set(staying)
  for (const list of [kept, paths]) {
    for (const path of list) {
      for (const each of [...foldersAbove(path), path]) {
        const key = foldedName(each, rules)
        const other = seen.get(key)
        if (other === undefined) seen.set(key, each)
        else if (other !== each) return [other, each]
      }
    }
  }
  return null
}

function foldedName(path: string, { foldsCase, foldsUnicode }: NameRules): string {
  const shown = shownPath(path)
  const normal = foldsUnicode ? shown.normalize("NFC") : shown
  // Upper case first: several small letters share one capital (`s`, long `s`).
  return foldsCase ? normal.toUpperCase().toLowerCase() : normal
}

/**
 * Refuses a checkpoint with names that this directory can't hold side by side. Its objects must be here.
 * @param staying ignored files and folders (byte paths, folders with a trailing `/`) that lie here and stay
 * @throws {AppError} unsupported_state naming the two paths
 */
export async function requireDistinctNames(
  repository: Repository,
  code: RepositoryPart,
  rules: NameRules,
): Promise<void> {
  if (!rules.foldsCase && !rules.foldsUnicode) return
  const [paths, ignored] = await Promise.all([
    gitRecords(repository, ["ls-tree", "-r", "--name-only", "-z", code.worktreeTree]),
    gitRecords(repository, ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"]),
  ])
  const staying = ignored.map((path) => path.replace(/\/$/, ""))
  const found = findCollision(paths, rules, staying)
  if (found === null) return
  const [one, other] = found.map((path) => JSON.stringify(shownPath(path)))
  throw new AppError(
    "unsupported_state",
    `${repository.topLevel} can't hold ${one} and ${other} side by side: its disk takes both names for one`,
    {
      hint: "rename one of them where the workspace is now, or choose a directory on a disk that tells them apart (--into DIR)",
      details: { paths: found.map(shownPath) },
    },
  )
}

/** Finding the repository of a directory, and the states of it that can't travel yet. */
import { existsSync } from "node:fs"
import { lstat, realpath } from "node:fs/promises"
import { dirname, join, sep } from "node:path"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Repository, Survey } from "./code.ts"
import { foldersAbove } from "./modes.ts"
import { git, gitFailure, gitIn, gitRecords, gitResult, resolveRef, shownPath, type GitPlace } from "./git.ts"

/**
 * The repository that holds `directory` (any folder of it). Environment variables like GIT_DIR are ignored on purpose.
 * @throws {AppError} not_a_repository, unsupported_state (bare), not_allowed (owned by another user), git_missing
 */
export async function openRepository(directory: string): Promise<Repository> {
  const found = await findFolders(directory)
  const place: GitPlace = { gitDir: found.gitDir, topLevel: found.topLevel }
  const [head, branch, origin] = await Promise.all([
    resolveRef(place, "HEAD^{commit}"),
    gitResult(place, ["symbolic-ref", "--quiet", "HEAD"]),
    gitResult(place, ["config", "--get", "remote.origin.url"]),
  ])
  const branchRef = Buffer.from(branch.stdout).toString("utf8").trim()
  const originUrl = Buffer.from(origin.stdout).toString("utf8").trim()
  let surveyed: Promise<Survey> | null = null
  return {
    ...found,
    branch: branchRef.startsWith("refs/heads/") ? branchRef.slice("refs/heads/".length) : null,
    head,
    originUrl: originUrl === "" ? null : originUrl,
    survey: async () => await (surveyed ??= survey(found, head !== null)),
  }
}

async function survey(folders: Folders, hasCommit: boolean): Promise<Survey> {
  const place: GitPlace = { gitDir: folders.gitDir, topLevel: folders.topLevel }
  const [rootCommit, nested] = await Promise.all([hasCommit ? rootCommitOf(place) : null, findNested(folders)])
  return { rootCommit, ...nested }
}

interface Folders {
  readonly topLevel: string
  readonly gitDir: string
  readonly commonDir: string
}

async function findFolders(directory: string): Promise<Folders> {
  try {
    if (!(await lstat(await realpath(directory))).isDirectory()) throw notARepository(directory)
  } catch (error) {
    if (isMissing(error)) throw notARepository(directory, "there is no such directory")
    throw error
  }
  const args = [
    "rev-parse",
    "--path-format=absolute",
    "--is-bare-repository",
    "--is-inside-work-tree",
    "--git-dir",
    "--git-common-dir",
  ]
  const result = await gitIn(directory, args)
  if (result.exitCode !== 0) {
    if (/dubious ownership/.test(result.stderr)) {
      throw new AppError("not_allowed", `git does not trust ${directory}: it belongs to another user`, {
        hint: "git config --global --add safe.directory DIR, when you trust it",
      })
    }
    if (/not a git repository/i.test(result.stderr)) throw notARepository(directory)
    throw gitFailure({ topLevel: directory }, args, result.stderr)
  }
  const [isBare, isInside, gitDir, commonDir] = Buffer.from(result.stdout).toString("utf8").split("\n")
  if (isInside !== "true" || gitDir === undefined || commonDir === undefined) {
    throw new AppError(
      "unsupported_state",
      `${directory} is ${isBare === "true" ? "a bare repository" : "inside a git folder"}, not a work tree`,
      { hint: "run decamp in a checkout of it (git worktree add, or git clone)" },
    )
  }
  const top = await gitIn(directory, ["rev-parse", "--show-toplevel"])
  return {
    topLevel: await realpath(Buffer.from(top.stdout).toString("utf8").replace(/\n$/, "")),
    gitDir: await realpath(gitDir),
    commonDir: await realpath(commonDir),
  }
}

function notARepository(directory: string, why = "no git repository holds it"): AppError {
  return new AppError("not_a_repository", `${directory} is not a repository: ${why}`, {
    hint: "run decamp inside a git checkout, or git init and commit first",
  })
}

/** The first commit of HEAD's history; with several roots the one git lists last. */
async function rootCommitOf(place: GitPlace): Promise<string | null> {
  const roots = (await git(place, ["rev-list", "--max-parents=0", "HEAD"])).trim().split("\n")
  return roots.at(-1) ?? null
}

/** Linked worktrees, submodules and independent repositories below the top, as real paths; and the untracked files. */
async function findNested(folders: Folders): Promise<Omit<Survey, "rootCommit">> {
  const place: GitPlace = { gitDir: folders.gitDir, topLevel: folders.topLevel }
  const [worktrees, gitlinks, others] = await Promise.all([
    gitRecords(place, ["worktree", "list", "--porcelain", "-z"]),
    gitlinksOf(place),
    gitRecords(place, ["ls-files", "--others", "--exclude-standard", "-z"]),
  ])
  const top = folders.topLevel
  const found = new Set<string>()
  for (const line of worktrees) {
    const path = line.startsWith("worktree ") ? shownPath(line.slice("worktree ".length)) : null
    if (path?.startsWith(top + sep) === true) found.add(path)
  }
  for (const path of gitlinks) found.add(join(top, shownPath(path)))
  // Without `--directory` only a repository of its own is told as a folder. Source: dir.c, treat_directory, git 2.39.
  for (const path of others) if (path.endsWith("/")) found.add(join(top, shownPath(path.slice(0, -1))))
  // In a SHA-256 repository git takes one with a detached HEAD for a plain folder (git 2.39).
  for (const path of new Set(others.flatMap(foldersAbove))) {
    const folder = join(top, shownPath(path))
    if (existsSync(join(folder, ".git"))) found.add(folder)
  }
  const inside = [...found].filter((path) => ![...found].some((other) => path.startsWith(other + sep)))
  const isOutside = (path: string): boolean =>
    !inside.some((each) => `${top}${sep}${shownPath(path)}`.startsWith(each + sep))
  return { nested: inside.sort(), untracked: others.filter((path) => !path.endsWith("/") && isOutside(path)) }
}

/** Byte paths of submodules. The list of a large index is searched as text: only few of its lines are such. */
async function gitlinksOf(place: GitPlace): Promise<readonly string[]> {
  const result = await gitResult(place, ["ls-files", "--stage", "-z"])
  const listed = Buffer.from(result.stdout).toString("latin1")
  return [...listed.matchAll(/(?:^|\0)160000 [0-9a-f]+ \d\t([^\0]*)/g)].map(([, path = ""]) => path)
}

/** Whether something, also a dangling link, has this name. */
export async function exists(path: string | Buffer): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}

/** Why this repository can't be captured, or written over, as it is, with the way out; null when it can. */
export async function unsupportedState(repository: Repository): Promise<AppError | null> {
  const refuse = (what: string, hint: string): AppError =>
    new AppError("unsupported_state", `${repository.topLevel} can't be moved: ${what}`, { hint })
  if (await exists(join(repository.commonDir, "shallow"))) {
    return refuse("it is a shallow clone", "git fetch --unshallow, then try again")
  }
  if (await exists(join(repository.commonDir, "info", "grafts"))) {
    return refuse("it has grafts", "git replace --convert-graft-file, then try again")
  }
  return await unsupportedSetting(repository, refuse)
}

async function unsupportedSetting(
  repository: Repository,
  refuse: (what: string, hint: string) => AppError,
): Promise<AppError | null> {
  const pattern = "^(extensions\\.partialclone|remote\\..*\\.promisor)$"
  const result = await gitResult(repository, ["config", "-z", "--get-regexp", pattern])
  for (const record of Buffer.from(result.stdout).toString("utf8").split("\0")) {
    const [key = "", value = ""] = record.split("\n")
    if (key === "extensions.partialclone" || (key.endsWith(".promisor") && value !== "false")) {
      return refuse("it is a partial clone", "clone it again without --filter, then try again")
    }
  }
  return null
}

/** Whether HEAD and the checkpoint's HEAD have a commit in common. Only after `fetchCode`: before, the checkpoint's commits are not here. */
export async function sharesCommit(repository: Repository, code: CodePart): Promise<boolean> {
  if (repository.head === null || code.head === null) return false
  const result = await gitResult(repository, ["merge-base", oidSchema.parse(repository.head), code.head])
  return result.exitCode === 0
}

/** The folder that keeps a repository's own settings apart from another's: the name of a linked worktree, null for the main one. */
export function worktreeName(repository: Repository): string | null {
  return repository.gitDir === repository.commonDir
    ? null
    : repository.gitDir.slice(dirname(repository.gitDir).length + 1)
}

/** Finding the repository of a directory, and the states of it that can't travel yet. */
import { lstat, readdir, realpath } from "node:fs/promises"
import { dirname, join, sep } from "node:path"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { git, gitFailure, gitIn, gitRecords, gitResult, resolveRef, shownPath, type GitPlace } from "./git.ts"

/** Untracked folders that are looked into for a repository of their own. */
const MAX_PROBED_FOLDERS = 2000

/**
 * The repository that holds `directory` (any folder of it). Environment variables like GIT_DIR are ignored on purpose.
 * @throws {AppError} not_a_repository, unsupported_state (bare), not_allowed (owned by another user), git_missing
 */
export async function openRepository(directory: string): Promise<Repository> {
  const found = await findFolders(directory)
  const place: GitPlace = { gitDir: found.gitDir, topLevel: found.topLevel }
  const [head, branch, origin, nested] = await Promise.all([
    resolveRef(place, "HEAD^{commit}"),
    gitResult(place, ["symbolic-ref", "--quiet", "HEAD"]),
    gitResult(place, ["config", "--get", "remote.origin.url"]),
    findNested(found),
  ])
  const branchRef = Buffer.from(branch.stdout).toString("utf8").trim()
  const originUrl = Buffer.from(origin.stdout).toString("utf8").trim()
  return {
    ...found,
    branch: branchRef.startsWith("refs/heads/") ? branchRef.slice("refs/heads/".length) : null,
    head,
    originUrl: originUrl === "" ? null : originUrl,
    rootCommit: head === null ? null : await rootCommitOf(place),
    nested,
  }
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

/** Linked worktrees, submodules and independent repositories below the top, as real paths. */
async function findNested(folders: Folders): Promise<readonly string[]> {
  const place: GitPlace = { gitDir: folders.gitDir, topLevel: folders.topLevel }
  const [worktrees, gitlinks, untracked] = await Promise.all([
    gitRecords(place, ["worktree", "list", "--porcelain", "-z"]),
    gitlinksOf(place),
    gitRecords(place, ["ls-files", "--others", "--directory", "-z"]),
  ])
  const found = new Set<string>()
  for (const line of worktrees) {
    const path = line.startsWith("worktree ") ? shownPath(line.slice("worktree ".length)) : null
    if (path?.startsWith(folders.topLevel + sep) === true) found.add(path)
  }
  for (const path of gitlinks) found.add(join(folders.topLevel, shownPath(path)))
  const candidates = untracked.filter((path) => path.endsWith("/")).map((path) => shownPath(path.slice(0, -1)))
  for (const path of candidates.slice(0, MAX_PROBED_FOLDERS)) {
    for (const repository of await repositoriesIn(join(folders.topLevel, path))) found.add(repository)
  }
  return [...found].sort()
}

async function gitlinksOf(place: GitPlace): Promise<readonly string[]> {
  const staged = await gitRecords(place, ["ls-files", "--stage", "-z"])
  return staged.filter((line) => line.startsWith("160000 ")).map((line) => line.slice(line.indexOf("\t") + 1))
}

/** A folder that is a repository, or the repositories directly below it. */
async function repositoriesIn(folder: string): Promise<readonly string[]> {
  if (await isRepositoryTop(folder)) return [folder]
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    const below = entries.filter((entry) => entry.isDirectory() && entry.name !== ".git").slice(0, 64)
    const tops: string[] = []
    for (const { name } of below) if (await isRepositoryTop(join(folder, name))) tops.push(join(folder, name))
    return tops
  } catch {
    // A folder that can't be read is nobody's repository here.
    return []
  }
}

async function isRepositoryTop(folder: string): Promise<boolean> {
  return await exists(join(folder, ".git"))
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

/** Operations in progress by the file that stands for each. Source: git 2.39, wt-status.c and sequencer.c. */
const OPERATIONS: readonly (readonly [file: string, name: string, wayOut: string])[] = [
  ["rebase-merge", "a rebase", "git rebase --continue or --abort"],
  ["rebase-apply/applying", "git am", "git am --continue or --abort"],
  ["rebase-apply", "a rebase", "git rebase --continue or --abort"],
  ["MERGE_HEAD", "a merge", "git merge --continue or --abort"],
  ["CHERRY_PICK_HEAD", "a cherry-pick", "git cherry-pick --continue or --abort"],
  ["REVERT_HEAD", "a revert", "git revert --continue or --abort"],
  ["sequencer", "a sequence of cherry-picks or reverts", "git cherry-pick --continue or --abort"],
  ["BISECT_LOG", "a bisect", "git bisect reset"],
]

/** Why this repository can't be captured, or written over, as it is, with the way out; null when it can. */
export async function unsupportedState(repository: Repository): Promise<AppError | null> {
  const refuse = (what: string, hint: string): AppError =>
    new AppError("unsupported_state", `${repository.topLevel} can't be moved: ${what}`, { hint })
  if (repository.head === null) return refuse("its branch has no commit yet", "make a first commit, then try again")
  for (const [file, name, wayOut] of OPERATIONS) {
    if (await exists(join(repository.gitDir, file)))
      return refuse(`${name} is in progress`, `finish it first: ${wayOut}`)
  }
  const unmerged = await gitRecords(repository, ["ls-files", "--unmerged", "-z"])
  const first = unmerged[0]
  if (first !== undefined) {
    const path = shownPath(first.slice(first.indexOf("\t") + 1))
    return refuse(`its index has unmerged entries (${path}, …)`, "resolve them and git add, then try again")
  }
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
  const pattern = "^(core\\.sparsecheckout|extensions\\.partialclone|remote\\..*\\.promisor)$"
  const result = await gitResult(repository, ["config", "-z", "--get-regexp", pattern])
  for (const record of Buffer.from(result.stdout).toString("utf8").split("\0")) {
    const [key = "", value = ""] = record.split("\n")
    if (key === "core.sparsecheckout" && value !== "false") {
      return refuse("it is a sparse checkout", "git sparse-checkout disable, then try again")
    }
    if (key === "extensions.partialclone" || (key.endsWith(".promisor") && value !== "false")) {
      return refuse("it is a partial clone", "clone it again without --filter, then try again")
    }
  }
  return null
}

/** Whether HEAD and the checkpoint's HEAD have a commit in common. Only after `fetchCode`: before, the checkpoint's commits are not here. */
export async function sharesCommit(repository: Repository, code: CodePart): Promise<boolean> {
  if (repository.head === null) return false
  const result = await gitResult(repository, ["merge-base", oidSchema.parse(repository.head), code.head])
  return result.exitCode === 0
}

/** The folder that keeps a repository's own settings apart from another's: the name of a linked worktree, null for the main one. */
export function worktreeName(repository: Repository): string | null {
  return repository.gitDir === repository.commonDir
    ? null
    : repository.gitDir.slice(dirname(repository.gitDir).length + 1)
}

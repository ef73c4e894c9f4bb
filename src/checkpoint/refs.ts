/** The closed list of refs and settings that an apply may write: checked before anything changes, written in one transaction. */
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import type { PartBackup, Repository } from "./code.ts"
import { git, gitRecords, gitResult, resolveRef, type GitPlace } from "./git.ts"

export type RepositoryBackup = Extract<PartBackup, { kind: "repository" }>

const branchRef = (branch: string): string => `refs/heads/${branch}`

/** Refs that `applyCode` may write beside `refs/decamp/*`. */
export function refsOf(code: RepositoryPart): readonly string[] {
  const refs = branchesOf(code).map(([ref]) => ref)
  return code.upstream === null ? refs : [...refs, code.upstream.trackingRef]
}

/** HEAD's branch and those that an operation in progress holds, with what they point at. */
function branchesOf(code: RepositoryPart): readonly (readonly [ref: string, oid: Oid | null])[] {
  const held = code.heldBranches.map(({ name, oid }): [string, Oid] => [branchRef(name), oid])
  return code.branch === null ? held : [[branchRef(code.branch), code.head], ...held]
}

/** Settings that `applyCode` may write. */
export function settingsOf(code: RepositoryPart): readonly string[] {
  const origin = code.originUrl === null ? [] : ["remote.origin.url", "remote.origin.fetch"]
  if (code.branch === null || code.upstream === null) return origin
  return [...origin, `branch.${code.branch}.remote`, `branch.${code.branch}.merge`]
}

export async function readSetting(place: GitPlace, name: string): Promise<string | null> {
  const result = await gitResult(place, ["config", "--local", "--null", "--get", name])
  return result.exitCode === 0 ? Buffer.from(result.stdout).toString("utf8").replace(/\0$/, "") : null
}

/**
 * Refuses names from another machine that git would not take, or that can't stand beside the branches that are here.
 * @throws {AppError} damaged_data (a name git does not allow), unsupported_state (a collision, or checked out elsewhere)
 */
export async function requireWritableRefs(repository: Repository, code: RepositoryPart): Promise<void> {
  const names = [...refsOf(code)]
  if (code.upstream !== null) names.push(code.upstream.mergeRef, `refs/remotes/${code.upstream.remote}/x`)
  for (const name of names) {
    if (
      /[\u0000-\u001f\u007f]/.test(name) ||
      (await gitResult(repository, ["check-ref-format", name])).exitCode !== 0
    ) {
      throw new AppError("damaged_data", `the checkpoint names a ref that git does not allow: ${JSON.stringify(name)}`)
    }
  }
  if (code.originUrl !== null && /[\u0000-\u001f\u007f]|^-/.test(code.originUrl)) {
    throw new AppError("damaged_data", "the checkpoint names a URL of origin that is none")
  }
  for (const ref of refsOf(code)) await requireNoCollision(repository, ref)
  for (const [ref] of branchesOf(code)) {
    await requireNotCheckedOutElsewhere(repository, ref.slice("refs/heads/".length))
  }
}

/** A ref `a/b` and a ref `a` can't both be: one is a file where the other needs a folder. */
async function requireNoCollision(repository: Repository, ref: string): Promise<void> {
  const parts = ref.split("/")
  const above = parts.slice(3).map((_, at) => parts.slice(0, at + 3).join("/"))
  const patterns = [`${ref}/**`, ...above]
  const found = await git(repository, ["for-each-ref", "--format=%(refname)", ...patterns])
  const collisions = found.split("\n").filter((name) => name.startsWith(`${ref}/`) || above.includes(name))
  const [first] = collisions
  if (first === undefined) return
  throw new AppError("unsupported_state", `${ref} can't be made in ${repository.topLevel}: ${first} is in its way`, {
    hint: `rename it there (git branch -m ${first.replace("refs/heads/", "")} NEW), or pull with --into DIR`,
  })
}

async function requireNotCheckedOutElsewhere(repository: Repository, branch: string): Promise<void> {
  const lines = await gitRecords(repository, ["worktree", "list", "--porcelain", "-z"])
  let path = ""
  let count = 0
  for (const line of lines) {
    if (line.startsWith("worktree ")) {
      path = Buffer.from(line.slice(9), "latin1").toString("utf8")
      count += 1
    }
    if (line !== `branch ${Buffer.from(branchRef(branch)).toString("latin1")}` || path === repository.topLevel) continue
    // The main worktree comes first; that of a submodule is told by its git folder.
    if (count === 1 && repository.gitDir === repository.commonDir) continue
    throw new AppError("unsupported_state", `branch ${branch} is checked out in another worktree, ${path}`, {
      hint: "switch that worktree to another branch, or pull with --into DIR",
    })
  }
}

/**
 * Sets branch, upstream's tracking ref, HEAD and settings to those of `code`.
 * @throws {AppError} diverged when a ref is neither what was saved nor what is to be written
 */
export async function writeRefs(repository: Repository, code: RepositoryPart, backup: PartBackup): Promise<void> {
  const updates: string[] = []
  for (const [ref, oid] of branchesOf(code)) {
    const now = await resolveRef(repository, ref)
    const saved = backup.kind === "repository" ? (backup.refs[ref] ?? null) : null
    if (now !== saved && now !== oid) {
      throw new AppError("diverged", `${ref} in ${repository.topLevel} moved while the checkpoint was being applied`, {
        hint: "run the command again",
      })
    }
    if (now !== oid) updates.push(updateLine(ref, oid, now))
  }
  const tracking = code.upstream
  if (tracking !== null && tracking.trackingOid !== null) {
    const now = await resolveRef(repository, tracking.trackingRef)
    if (now !== tracking.trackingOid && (await isAncestorOrNone(repository, now, tracking.trackingOid))) {
      updates.push(updateLine(tracking.trackingRef, tracking.trackingOid, now))
    }
  }
  await updateRefs(repository, updates)
  await setHead(repository, code.branch, code.head)
  for (const [name, value] of await wantedSettings(repository, code)) {
    if ((await readSetting(repository, name)) !== value) await git(repository, ["config", "--local", name, value])
  }
}

/** A line for `update-ref --stdin`, guarded by the old value; null: the ref is not there. */
function updateLine(ref: string, to: Oid | null, from: Oid | null): string {
  if (to === null) return from === null ? "" : `delete ${ref} ${from}\n`
  return `update ${ref} ${to} ${from ?? "0".repeat(to.length)}\n`
}

async function updateRefs(repository: Repository, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return
  const input = Buffer.from(`start\n${lines.join("")}prepare\ncommit\n`).toString("latin1")
  await git(repository, ["update-ref", "-m", "decamp: apply", "--stdin"], { input })
}

async function isAncestorOrNone(repository: Repository, now: Oid | null, to: Oid): Promise<boolean> {
  return now === null || (await gitResult(repository, ["merge-base", "--is-ancestor", now, to])).exitCode === 0
}

/** Points HEAD at a branch, or at a commit when there is none. */
async function setHead(repository: Repository, branch: string | null, head: string | null): Promise<void> {
  const named = await gitResult(repository, ["symbolic-ref", "--quiet", "HEAD"])
  const now = Buffer.from(named.stdout).toString("utf8").trim()
  if (branch === null) {
    if (head === null) throw new AppError("damaged_data", "the checkpoint has neither a branch nor a commit")
    if (now !== "" || (await resolveRef(repository, "HEAD")) !== head) {
      await git(repository, ["update-ref", "--no-deref", "-m", "decamp: apply", "HEAD", head])
    }
  } else if (now !== branchRef(branch)) {
    await git(repository, ["symbolic-ref", "-m", "decamp: apply", "HEAD", branchRef(branch)])
  }
}

async function wantedSettings(
  repository: Repository,
  code: RepositoryPart,
): Promise<readonly (readonly [string, string])[]> {
  const wanted: (readonly [string, string])[] = []
  if (code.originUrl !== null && (await readSetting(repository, "remote.origin.url")) === null) {
    wanted.push(["remote.origin.url", code.originUrl], ["remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])
  }
  if (code.branch !== null && code.upstream !== null) {
    wanted.push([`branch.${code.branch}.remote`, code.upstream.remote])
    wanted.push([`branch.${code.branch}.merge`, code.upstream.mergeRef])
  }
  return wanted
}

/** Takes refs, HEAD and settings back to what a backup says. A ref that somebody else moved since is left as it is. */
export async function restoreRefs(
  repository: Repository,
  backup: RepositoryBackup,
  code: RepositoryPart,
): Promise<void> {
  const branches = new Set(branchesOf(code).map(([ref]) => ref))
  const own = backup.branch === null ? null : branchRef(backup.branch)
  const lines: string[] = []
  for (const [ref, saved] of Object.entries(backup.refs)) {
    const now = await resolveRef(repository, ref)
    // The branches of HEAD, before and after, go back in any case: commits made since are parents of the ref under refs/decamp/left.
    const isOurs = ref === own || branches.has(ref) || now === (code.upstream?.trackingOid ?? null)
    if (now === saved || !isOurs) continue
    if (saved !== null) lines.push(updateLine(ref, saved, now))
    else if (now !== null) lines.push(`delete ${ref} ${now}\n`)
  }
  if (backup.branch !== null || backup.head !== null) await setHead(repository, backup.branch, backup.head)
  await updateRefs(repository, lines)
  for (const [name, saved] of Object.entries(backup.config)) {
    const now = await readSetting(repository, name)
    if (now === saved) continue
    if (saved === null) await gitResult(repository, ["config", "--local", "--unset-all", name])
    else await git(repository, ["config", "--local", name, saved])
  }
}

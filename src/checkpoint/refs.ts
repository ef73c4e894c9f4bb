/** The closed list of refs and settings that an apply may write: checked before anything changes, written in one transaction. */
import { AppError } from "../protocol/errors.ts"
import type { Oid } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import type { Backup, Repository } from "./code.ts"
import { git, gitRecords, gitResult, resolveRef, type GitPlace } from "./git.ts"

export type RepositoryBackup = Extract<Backup, { kind: "repository" }>

const branchRef = (branch: string): string => `refs/heads/${branch}`

/** Refs that `applyCode` may write beside `refs/decamp/*`. */
export function refsOf(code: CodePart): readonly string[] {
  const refs = code.branch === null ? [] : [branchRef(code.branch)]
  return code.upstream === null ? refs : [...refs, code.upstream.trackingRef]
}

/** Settings that `applyCode` may write. */
export function settingsOf(code: CodePart): readonly string[] {
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
export async function requireWritableRefs(repository: Repository, code: CodePart): Promise<void> {
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
  if (code.branch !== null) await requireNotCheckedOutElsewhere(repository, code.branch)
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
  for (const line of lines) {
    if (line.startsWith("worktree ")) path = Buffer.from(line.slice(9), "latin1").toString("utf8")
    if (line !== `branch ${Buffer.from(branchRef(branch)).toString("latin1")}` || path === repository.topLevel) continue
    throw new AppError("unsupported_state", `branch ${branch} is checked out in another worktree, ${path}`, {
      hint: "switch that worktree to another branch, or pull with --into DIR",
    })
  }
}

/**
 * Sets branch, upstream's tracking ref, HEAD and settings to those of `code`.
 * @throws {AppError} diverged when a ref is neither what was saved nor what is to be written
 */
export async function writeRefs(repository: Repository, code: CodePart, backup: Backup): Promise<void> {
  const updates: string[] = []
  if (code.branch !== null) {
    const ref = branchRef(code.branch)
    const now = await resolveRef(repository, ref)
    const saved = backup.kind === "repository" ? (backup.refs[ref] ?? null) : null
    if (now !== saved && now !== code.head) {
      throw new AppError("diverged", `${ref} in ${repository.topLevel} moved while the checkpoint was being applied`, {
        hint: "run the command again",
      })
    }
    if (now !== code.head) updates.push(updateLine(ref, code.head, now))
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

function updateLine(ref: string, to: Oid, from: Oid | null): string {
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
async function setHead(repository: Repository, branch: string | null, head: string): Promise<void> {
  const named = await gitResult(repository, ["symbolic-ref", "--quiet", "HEAD"])
  const now = Buffer.from(named.stdout).toString("utf8").trim()
  if (branch === null) {
    if (now !== "" || (await resolveRef(repository, "HEAD")) !== head) {
      await git(repository, ["update-ref", "--no-deref", "-m", "decamp: apply", "HEAD", head])
    }
  } else if (now !== branchRef(branch)) {
    await git(repository, ["symbolic-ref", "-m", "decamp: apply", "HEAD", branchRef(branch)])
  }
}

async function wantedSettings(repository: Repository, code: CodePart): Promise<readonly (readonly [string, string])[]> {
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
export async function restoreRefs(repository: Repository, backup: RepositoryBackup, code: CodePart): Promise<void> {
  const written = new Map<string, Oid>()
  if (code.branch !== null) written.set(branchRef(code.branch), code.head)
  const tracking = code.upstream
  if (tracking !== null && tracking.trackingOid !== null) written.set(tracking.trackingRef, tracking.trackingOid)
  const own = backup.branch === null ? null : branchRef(backup.branch)
  const lines: string[] = []
  for (const [ref, saved] of Object.entries(backup.refs)) {
    const now = await resolveRef(repository, ref)
    // The branches of HEAD, before and after, go back in any case: commits made since are parents of the ref under refs/decamp/left.
    const isOurs = now === written.get(ref) || ref === own || (code.branch !== null && ref === branchRef(code.branch))
    if (now === saved || !isOurs) continue
    if (saved !== null) lines.push(updateLine(ref, saved, now))
    else if (now !== null) lines.push(`delete ${ref} ${now}\n`)
  }
  if (backup.branch !== null && backup.head !== null) await setHead(repository, backup.branch, backup.head)
  else if (backup.head !== null) await setHead(repository, null, backup.head)
  await updateRefs(repository, lines)
  for (const [name, saved] of Object.entries(backup.config)) {
    const now = await readSetting(repository, name)
    if (now === saved) continue
    if (saved === null) await gitResult(repository, ["config", "--local", "--unset-all", name])
    else await git(repository, ["config", "--local", name, saved])
  }
}

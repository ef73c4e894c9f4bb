/** Bringing a saved state (`refs/decamp/backup/…`, `refs/decamp/left/…`) back, whole. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import type { StepListener } from "../lib/steps.ts"
import { oidSchema } from "../protocol/ids.ts"
import type { CodePart, RepositoryPart } from "../protocol/manifest.ts"
import { openFresh, writeRepository } from "./apply.ts"
import { backupCode, dropBackup, restoreBackup } from "./backup.ts"
import type { Backup, PartBackup, Repository } from "./code.ts"
import { git, gitOid, resolveRef } from "./git.ts"
import { readSaved, type Saved } from "./left.ts"
import { makeNested, openIfThere } from "./nested.ts"
import { deviations } from "./same.ts"
import { openRepository } from "./repository.ts"
import { apartFrom } from "./snapshot.ts"
import { dropReadIndex } from "./unchanged.ts"
import { AppError } from "../protocol/errors.ts"

export interface SavedRequest {
  /** Where the saved state lies. */
  readonly repository: Repository
  readonly ref: string
  /** A missing or empty directory; null: in place. */
  readonly into: string | null
  readonly scratch: string
  readonly steps: StepListener
}

/**
 * Brings HEAD, branch, index, work tree, permission bits, operation in progress and nested repositories to a saved state, and compares
 * the outcome with it. In place the state before is saved first; a failure is undone.
 * @returns the ref of that save; null when the directory was at the saved state already, or with `into`
 * @throws {AppError} usage (no such ref), damaged_data, busy, not_writable, no_space
 */
export async function applyBackup(request: SavedRequest): Promise<{ readonly saved: string | null }> {
  const { repository, ref, into } = request
  const saved = await readSaved(repository, ref)
  const code = await asCode(repository, saved, ref)
  if (into !== null) {
    await applyInto(repository, saved, code, request, into)
    return { saved: null }
  }
  const { scratch, steps } = request
  const common = { directory: repository.topLevel, code, scratch, steps }
  const backup = await backupCode({ ...common, atMs: Date.now() })
  if (isAlready(code, backup)) {
    await dropBackup(backup)
    return { saved: null }
  }
  try {
    await writeRepository(repository, code, backup, request)
    await requireSame(repository, code, scratch)
    for (const part of code.nested) {
      const before = backup.nested.find(({ path }) => path === part.path)?.backup
      const inner = await openIfThere(join(repository.topLevel, part.path))
      if (before === undefined || inner === null) continue
      await writeRepository(inner, part, before, request)
    }
  } catch (error) {
    await restoreBackup({ backup, code, scratch, steps })
    throw error
  }
  for (const part of [backup, ...backup.nested.map((each) => each.backup)]) {
    if (part.kind === "repository") await dropReadIndex(await openRepository(part.directory), part.ref)
  }
  return { saved: backup.kind === "repository" ? backup.ref : null }
}

/** A saved state in the shape of a checkpoint's code that needs no pack: everything is here. */
async function asCode(repository: Repository, saved: Saved, ref: string): Promise<CodePart> {
  const nested: CodePart["nested"] = []
  for (const each of saved.nested) {
    const inner = await openIfThere(join(repository.topLevel, each.path))
    if (inner === null) continue
    nested.push({ ...(await asPart(inner, await readSaved(inner, each.ref), each.ref)), path: each.path, module: null })
  }
  return { ...(await asPart(repository, saved, ref)), nested }
}

async function asPart(repository: Repository, saved: Saved, ref: string): Promise<RepositoryPart> {
  const format = (await git(repository, ["rev-parse", "--show-object-format"])).trim()
  return {
    objectFormat: format === "sha256" ? "sha256" : "sha1",
    head: saved.head,
    rootCommit: null,
    branch: saved.branch,
    upstream: null,
    originUrl: null,
    indexTree: saved.indexTree,
    worktreeTree: saved.worktreeTree,
    stateTree: saved.stateTree,
    heldBranches: [],
    carried: saved.carried,
    lfs: [],
    allBranches: false,
    snapshot: await gitOid(repository, ["rev-parse", "--verify", "--end-of-options", ref]),
    packs: [],
  }
}

function isAlready(code: CodePart, backup: Backup): boolean {
  const parts: [PartBackup, RepositoryPart][] = [[backup, code]]
  for (const part of code.nested) {
    const before = backup.nested.find(({ path }) => path === part.path)?.backup
    if (before !== undefined) parts.push([before, part])
  }
  return parts.every(
    ([was, part]) =>
      was.kind === "repository" &&
      was.head === part.head &&
      was.branch === part.branch &&
      was.indexTree === part.indexTree &&
      was.worktreeTree === part.worktreeTree &&
      was.stateTree === part.stateTree,
  )
}

async function requireSame(repository: Repository, code: RepositoryPart, parent: string): Promise<void> {
  await using scratch = await scratchFolder(parent, "verify")
  const place = await apartFrom(repository, join(scratch.path, "objects"))
  const found = await deviations(repository, code, place, { scratch: scratch.path, named: [] })
  if (found.indexTree === code.indexTree && found.files.length === 0 && found.state.length === 0) return
  throw new AppError("damaged_data", `${repository.topLevel} could not be brought to the saved state`, {
    hint: "nothing was lost: it is as it was; stop what writes there and try again",
  })
}

async function applyInto(
  repository: Repository,
  saved: Saved,
  code: CodePart,
  request: SavedRequest,
  into: string,
): Promise<void> {
  const outer = await openFresh({ directory: into, code }, into)
  await bringObjects(outer, repository, request.ref)
  await writeRepository(outer, code, { kind: "fresh", directory: into, existed: true }, request)
  for (const part of code.nested) {
    const source = await openIfThere(join(repository.topLevel, part.path))
    const ref = saved.nested.find(({ path }) => path === part.path)?.ref
    if (source === null || ref === undefined) continue
    const inner = await makeNested(into, part, part.branch === null ? [] : [`--initial-branch=${part.branch}`])
    await bringObjects(inner, source, ref)
    await writeRepository(inner, part, { kind: "fresh", directory: inner.topLevel, existed: true }, request)
  }
}

/** Everything that a saved state names, from one repository of this machine into another. */
async function bringObjects(to: Repository, from: Repository, ref: string): Promise<void> {
  const own = "refs/decamp/restored"
  await git(to, ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", from.commonDir, `+${ref}:${own}`])
  const oid = oidSchema.nullable().parse(await resolveRef(to, own))
  if (oid !== null) await git(to, ["update-ref", "-d", own, oid])
}

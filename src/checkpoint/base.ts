/** Which checkpoint a directory is at: `$GIT_DIR/decamp/base.json` and the ref that keeps its objects. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { privateFolder, readTextIfExists, writeFileDurably } from "../lib/files.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { baseSchema, type Base, type Repository } from "./code.ts"
import { git, resolveRef } from "./git.ts"
import { directoriesOf, openIfThere } from "./nested.ts"
import { worktreeName } from "./repository.ts"
import { writeKeepTree } from "./snapshot.ts"

export function baseOf(checkpoint: string, code: CodePart): Base {
  return { schema: 1, checkpoint, code }
}

/** `$GIT_DIR/decamp`, made when missing: the only folder besides objects and `refs/decamp/*` that a push writes in a repository. */
export async function decampFolder(repository: Repository): Promise<string> {
  return await privateFolder(join(repository.gitDir, "decamp"))
}

const baseFile = (repository: Repository): string => join(repository.gitDir, "decamp", "base.json")

/** Refs are shared by the linked worktrees of a repository; each is its own workspace and has its own. */
function baseRef(repository: Repository): string {
  const name = worktreeName(repository)
  return name === null ? "refs/decamp/base" : `refs/decamp/worktrees/${name}/base`
}

/** The checkpoint this directory was last at; null when there is no readable record. */
export async function readBase(repository: Repository): Promise<Base | null> {
  const text = await readTextIfExists(baseFile(repository))
  if (text === null) return null
  try {
    return baseSchema.parse(JSON.parse(text))
  } catch {
    // A record that can't be read costs a full pack, never data: everything then counts as unseen.
    return null
  }
}

/**
 * Records, durably, that the directory and the nested repositories in it are at this checkpoint: after a push was committed, after an
 * apply was verified.
 */
export async function recordBase(repository: Repository, base: Base): Promise<void> {
  for (const { directory, part } of directoriesOf(repository.topLevel, base.code)) {
    const inner = await openIfThere(directory)
    if (inner !== null) await recordOne(inner, baseOf(base.checkpoint, { ...part, nested: [] }))
  }
  await recordOne(repository, base)
}

/** The ref names a tree, which `git log --all` does not show and `git gc` keeps. */
async function recordOne(repository: Repository, base: Base): Promise<void> {
  const tree = await writeKeepTree(repository, base.code)
  await git(repository, ["update-ref", baseRef(repository), tree])
  await decampFolder(repository)
  await writeFileDurably(baseFile(repository), JSON.stringify(base))
  await forgetWritten(repository)
}

/** The note of what an apply wrote has done its duty. */
async function forgetWritten(repository: Repository): Promise<void> {
  await rm(join(repository.gitDir, "decamp", "written"), { force: true })
}

/** Takes the record of this one repository back to what it was (null: none). */
export async function restoreBase(repository: Repository, base: Base | null): Promise<void> {
  // First what makes room: on a full disk nothing else may be possible.
  await forgetWritten(repository)
  if (base !== null) {
    if (!(await isRecorded(repository, base))) await recordOne(repository, base)
    return
  }
  await rm(baseFile(repository), { force: true })
  await git(repository, ["update-ref", "-d", baseRef(repository)])
}

async function isRecorded(repository: Repository, base: Base): Promise<boolean> {
  const now = await readBase(repository)
  if (JSON.stringify(now) !== JSON.stringify(baseSchema.parse(base))) return false
  return (await resolveRef(repository, baseRef(repository))) !== null
}

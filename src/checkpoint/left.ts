/** Saving a directory, or what is new in it, as one commit under `refs/decamp/`. */
import { join } from "node:path"
import { z } from "zod"
import { scratchFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { Repository } from "./code.ts"
import { git, gitRecords, gitResult, resolveRef } from "./git.ts"
import { readCheckout, type ReadCheckout } from "./checkout.ts"
import { rawChanges } from "./raw-changes.ts"
import { commitText, writeCommit, writeStateCommit } from "./snapshot.ts"

export const savedSchema = z.object({
  directory: z.string(),
  branch: z.string().nullable(),
  head: oidSchema.nullable(),
  indexTree: oidSchema,
  worktreeTree: oidSchema,
  stateTree: oidSchema.nullable(),
  carried: z.array(oidSchema),
  /** Nested repositories by path below the top, each with its own ref of the same kind. */
  nested: z.array(z.object({ path: z.string(), ref: z.string() })),
  /** The refs that might be overwritten, as they were. */
  refs: z.record(z.string(), oidSchema.nullable()),
})
/** What a commit under `refs/decamp/backup/` or `refs/decamp/left/` says of the checkout it saves, in its message. */
export type Saved = z.infer<typeof savedSchema>

/** What is saved of a checkout. */
export type Checkout = Pick<ReadCheckout, "indexTree" | "worktreeTree" | "stateTree" | "carried">

/**
 * A commit whose tree is the work tree (so that `git show REF:file` works), whose parents are HEAD, the index, the state and the tips
 * of refs that may be overwritten, and whose message says which is which.
 */
export async function writeSaved(
  repository: Repository,
  checkout: Checkout,
  about: { readonly title: string; readonly atMs: number } & Partial<Pick<Saved, "nested" | "refs">>,
): Promise<Oid> {
  const seconds = Math.floor(about.atMs / 1000)
  const head = repository.head === null ? null : oidSchema.parse(repository.head)
  const heads = head === null ? [] : [head]
  const { refs = {}, nested = [] } = about
  const [index, state] = await Promise.all([
    writeCommit(repository, commitText(checkout.indexTree, heads, "decamp index", seconds)),
    writeStateCommit(repository, checkout),
  ])
  // A tag may be an object of its own, which can't be a parent; tags are only ever added.
  const tips = Object.entries(refs).map(([ref, oid]) => (ref.startsWith("refs/tags/") ? null : oid))
  const parents = [...new Set([...heads, index, state, ...tips].filter((oid) => oid !== null))]
  const facts: Saved = {
    directory: repository.topLevel,
    branch: repository.branch,
    head,
    indexTree: checkout.indexTree,
    worktreeTree: checkout.worktreeTree,
    stateTree: checkout.stateTree,
    carried: [...checkout.carried],
    nested: [...nested],
    refs,
  }
  const message = `${about.title}\n\n${JSON.stringify(facts)}`
  return await writeCommit(repository, commitText(checkout.worktreeTree, parents, message, seconds))
}

/**
 * What a backup's commit says.
 * @throws {AppError} usage when there is no such ref, damaged_data when it is no backup
 */
export async function readSaved(repository: Repository, ref: string): Promise<Saved> {
  const result = await gitResult(repository, ["log", "-1", "--format=%b", ref, "--"])
  if (result.exitCode !== 0) {
    throw new AppError("usage", `there is no backup ${ref} in ${repository.topLevel}`, {
      hint: "decamp log lists them",
    })
  }
  try {
    return savedSchema.parse(JSON.parse(Buffer.from(result.stdout).toString("utf8")))
  } catch (error) {
    throw new AppError("damaged_data", `${ref} is not a backup of this version of decamp`, {
      hint: `its files are there: git show ${ref}:FILE`,
      cause: error,
    })
  }
}

/** Sets a new ref; a taken name gets `-2`, `-3`, …; answers the name. */
export async function writeNewRef(repository: Repository, name: string, commit: Oid): Promise<string> {
  for (let number = 1; ; number += 1) {
    const ref = number === 1 ? name : `${name}-${number}`
    const now = await resolveRef(repository, ref)
    if (now === commit) return ref
    if (now !== null) continue
    await git(repository, ["update-ref", ref, commit, "0".repeat(commit.length)])
    return ref
  }
}

/** `20261122T225912Z`: a time as part of a ref's name. */
export function refTime(atMs: number): string {
  return new Date(atMs).toISOString().replaceAll(/[-:]|\.\d+/g, "")
}

/**
 * A file that belongs to a backup: the files that apply found and the backup had not, as lines for `update-index --index-info`. It is
 * written once, by the first apply: what a cut-off apply wrote is nobody's file.
 */
export function metFile(repository: Repository, ref: string): string {
  return join(repository.gitDir, "decamp", "backup", `${ref.split("/").at(-1) ?? ""}.met`)
}

/** Byte paths of files whose contents here are in none of the trees. */
export async function unseenFiles(
  repository: Repository,
  current: Oid,
  seen: readonly Oid[],
): Promise<readonly string[]> {
  const changed: (readonly string[])[] = []
  for (const tree of seen) {
    const changes = await rawChanges(repository, ["diff-tree", "--diff-filter=AMT", tree, current])
    changed.push(changes.map(({ path }) => path))
  }
  const [first = [], ...others] = changed
  const rest = others.map((paths) => new Set(paths))
  return first.filter((path) => rest.every((paths) => paths.has(path)))
}

/** Saves the directory under `refs/decamp/left/<name>` and answers the ref. */
export async function saveAsLeft(
  repository: Repository,
  checkout: Checkout,
  name: string,
  atMs: number,
): Promise<string> {
  const commit = await writeSaved(repository, checkout, { title: "decamp: left behind", atMs })
  return await writeNewRef(repository, `refs/decamp/left/${name}`, commit)
}

/** Saves the directory as it is under `refs/decamp/left/<epoch>` (a taken name gets `-2`, …); answers the ref. */
export async function saveLeft(repository: Repository, epoch: number, scratch: string): Promise<string> {
  await using folder = await scratchFolder(scratch, "left")
  const checkout = await readCheckout(repository, { scratch: folder.path, keep: [] })
  return await saveAsLeft(repository, checkout, String(epoch), Date.now())
}

/** Refs under `refs/decamp/left/`, newest first. */
export async function listLeft(
  repository: Repository,
): Promise<readonly { readonly ref: string; readonly createdAtMs: number }[]> {
  const args = [
    "for-each-ref",
    "--sort=-committerdate",
    "--format=%(refname) %(committerdate:unix)",
    "refs/decamp/left",
  ]
  const lines = (await gitRecords(repository, args)).join("").split("\n")
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const [ref = "", seconds = "0"] = line.split(" ")
      return { ref, createdAtMs: Number(seconds) * 1000 }
    })
}

/**
 * Snapshot commits. Everything in one is fixed but its trees and parents, so that the same commit can be made again from the facts
 * in a manifest: it never has to survive `git gc`, and it never lies in the source repository at all.
 */
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { oidSchema, type Oid } from "../protocol/ids.ts"
import type { RepositoryPart } from "../protocol/manifest.ts"
import type { Repository } from "./code.ts"
import { gitOid, gitResult, type GitPlace } from "./git.ts"

/**
 * 2100-01-01. Later than every real commit: git walks newest first, and a snapshot that looked old would make it walk the whole
 * history before it reached the end of the new part.
 */
const FIXED_SECONDS = 4_102_444_800
const IDENTITY = "decamp <decamp@localhost>"

/** What makes a snapshot. */
export interface SnapshotFacts {
  readonly head: Oid | null
  readonly indexTree: Oid
  readonly worktreeTree: Oid
  readonly stateTree: Oid | null
  readonly carried: readonly Oid[]
  /** Tip of the remote-tracking ref of the branch's upstream: it travels too. */
  readonly trackingOid: Oid | null
  readonly previous: Oid | null
}

/** Facts of the newest snapshot of a code part, from the manifest alone. */
export function factsOf(code: RepositoryPart): SnapshotFacts {
  return {
    head: code.head,
    indexTree: code.indexTree,
    worktreeTree: code.worktreeTree,
    stateTree: code.stateTree,
    carried: code.carried,
    trackingOid: code.upstream?.trackingOid ?? null,
    previous: code.packs.at(-2)?.snapshot ?? null,
  }
}

/** A commit object's text; parents need not exist. */
export function commitText(
  tree: Oid,
  parents: readonly Oid[],
  message: string,
  seconds: number = FIXED_SECONDS,
): string {
  const stamp = `${IDENTITY} ${seconds} +0000`
  const lines = [
    `tree ${tree}`,
    ...parents.map((parent) => `parent ${parent}`),
    `author ${stamp}`,
    `committer ${stamp}`,
  ]
  return `${lines.join("\n")}\n\n${message}\n`
}

/** Writes a commit that may name parents that are not here (`git commit-tree` would refuse, and adds the user's encoding header). */
export async function writeCommit(place: GitPlace, text: string): Promise<Oid> {
  return await gitOid(place, ["hash-object", "-t", "commit", "-w", "--stdin"], {
    input: Buffer.from(text, "utf8").toString("latin1"),
  })
}

/** Makes a snapshot with its index and state commits in `place.objects`; answers the snapshot's id. */
export async function writeSnapshot(place: GitPlace, facts: SnapshotFacts): Promise<Oid> {
  const head = facts.head === null ? [] : [facts.head]
  // A helper commit is of one snapshot only: were it also one of an earlier snapshot, a thin pack would leave it out, and a host that
  // knows the last snapshot alone would miss it.
  const after = facts.previous === null ? "" : `\n\nafter ${facts.previous}`
  const [index, state] = await Promise.all([
    writeCommit(place, commitText(facts.indexTree, head, `decamp index${after}`)),
    writeStateCommit(place, facts, after),
  ])
  const parents = [...head, index, state, facts.trackingOid, facts.previous].filter((oid) => oid !== null)
  return await writeCommit(place, commitText(facts.worktreeTree, [...new Set(parents)], "decamp snapshot"))
}

/** The commit that keeps the state and the commits it names; null when there is nothing of that. */
export async function writeStateCommit(
  place: GitPlace,
  facts: Pick<SnapshotFacts, "stateTree" | "carried">,
  after = "",
): Promise<Oid | null> {
  if (facts.stateTree === null && facts.carried.length === 0) return null
  const tree = facts.stateTree ?? (await gitOid(place, ["mktree"], { input: "" }))
  return await writeCommit(place, commitText(tree, facts.carried, `decamp state${after}`))
}

/**
 * A new object folder that reads the repository's objects too. Remove it to forget everything written there.
 * @returns the place that writes into it
 */
export async function apartFrom(
  repository: Repository,
  folder: string,
): Promise<GitPlace & { readonly objects: string }> {
  await mkdir(join(folder, "info"), { recursive: true, mode: 0o700 })
  await mkdir(join(folder, "pack"), { recursive: true, mode: 0o700 })
  await writeFile(join(folder, "info", "alternates"), `${join(repository.commonDir, "objects")}\n`)
  return { gitDir: repository.gitDir, topLevel: repository.topLevel, objects: folder }
}

/**
 * Whether every object reachable from these is here. Refs are trusted to be complete, as `git fetch` trusts them.
 * @param known further commits that count as complete, also when their own parents are gone
 */
export async function isComplete(place: GitPlace, roots: readonly Oid[], known: readonly Oid[] = []): Promise<boolean> {
  const input = [...roots, ...known.map((oid) => `^${oid}`)].map((line) => `${line}\n`).join("")
  // A `--not` on the command line says nothing about standard input. Source: git-rev-list(1), git 2.39 and 2.42.
  const args = ["rev-list", "--objects", "--quiet", "--stdin", "--not", "--all"]
  return (await gitResult(place, args, { input })).exitCode === 0
}

/** Whether all that a snapshot names, but the snapshot before it, is here. */
export async function hasObjectsOf(place: GitPlace, facts: SnapshotFacts): Promise<boolean> {
  return await isComplete(place, rootsOf(facts))
}

/** Every object that a snapshot names, but the snapshot before it. */
export function rootsOf(facts: SnapshotFacts): readonly Oid[] {
  const { head, indexTree, worktreeTree, stateTree, trackingOid, carried } = facts
  return [head, indexTree, worktreeTree, stateTree, trackingOid, ...carried].filter((oid) => oid !== null)
}

/** The tree that `refs/decamp/base` names: the trees of a checkpoint, so that git keeps their files. */
export async function writeKeepTree(place: GitPlace, code: RepositoryPart): Promise<Oid> {
  const state = code.stateTree === null ? "" : `040000 tree ${code.stateTree}\tstate\n`
  return oidSchema.parse(
    await gitOid(place, ["mktree"], {
      input: `040000 tree ${code.indexTree}\tindex\n${state}040000 tree ${code.worktreeTree}\tworktree\n`,
    }),
  )
}

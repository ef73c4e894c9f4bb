/** Taking the code of a directory into a checkpoint without changing the directory. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { step } from "../lib/steps.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { blobIdSchema, oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart } from "../protocol/manifest.ts"
import { readBase } from "./base.ts"
import type { Captured, CaptureRequest, Repository } from "./code.ts"
import { git, gitResult, gitStream, resolveRef, type GitPlace } from "./git.ts"
import { unsupportedState } from "./repository.ts"
import { apartFrom, factsOf, hasObjectsOf, writeSnapshot, type SnapshotFacts } from "./snapshot.ts"
import { whatStays, whatTreesLack, withoutCredentials } from "./staying.ts"
import { readTrees } from "./trees.ts"

/** What a checkpoint says of a repository beside its trees. */
interface Surroundings {
  readonly objectFormat: CodePart["objectFormat"]
  readonly upstream: CodePart["upstream"]
  readonly originUrl: string | null
}

/**
 * Captures HEAD, index and work tree and puts what the store lacks into the sink as one pack. The repository gets objects and nothing
 * else; with `dryRun` not even those. Steps: `capture code`, `pack code`.
 * @throws {AppError} unsupported_state, git_missing, no_space, internal (an unreadable file, in git's words)
 */
export async function captureCode(request: CaptureRequest): Promise<Captured> {
  const { repository, scratch } = request
  const folder = join(scratch, `objects-${crypto.randomUUID().slice(0, 8)}`)
  const apart = await apartFrom(repository, folder)
  try {
    // Whether a thin pack is possible doesn't depend on what is captured: it is found out beside the capture.
    const [state, previous] = await Promise.all([
      step(request.steps, "capture code", async () => await readState(request, apart)),
      usablePrevious(request, apart),
    ])
    const { trees, surroundings } = state
    const [chain, notTravelling] = await Promise.all([
      step(request.steps, "pack code", async () => await packState(request, apart, state.facts, previous)),
      whatTreesLack(apart, trees, state.stays),
    ])
    const code: CodePart = {
      ...surroundings,
      head: state.facts.head,
      rootCommit: repository.rootCommit === null ? null : oidSchema.parse(repository.rootCommit),
      branch: repository.branch,
      indexTree: trees.indexTree,
      worktreeTree: trees.worktreeTree,
      snapshot: chain.snapshot,
      packs: [...chain.packs],
    }
    return { code, notTravelling, newBytes: chain.newBytes }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function readState(request: CaptureRequest, apart: GitPlace & { readonly objects: string }) {
  const { repository } = request
  const [refusal, surroundings, base] = await Promise.all([
    unsupportedState(repository),
    readSurroundings(repository),
    readBase(repository),
  ])
  if (refusal !== null) throw refusal
  const head = oidSchema.parse(repository.head)
  const keep = [base?.code.worktreeTree, request.previous?.worktreeTree].filter((tree) => tree !== undefined)
  const objects = request.dryRun === true ? { objects: apart.objects } : {}
  const [trees, stays] = await Promise.all([
    readTrees(repository, { scratch: request.scratch, keep, ...objects }),
    whatStays(repository),
  ])
  // HEAD and index are read one after the other: a commit in between would give a checkpoint of neither.
  if ((await resolveRef(repository, "HEAD^{commit}")) !== head) {
    throw new AppError("busy", `${repository.topLevel} got a new commit while it was read`, { hint: "try again" })
  }
  const facts: Omit<SnapshotFacts, "previous"> = {
    head,
    trackingOid: surroundings.upstream?.trackingOid ?? null,
    indexTree: trees.indexTree,
    worktreeTree: trees.worktreeTree,
  }
  return { trees, surroundings, stays, facts }
}

async function readSurroundings(repository: Repository): Promise<Surroundings> {
  const [format, upstream] = await Promise.all([
    git(repository, ["rev-parse", "--show-object-format"]),
    repository.branch === null ? null : readUpstream(repository, repository.branch),
  ])
  return {
    objectFormat: format.trim() === "sha256" ? "sha256" : "sha1",
    upstream,
    originUrl: repository.originUrl === null ? null : withoutCredentials(repository.originUrl),
  }
}

/** The branch's upstream when it is a branch of a git remote; one in the same repository is told by `whatStays`. */
async function readUpstream(repository: Repository, branch: string): Promise<CodePart["upstream"]> {
  const format = "%(upstream)%00%(upstream:remotename)%00%(upstream:remoteref)"
  const line = await git(repository, ["for-each-ref", `--format=${format}`, `refs/heads/${branch}`])
  const [trackingRef = "", remote = "", mergeRef = ""] = (line.split("\n")[0] ?? "").split("\0")
  if (!trackingRef.startsWith("refs/remotes/") || !mergeRef.startsWith("refs/heads/") || remote === "") return null
  return { remote, mergeRef, trackingRef, trackingOid: await resolveRef(repository, `${trackingRef}^{commit}`) }
}

interface Chain {
  readonly snapshot: Oid
  readonly packs: CodePart["packs"]
  readonly newBytes: number
}

async function packState(
  request: CaptureRequest,
  apart: GitPlace,
  facts: Omit<SnapshotFacts, "previous">,
  previous: CodePart | null,
): Promise<Chain> {
  if (previous !== null && isSame(factsOf(previous), facts)) {
    return { snapshot: previous.snapshot, packs: previous.packs, newBytes: 0 }
  }
  const snapshot = await writeSnapshot(apart, { ...facts, previous: previous?.snapshot ?? null })
  const revisions = [snapshot, ...(previous === null ? [] : [`^${previous.snapshot}`])]
  const args = ["pack-objects", "--thin", "--revs", "--stdout", "--delta-base-offset", "--quiet"]
  const content = gitStream(apart, args, `${revisions.join("\n")}\n`)
  const stored = request.dryRun === true ? await weigh(content) : await request.sink.put(content, { compress: false })
  return {
    snapshot,
    packs: [...(previous?.packs ?? []), { blob: stored.id, snapshot }],
    newBytes: stored.storedSize,
  }
}

function isSame(left: Omit<SnapshotFacts, "previous">, right: Omit<SnapshotFacts, "previous">): boolean {
  return (
    left.head === right.head &&
    left.indexTree === right.indexTree &&
    left.worktreeTree === right.worktreeTree &&
    left.trackingOid === right.trackingOid
  )
}

/**
 * The previous checkpoint when a thin pack may build on it: all its objects are here and its snapshot commit, made again from the
 * manifest's facts, is the one the store has. Otherwise null, which means a full pack: never a failure.
 */
async function usablePrevious(request: CaptureRequest, apart: GitPlace): Promise<CodePart | null> {
  const { previous } = request
  if (previous === null) return null
  const facts = factsOf(previous)
  if (!(await hasObjectsOf(apart, facts))) return null
  const made = await writeSnapshot(apart, facts)
  if (made === previous.snapshot) return previous
  // A chain that was folded ends in a snapshot with another parent; it serves when it is still here as it was.
  const isHere = (await gitResult(apart, ["cat-file", "-e", previous.snapshot])).exitCode === 0
  return isHere ? previous : null
}

/** Size and id that a pack would have in the store, without storing it. */
async function weigh(content: AsyncIterable<Uint8Array>): Promise<Pick<BlobRef, "id" | "storedSize">> {
  const hasher = new Bun.CryptoHasher("sha256")
  let storedSize = 0
  for await (const part of content) {
    hasher.update(part)
    storedSize += part.byteLength
  }
  return { id: blobIdSchema.parse(hasher.digest("hex")), storedSize }
}

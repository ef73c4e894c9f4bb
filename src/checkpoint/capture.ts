/** Taking the code of a directory into a checkpoint without changing the directory. */
import { join } from "node:path"
import { scratchFolder } from "../lib/files.ts"
import { step } from "../lib/steps.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { blobIdSchema, oidSchema, type Oid } from "../protocol/ids.ts"
import type { CodePart, NestedPart, NotTravelling, RepositoryPart } from "../protocol/manifest.ts"
import { readBase } from "./base.ts"
import { readCheckout } from "./checkout.ts"
import type { Captured, CaptureRequest, Repository } from "./code.ts"
import { foldedChain, isChainLong } from "./fold.ts"
import { git, gitResult, gitStream, resolveRef, type GitPlace } from "./git.ts"
import { captureLfs } from "./lfs.ts"
import { nestedRepositories } from "./nested.ts"
import { unsupportedState } from "./repository.ts"
import { apartFrom, factsOf, hasObjectsOf, writeSnapshot, type SnapshotFacts } from "./snapshot.ts"
import { noticesOf, whatStays, withoutCredentials } from "./staying.ts"

/** What a checkpoint says of a repository beside its trees. */
interface Surroundings {
  readonly objectFormat: CodePart["objectFormat"]
  readonly upstream: CodePart["upstream"]
  readonly originUrl: string | null
}

interface CapturedPart {
  readonly part: RepositoryPart
  readonly notTravelling: readonly NotTravelling[]
  readonly notices: readonly string[]
  readonly newBytes: number
}

/**
 * Captures everything a checkout can hold, nested repositories included, and puts what the store lacks into the sink, one pack for
 * each repository. The repositories get objects and nothing else; with `dryRun` not even those. Steps: `capture code`, `pack code`.
 * @throws {AppError} unsupported_state, git_missing, no_space, not_writable (a file that can't be read), busy (a commit in between)
 */
export async function captureCode(request: CaptureRequest): Promise<Captured> {
  const { repository, previous } = request
  const outer = await captureRepository(repository, previous, request)
  const { parts, stay } = await nestedRepositories(repository)
  const nested: NestedPart[] = []
  const below: CapturedPart[] = []
  for (const { path, module, repository: inner } of parts) {
    const before = previous?.nested.find((part) => part.path === path) ?? null
    const captured = await captureRepository(inner, before, request)
    nested.push({ ...captured.part, path, module })
    below.push({
      ...captured,
      notTravelling: captured.notTravelling.map((row) => ({ ...row, path: `${path}/${row.path}` })),
      notices: captured.notices.map((notice) => `${path}: ${notice}`),
    })
  }
  const all = [outer, ...below]
  return {
    code: { ...outer.part, nested },
    notTravelling: [...stay, ...all.flatMap(({ notTravelling }) => notTravelling)],
    notices: all.flatMap(({ notices }) => notices),
    newBytes: all.reduce((sum, { newBytes }) => sum + newBytes, 0),
  }
}

async function captureRepository(
  repository: Repository,
  before: RepositoryPart | null,
  request: CaptureRequest,
): Promise<CapturedPart> {
  await using scratch = await scratchFolder(request.scratch, "capture")
  const apart = await apartFrom(repository, join(scratch.path, "objects"))
  // Whether a thin pack is possible doesn't depend on what is captured: it is found out beside the capture.
  const [state, previous] = await Promise.all([
    step(
      request.steps,
      "capture code",
      async () => await readState(repository, before, { ...request, scratch: scratch.path }, apart),
    ),
    usablePrevious(repository, before, apart),
  ])
  const { checkout, surroundings } = state
  const [chain, lfs, notTravelling] = await Promise.all([
    step(request.steps, "pack code", async () => await packState(request, apart, state.facts, previous)),
    captureLfs({
      repository,
      place: apart,
      roots: [state.facts.head, checkout.indexTree, checkout.worktreeTree, ...checkout.carried].filter(
        (oid) => oid !== null,
      ),
      sink: request.sink,
      previous: before?.lfs ?? [],
      dryRun: request.dryRun === true,
    }),
    whatStays(repository, checkout, { allBranches: checkout.details.branches !== null }),
  ])
  const part: RepositoryPart = {
    ...surroundings,
    head: state.facts.head,
    rootCommit: oidSchema.nullable().parse((await repository.survey()).rootCommit),
    branch: repository.branch,
    indexTree: checkout.indexTree,
    worktreeTree: checkout.worktreeTree,
    stateTree: checkout.stateTree,
    heldBranches: [...checkout.heldBranches],
    carried: [...checkout.carried],
    lfs: [...lfs.objects],
    allBranches: checkout.details.branches !== null,
    snapshot: chain.snapshot,
    packs: [...chain.packs],
  }
  const newBytes = chain.newBytes + lfs.newBytes
  return { part, notTravelling, notices: noticesOf(checkout, lfs.missing), newBytes }
}

async function readState(
  repository: Repository,
  before: RepositoryPart | null,
  request: CaptureRequest,
  apart: GitPlace & { readonly objects: string },
) {
  const [refusal, surroundings, base] = await Promise.all([
    unsupportedState(repository),
    readSurroundings(repository),
    readBase(repository),
  ])
  if (refusal !== null) throw refusal
  const head = repository.head === null ? null : oidSchema.parse(repository.head)
  const keep = [base?.code.worktreeTree, before?.worktreeTree].filter((tree) => tree !== undefined)
  const objects = request.dryRun === true ? { objects: apart.objects } : {}
  const checkout = await readCheckout(repository, {
    scratch: request.scratch,
    keep,
    ...objects,
    allBranches: request.allBranches === true || base?.code.allBranches === true,
  })
  // HEAD and index are read one after the other: a commit in between would give a checkpoint of neither.
  if ((await resolveRef(repository, "HEAD^{commit}")) !== head) {
    throw new AppError("busy", `${repository.topLevel} got a new commit while it was read`, { hint: "try again" })
  }
  const facts: Omit<SnapshotFacts, "previous"> = {
    head,
    trackingOid: surroundings.upstream?.trackingOid ?? null,
    indexTree: checkout.indexTree,
    worktreeTree: checkout.worktreeTree,
    stateTree: checkout.stateTree,
    carried: checkout.carried,
  }
  return { checkout, surroundings, facts }
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
  readonly packs: RepositoryPart["packs"]
  readonly newBytes: number
}

async function packState(
  request: CaptureRequest,
  apart: GitPlace,
  facts: Omit<SnapshotFacts, "previous">,
  previous: RepositoryPart | null,
): Promise<Chain> {
  if (previous !== null && isSame(factsOf(previous), facts)) {
    return { snapshot: previous.snapshot, packs: previous.packs, newBytes: 0 }
  }
  const store = async (revisions: readonly string[]) => await storePack(request, apart, revisions)
  const isFolding = previous !== null && isChainLong(previous.packs, request.packSizes ?? new Map())
  const folded = isFolding ? await foldedChain(apart, previous, store) : null
  const before = folded ?? { packs: previous?.packs ?? [], snapshot: previous?.snapshot ?? null, newBytes: 0 }
  const snapshot = await writeSnapshot(apart, { ...facts, previous: before.snapshot })
  const stored = await store([snapshot, ...(before.snapshot === null ? [] : [`^${before.snapshot}`])])
  return {
    snapshot,
    packs: [...before.packs, { blob: stored.id, snapshot }],
    newBytes: before.newBytes + stored.storedSize,
  }
}

async function storePack(
  request: CaptureRequest,
  apart: GitPlace,
  revisions: readonly string[],
): Promise<Pick<BlobRef, "id" | "storedSize">> {
  const args = ["pack-objects", "--thin", "--revs", "--stdout", "--delta-base-offset", "--quiet"]
  const content = gitStream(apart, args, `${revisions.join("\n")}\n`)
  return request.dryRun === true ? await weigh(content) : await request.sink.put(content, { compress: false })
}

function isSame(left: Omit<SnapshotFacts, "previous">, right: Omit<SnapshotFacts, "previous">): boolean {
  return (
    left.head === right.head &&
    left.indexTree === right.indexTree &&
    left.worktreeTree === right.worktreeTree &&
    left.stateTree === right.stateTree &&
    left.trackingOid === right.trackingOid &&
    left.carried.join() === right.carried.join()
  )
}

/**
 * The previous checkpoint when a thin pack may build on it: all its objects are here and its snapshot commit, made again from the
 * manifest's facts, is the one the store has. Otherwise null, which means a full pack: never a failure.
 */
async function usablePrevious(
  repository: Repository,
  previous: RepositoryPart | null,
  apart: GitPlace,
): Promise<RepositoryPart | null> {
  if (previous === null) return null
  const facts = factsOf(previous)
  if (!(await isKeptHere(repository, previous)) && !(await hasObjectsOf(apart, facts))) return null
  const made = await writeSnapshot(apart, facts)
  if (made === previous.snapshot) return previous
  // A snapshot that can't be made again serves when it is still here as it was.
  const isHere = (await gitResult(apart, ["cat-file", "-e", previous.snapshot])).exitCode === 0
  return isHere ? previous : null
}

/** The checkpoint that this directory is at, with nothing but what HEAD and `refs/decamp/base` keep: git has not thrown it away. */
async function isKeptHere(repository: Repository, previous: RepositoryPart): Promise<boolean> {
  const base = await readBase(repository)
  const { snapshot, head, carried, upstream } = previous
  return base?.code.snapshot === snapshot && head === repository.head && carried.length === 0 && upstream === null
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

/**
 * Figures of `src/checkpoint` alone, in this process: one capture, and what the other side does with it, beside what git takes for the
 * same and what other tools take for the whole way. No daemon, no gateway: the blobs go through a folder.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { applyCode } from "../../src/checkpoint/apply.ts"
import { backupCode } from "../../src/checkpoint/backup.ts"
import { baseOf, readBase, recordBase } from "../../src/checkpoint/base.ts"
import { captureCode } from "../../src/checkpoint/capture.ts"
import { differences, isClean } from "../../src/checkpoint/compare.ts"
import { fetchCode } from "../../src/checkpoint/fetch.ts"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { verifyCode } from "../../src/checkpoint/verify.ts"
import type { StepListener } from "../../src/lib/steps.ts"
import type { CodePart } from "../../src/protocol/manifest.ts"
import { temporaryFolder } from "../support/checkout.ts"
import { fileBlobs, type FileBlobs } from "../support/file-blobs.ts"
import { git } from "./baseline.ts"
import { dirty, generateRepository } from "./generate-repository.ts"
import { timed } from "./measure.ts"
import { preparePeers, type Peer, type PeerName } from "./peers.ts"

/** Milliseconds and bytes of one round. */
export interface CheckpointRound {
  /** `git status --porcelain -uall` at the source, mean of before and after. */
  readonly statusMs: number
  readonly captureMs: number
  readonly packMs: number
  readonly packBytes: number
  /** Git's own thin pack of the same trees on top of the ones before. */
  readonly thinPackBytes: number
  readonly fetchMs: number
  readonly compareMs: number
  readonly writeMs: number
  readonly verifyMs: number
  /** From before the capture to after the verify. */
  readonly totalMs: number
  /** `git status` at the destination, and `git read-tree -m -u` of the same two work trees. */
  readonly targetStatusMs: number
  readonly readTreeMs: number
  readonly peers: Partial<Record<PeerName, number>>
}

export interface CheckpointFigures {
  readonly files: number
  readonly rounds: readonly CheckpointRound[]
  /** Why a peer has no figure. */
  readonly reasons: readonly string[]
}

interface Bench {
  readonly source: string
  readonly target: string
  /** A checkout that only ever gets `git read-tree -m -u`. */
  readonly plain: string
  readonly scratch: string
  readonly blobs: FileBlobs
}

/** The tools that take seconds run in this many rounds. */
const SLOW_ROUNDS = 2
const SLOW: ReadonlySet<PeerName> = new Set(["unison", "restic"])

/** Runs it all in a temporary folder. The first round, to an empty destination, is not among the figures. */
export async function benchCheckpoint(options: { readonly rounds: number }): Promise<CheckpointFigures> {
  await using folder = await temporaryFolder()
  const [source, target, plain, scratch] = ["source", "target", "plain", "scratch"].map((name) =>
    join(folder.path, name),
  )
  if (source === undefined || target === undefined || plain === undefined || scratch === undefined) throw new Error("?")
  for (const name of ["scratch", "blobs", "peers"]) await mkdir(join(folder.path, name))
  await generateRepository(source)
  const bench: Bench = { source, target, plain, scratch, blobs: fileBlobs(join(folder.path, "blobs")) }
  const { present, reasons } = await preparePeers(source, join(folder.path, "peers"))

  await dirty(source, 0)
  let code = (await captured(bench, null)).code
  await arrive(bench, code, "first")
  await git(folder.path, ["clone", "--quiet", "--no-checkout", source, plain])
  await bringPlain(bench, null, code)
  for (const peer of present) await peer.bring()

  const rounds: CheckpointRound[] = []
  for (let number = 1; number <= options.rounds; number += 1) {
    await dirty(source, number)
    const { round, next } = await oneRound(
      bench,
      code,
      present.filter(({ name }) => number <= SLOW_ROUNDS || !SLOW.has(name)),
    )
    rounds.push(round)
    code = next
  }
  return { files: (await git(source, ["ls-files"])).split("\n").length, rounds, reasons }
}

async function oneRound(
  bench: Bench,
  before: CodePart,
  peers: readonly Peer[],
): Promise<{ readonly round: CheckpointRound; readonly next: CodePart }> {
  const { source, target, plain } = bench
  const status = async (at: string): Promise<number> =>
    await timed(async () => await git(at, ["status", "--porcelain", "-uall"]))
  await status(source)
  const statusBefore = await status(source)
  await status(target)
  const targetStatusMs = await status(target)

  const startedAt = performance.now()
  const taken = await captured(bench, before)
  const arrived = await arrive(bench, taken.code, `round ${taken.code.packs.length}`)
  const totalMs = performance.now() - startedAt

  const statusMs = (statusBefore + (await status(source))) / 2
  const readTreeMs = await bringPlain(bench, before, taken.code)
  const times: Partial<Record<PeerName, number>> = {}
  for (const { name, bring } of peers) times[name] = await timed(bring)
  const thinPackBytes = await thinPackOf(plain, before, taken.code)
  const round = {
    statusMs,
    ...taken.figures,
    ...arrived,
    totalMs,
    targetStatusMs,
    readTreeMs,
    thinPackBytes,
    peers: times,
  }
  return { round, next: taken.code }
}

async function captured(bench: Bench, previous: CodePart | null) {
  const times = new Map<string, number>()
  const steps: StepListener = (event) => void (event.type === "end" && times.set(event.step, event.ms))
  const { scratch, blobs } = bench
  const startedAt = performance.now()
  const repository = await openRepository(bench.source)
  const { code, newBytes } = await captureCode({ repository, previous, sink: blobs.sink, scratch, steps })
  const allMs = performance.now() - startedAt
  const packMs = times.get("pack code") ?? 0
  // Opening the repository belongs to it, and all that lies between its two steps.
  return { code, figures: { captureMs: allMs - packMs, packMs, packBytes: newBytes } }
}

async function arrive(bench: Bench, code: CodePart, checkpoint: string) {
  const { target, scratch, blobs } = bench
  const common = { directory: target, code, source: blobs.source, scratch, steps: () => undefined }
  const isWarm = await Bun.file(join(target, ".git/HEAD")).exists()
  const fetchMs = isWarm ? await timed(async () => await fetchCode(common)) : 0
  const comparedAt = performance.now()
  if (isWarm) {
    const repository = await openRepository(target)
    const found = await differences(repository, await readBase(repository), scratch, code)
    if (!isClean(found)) throw new Error(`the destination has changed: ${JSON.stringify(found)}`)
  }
  const backup = await backupCode({ ...common, atMs: Date.now() })
  const compareMs = performance.now() - comparedAt
  const writeMs = await timed(async () => await applyCode({ ...common, backup }))
  const verifyMs = await timed(async () => await verifyCode(common))
  for (const directory of [bench.source, target]) {
    await recordBase(await openRepository(directory), baseOf(checkpoint, code))
  }
  return { fetchMs, compareMs, writeMs, verifyMs }
}

/** Brings the plain checkout to a work tree with git alone. Its objects come from the destination. */
async function bringPlain({ target, plain }: Bench, before: CodePart | null, code: CodePart): Promise<number> {
  await Bun.write(join(plain, ".git/objects/info/alternates"), `${join(target, ".git/objects")}\n`)
  const trees = before === null ? ["--reset", "-u"] : ["-m", "-u", before.worktreeTree]
  if (before !== null) await git(plain, ["status", "--porcelain"])
  return await timed(async () => await git(plain, ["read-tree", ...trees, code.worktreeTree]))
}

async function thinPackOf(repository: string, before: CodePart, code: CodePart): Promise<number> {
  const commit = async (tree: string, ...parents: string[]): Promise<string> =>
    await git(repository, ["commit-tree", tree, ...parents.flatMap((parent) => ["-p", parent]), "-m", "thin"])
  const old = await commit(before.worktreeTree, await commit(before.indexTree))
  const now = await commit(code.worktreeTree, old, await commit(code.indexTree))
  const script =
    'printf "%s\\n^%s\\n" "$0" "$1" | git pack-objects --thin --revs --stdout --delta-base-offset -q | wc -c'
  const child = Bun.spawn(["sh", "-c", script, now, old], { cwd: repository, stdout: "pipe", stderr: "inherit" })
  return Number(await new Response(child.stdout).text())
}

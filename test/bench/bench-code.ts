/** Figures of the code: 25,000 files, 3,000 commits, 5 of them changed, from the laptop to a box and back. */
import { mkdir, realpath, rm } from "node:fs/promises"
import { join } from "node:path"
import { run } from "../../src/lib/process.ts"
import { makeWorld } from "../support/world.ts"
import { bundleCode, git, unbundleCode } from "./baseline.ts"
import { dirty, generateRepository } from "./generate-repository.ts"
import { addDaemons, measured, sumOf, timed, type Measured, type Peaks } from "./measure.ts"

/** Milliseconds and bytes of one round. */
export interface CodeRound {
  /** Mean of `git status --porcelain -uall` just before and just after. */
  readonly statusMs: number
  readonly captureMs: number
  readonly packMs: number
  readonly pushMs: number
  readonly pushBytes: number
  /** On the box: the pack into the repository, through quarantine; write; verify. */
  readonly applyMs: number
  /** On the box, before that: download, and save what will be overwritten. The baseline does neither. */
  readonly saveMs: number
  readonly verifyMs: number
  readonly push: Measured
  readonly migrate: Measured
  readonly back: Measured
  readonly baseline: { readonly pushMs: number; readonly pushBytes: number; readonly applyMs: number } | null
}

export interface CodeFigures {
  readonly files: number
  readonly commits: number
  /** The first time, to an empty host. */
  readonly cold: CodeRound
  readonly rounds: readonly CodeRound[]
}

export interface CodeOptions {
  readonly quick: boolean
  readonly rounds: number
  /** Rounds go on until then, at least `rounds` of them. */
  readonly untilMs: number
}

/** Runs it all in a temporary folder. */
export async function benchCode(options: CodeOptions, peaks: Peaks): Promise<CodeFigures> {
  await using world = await makeWorld()
  // The world's git waits for tests; a user's does not.
  await rm(join(world.bin, "git"))
  const laptop = await world.machine("laptop")
  const root = await realpath(world.root)
  const ours = join(laptop.home, "src/repo")
  await generateRepository(ours)
  const theirs = options.quick ? null : join(root, "baseline/repo")
  if (theirs !== null) {
    await mkdir(join(root, "baseline"))
    await run(["cp", "-a", ours, theirs], { env: { PATH: process.env["PATH"] ?? "" } })
    await git(theirs, ["update-index", "-q", "--refresh"])
  }
  await measured(laptop, ["hosts", "add", "local", "box", "--root", join(root, "box")], laptop.home, peaks)
  const status = async (): Promise<number> =>
    await timed(async () => await git(ours, ["status", "--porcelain", "-uall"]))
  const decamp = async (...args: string[]): Promise<Measured> => await measured(laptop, args, ours, peaks)

  const oneRound = async (number: number): Promise<CodeRound> => {
    await dirty(ours, number)
    if (theirs !== null) await dirty(theirs, number)
    await status()
    const before = await status()
    const push = await decamp("push")
    const after = await status()
    const baseline = theirs === null ? null : await baselineRound(theirs, join(root, "baseline"))
    const migrate = await decamp("push", "--migrate")
    const back = await decamp("pull", "--migrate")
    return {
      statusMs: (before + after) / 2,
      captureMs: sumOf(push.timing, "capture code"),
      packMs: sumOf(push.timing, "pack code"),
      pushMs: push.ms,
      pushBytes: push.bytesSent,
      applyMs: sumOf(migrate.timing, "box: fetch code", "box: apply code", "box: verify code"),
      saveMs: sumOf(migrate.timing, "box: back up code", "box: receive"),
      verifyMs: sumOf(migrate.timing, "box: verify code"),
      push,
      migrate,
      back,
      baseline,
    }
  }

  const cold = await oneRound(0)
  const rounds: CodeRound[] = []
  for (let number = 1; number <= options.rounds || Date.now() < options.untilMs; number += 1) {
    rounds.push(await oneRound(number))
  }
  await addDaemons(peaks, root)
  const files = (await git(ours, ["ls-files"])).split("\n").length
  const commits = Number(await git(ours, ["rev-list", "--count", "HEAD"]))
  return { files, commits, cold, rounds }
}

async function baselineRound(repository: string, folder: string): Promise<NonNullable<CodeRound["baseline"]>> {
  const bundles = join(folder, "bundles")
  const startedAt = performance.now()
  const bundled = await bundleCode(repository, bundles)
  const pushMs = performance.now() - startedAt
  const applyMs = await timed(async () => await unbundleCode(join(folder, "target"), bundled))
  await rm(bundles, { recursive: true })
  return { pushMs, pushBytes: bundled.bytes, applyMs }
}

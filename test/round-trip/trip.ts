/** One round trip of a random workspace, in one process: every hop must be the identity and leave nothing behind. */
import { expect } from "bun:test"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import fc from "fast-check"
import { cleanlinessOf, damageByGit, filesOf, pictureOf, refsOutsideDecamp, tryGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type Journey, type World } from "../support/code-world.ts"
import { performAll, type Place } from "./commands.ts"
import { FIRST_FILES, plan, type Plan } from "./generate.ts"

export const START_S = 1_700_000_000
const INCLUDED = ["kept.log"]

/** Throws with a difference when anything is not as it was. */
export async function roundTrip(the: Plan): Promise<void> {
  await using world = await newWorld()
  const upstream = join(world.root, "upstream")
  const place = (name: string): Place => ({ top: join(world.root, name), upstream, name, clockS: START_S })
  const [laptop, a, b] = [place("laptop"), place("a"), place("b")]
  if (the.setting.some((command) => command.do === "nested" && command.kind === "submodule"))
    await makeUpstream(upstream)
  await settle(laptop, the)
  const journey = newJourney()
  const ignored = await ignoredFiles(laptop.top)
  await hop(world, journey, laptop, a, the)
  await performAll(a, the.onA)
  await hop(world, journey, a, b, the)
  await performAll(b, the.onB)
  await hop(world, journey, b, laptop, the)
  expect(await ignoredFiles(laptop.top)).toEqual(ignored)
  if (the.again === null) return
  await performAll(laptop, the.again)
  await hop(world, journey, laptop, a, the)
  await hop(world, journey, a, laptop, the)
}

export async function makeUpstream(top: string): Promise<void> {
  mkdirSync(top)
  const place: Place = { top, upstream: top, name: "upstream", clockS: START_S }
  writeFileSync(join(top, "inner.txt"), "inner\n")
  for (const args of [
    ["init", "-q", "-b", "inner"],
    ["add", "-A"],
    ["commit", "-qm", "inner"],
  ]) {
    await performAll(place, [{ do: "git", args }])
  }
}

/** The repository on the laptop before it leaves for the first time. */
export async function settle(laptop: Place, the: Plan): Promise<void> {
  mkdirSync(laptop.top)
  const git = async (...args: string[]): Promise<void> => await performAll(laptop, [{ do: "git", args }])
  await git("init", "-q", "-b", "main", `--object-format=${the.format}`)
  // In the first commit, so that no switch of branches changes what is ignored: that stays where it is, and comparing it says nothing.
  writeFileSync(join(laptop.top, ".gitignore"), "*.log\n")
  writeFileSync(join(laptop.top, ".worktreeinclude"), "kept.log\n")
  for (const path of FIRST_FILES) {
    await performAll(laptop, [{ do: "write", path, text: `${path}\n*10` }])
  }
  if (the.attributes !== null) writeFileSync(join(laptop.top, ".gitattributes"), the.attributes)
  if (!the.isUnborn) {
    await git("add", "-A")
    await git("commit", "-qm", "first")
  }
  for (const [at, commands] of the.history.entries()) {
    await performAll(laptop, commands)
    if (the.isUnborn) continue
    await git("add", "-A")
    await git("commit", "-qm", `commit ${at}`)
  }
  await performAll(laptop, the.setting)
  if (the.operation !== null) await performAll(laptop, [the.operation])
  await performAll(laptop, the.onLaptop)
}

async function hop(world: World, journey: Journey, from: Place, to: Place, the: Plan): Promise<void> {
  await forgetNotes(from.top, the)
  const refs = await refsOutsideDecamp(from.top)
  const before = await look(from.top)
  const damage = await damageByGit(from.top)
  await leave(world, journey, from.top)
  expect({ ...(await look(from.top)), refs: await refsOutsideDecamp(from.top) }).toEqual({ ...before, refs })
  expect(await cleanlinessOf(from.top, [world.scratch])).toEqual(damage)
  await arrive(world, journey, to.top)
  await forgetNotes(to.top, the)
  expect(await look(to.top)).toEqual(before)
  to.clockS = from.clockS
}

export async function look(top: string): Promise<Record<string, unknown>> {
  return await pictureOf(top, { travelling: true, included: INCLUDED })
}

/**
 * Where attributes convert contents, what git says of a file depends on what its index noted when it looked last: it calls one modified
 * whose size is another, and unmodified one whose times are the same. Without notes it looks at every file.
 */
export async function forgetNotes(top: string, the: Plan): Promise<void> {
  if (the.attributes === null) return
  const { stdout } = await tryGit(top, ["ls-files", "-s", "-v", "-z", "--debug"])
  const entries = stdout.toString("latin1").matchAll(/H (\d+ [0-9a-f]+) 0(\t[^\0]*\0)[^\0]*?flags: ([0-9a-f]+)\n/g)
  const lines = [...entries].filter(([, , , flags = ""]) => (Number.parseInt(flags, 16) & 0x20000000) === 0)
  const input = Buffer.from(lines.map(([, entry = "", path = ""]) => `${entry}${path}`).join(""), "latin1")
  await tryGit(top, ["update-index", "-z", "--index-info"], { input })
}

async function ignoredFiles(top: string): Promise<Record<string, string>> {
  const files = await filesOf(top)
  return Object.fromEntries(Object.entries(files).filter(([path]) => path === "ignored.log"))
}

export interface Trips {
  readonly seed: number
  readonly done: number
  readonly tookMs: number
  /** What to read when one failed: the smallest plan found, and why it fails. */
  readonly failure: string | null
}

export interface TripOptions {
  readonly seed: number
  readonly trips?: number
  readonly untilMs?: number
  /** Told the number of trips after each. */
  readonly progress?: (done: number) => void
}

/** Many round trips, two side by side; ends at the first that fails, with the smallest plan that still fails. */
export async function manyTrips({ seed, trips, untilMs, progress }: TripOptions): Promise<Trips> {
  const startedAtMs = performance.now()
  let done = 0
  const lane = async (at: number): Promise<string | null> => {
    const property = fc.asyncProperty(plan, async (the) => {
      await roundTrip(the)
      done += 1
      progress?.(done)
    })
    const numRuns = trips === undefined ? Number.MAX_SAFE_INTEGER : Math.ceil((trips - at) / 2)
    const limit = untilMs === undefined ? {} : { interruptAfterTimeLimit: untilMs }
    const details = await fc.check(property, { seed: seed + at, numRuns, ...limit })
    if (!details.failed || details.counterexample === null) return null
    const [smallest] = details.counterexample
    const why = details.errorInstance instanceof Error ? details.errorInstance.message : String(details.errorInstance)
    return `seed ${seed + at}, path ${details.counterexamplePath ?? ""}, the smallest plan that fails:\n${JSON.stringify(smallest)}\n${why}`
  }
  const failures = (await Promise.all([lane(0), lane(1)])).filter((failure) => failure !== null)
  const failure = failures.length === 0 ? null : failures.join("\n\n")
  return { seed, done, tookMs: performance.now() - startedAtMs, failure }
}

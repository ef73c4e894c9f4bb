/** Random workspaces through the compiled binary: to one host, home, to another and home again. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test"
import { join } from "node:path"
import fc from "fast-check"
import { performAll, type Place } from "../round-trip/commands.ts"
import { plan, type Plan } from "../round-trip/generate.ts"
import { forgetNotes, look, makeUpstream, settle, START_S } from "../round-trip/trip.ts"
import { cleanlinessOf, damageByGit, refsOutsideDecamp } from "../support/checkout.ts"
import { makeWorld, type Machine, type World } from "../support/world.ts"

setDefaultTimeout(600_000)

const TRIPS = Number(process.env["BINARY_TRIPS"] ?? 25)
const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000_000)

let world: World
let laptop: Machine

beforeAll(async () => {
  world = await makeWorld()
  laptop = await world.machine("laptop")
  for (const name of ["a", "b"]) {
    const added = await laptop.decamp(["hosts", "add", "local", name, "--root", join(world.root, name)])
    expect(added.json).toMatchObject({ result: "done" })
  }
  await makeUpstream(join(world.root, "upstream"))
})
afterAll(async () => await world[Symbol.asyncDispose](), 60_000)

async function decamp(args: readonly string[], cwd: string): Promise<void> {
  const { exitCode, json, stderr } = await laptop.decamp(args, { cwd })
  if (exitCode !== 0)
    throw new Error(`decamp ${args.join(" ")} ended with ${exitCode}: ${JSON.stringify(json)} ${stderr}`)
  expect(json.result).toBe("done")
}

/** One move, and the same picture at both ends. */
async function move(args: readonly string[], from: Place, to: Place, home: string, the: Plan): Promise<void> {
  await forgetNotes(from.top, the)
  const [before, refs] = [await look(from.top), await refsOutsideDecamp(from.top)]
  const damage = await damageByGit(to.top)
  await decamp(args, home)
  expect({ ...(await look(from.top)), refs: await refsOutsideDecamp(from.top) }).toEqual({ ...before, refs })
  await forgetNotes(to.top, the)
  expect(await look(to.top)).toEqual(before)
  expect(await cleanlinessOf(to.top)).toEqual(damage)
  to.clockS = from.clockS
}

async function trip(the: Plan, number: number): Promise<void> {
  const name = `trip-${number}`
  const place = (top: string, who: string): Place => ({
    top,
    upstream: join(world.root, "upstream"),
    name: who,
    clockS: START_S,
  })
  const home = place(join(laptop.home, "src", name), "laptop")
  const [a, b] = [place(join(world.root, "a/work", name), "a"), place(join(world.root, "b/work", name), "b")]
  await settle(home, the)
  await move(["push", "--migrate", "--to", "a"], home, a, home.top, the)
  await performAll(a, the.onA)
  await move(["pull", "--migrate"], a, home, home.top, the)
  await performAll(home, the.again ?? [])
  await move(["push", "--migrate", "--to", "b"], home, b, home.top, the)
  await performAll(b, the.onB)
  await move(["pull", "--migrate"], b, home, home.top, the)
}

test(`${TRIPS} random workspaces go to a host and home through the binary, and every move is the identity`, async () => {
  console.log(`seed ${SEED}`)
  const startedAtMs = performance.now()
  const plans = fc.sample(plan, { seed: SEED, numRuns: TRIPS })
  for (const [number, the] of plans.entries()) {
    try {
      await trip(the, number)
    } catch (error) {
      console.log(`trip ${number} of seed ${SEED} failed:\n${JSON.stringify(the)}`)
      throw error
    }
  }
  console.log(`${plans.length} trips in ${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`)
})

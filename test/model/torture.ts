/**
 * The long run of the hand-off checker: larger worlds first, each to its end or to a bound, then random walks until the time is
 * over. `bun test/model/torture.ts --minutes 10 --seed 1`; exit code 1 and the trace when an invariant breaks.
 */
import { parseArgs } from "node:util"
import { TORTURE_WORLDS } from "./configurations.ts"
import { explore } from "./explore.ts"
import { walk } from "./walk.ts"

const MS_PER_MINUTE = 60_000
/** About 2 GB. */
const MAX_STATES = 800_000
/** Share of the time for the worlds; what they leave goes to the walks. */
const WORLD_SHARE = 0.6

interface Broken {
  readonly what: string
  readonly trace: readonly string[]
}

function report(where: string, broken: Broken): void {
  console.log(`${where}: ${broken.what}`)
  for (const label of broken.trace) console.log(`  ${label}`)
}

function torture(minutes: number, seed: number): number {
  const startedAtMs = Date.now()
  const endsAtMs = startedAtMs + minutes * MS_PER_MINUTE
  let [violations, states, complete, walks, steps] = [0, 0, 0, 0, 0]
  for (const [index, world] of TORTURE_WORLDS.entries()) {
    const deadlineMs = startedAtMs + (minutes * MS_PER_MINUTE * WORLD_SHARE * (index + 1)) / TORTURE_WORLDS.length
    const result = explore(world, { maxStates: MAX_STATES, deadlineMs })
    states += result.states
    complete += result.isComplete ? 1 : 0
    const end = result.isComplete ? "complete" : "cut"
    console.log(`${world.name}: ${result.states} states, ${result.steps} steps, depth ${result.depth}, ${end}`)
    if (result.broken === null) continue
    violations += 1
    report(world.name, result.broken)
  }
  for (let next = seed; Date.now() < endsAtMs; next += 1) {
    const { broken, steps: walked } = walk(next)
    walks += 1
    steps += walked
    if (broken === null) continue
    violations += 1
    report(`walk with seed ${next}`, broken)
  }
  const worlds = `${states} states in ${TORTURE_WORLDS.length} worlds (${complete} complete)`
  console.log(`torture: seed ${seed}, ${worlds}, ${walks} walks of ${steps} steps, ${violations} violations`)
  return violations === 0 ? 0 : 1
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { minutes: { type: "string" }, seed: { type: "string" } } })
  process.exitCode = torture(Number(values.minutes ?? "5"), Number(values.seed ?? "1"))
}

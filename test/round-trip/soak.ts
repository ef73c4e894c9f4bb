/** `npm run soak -- --minutes N | --trips N [--seed S]`: random round trips until the time, or the number, is reached, or one fails. */
import { parseArgs } from "node:util"
import { manyTrips } from "./trip.ts"

const { values } = parseArgs({
  options: { minutes: { type: "string" }, trips: { type: "string" }, seed: { type: "string" } },
})

function numberOf(name: "minutes" | "trips" | "seed"): number | undefined {
  const text = values[name]
  if (text === undefined) return undefined
  const number = Number(text)
  if (Number.isFinite(number) && number > 0) return number
  process.stderr.write(`--${name} takes a number, not ${text}\n`)
  process.exit(2)
}

const seed = numberOf("seed") ?? Date.now() % 1_000_000_000
const [minutes, trips] = [numberOf("minutes"), numberOf("trips")]
const limit = trips === undefined ? { untilMs: (minutes ?? 1) * 60_000 } : { trips }
process.stdout.write(`seed ${seed}\n`)
const startedAtMs = performance.now()
const progress = (done: number): void => {
  if (done % 50 === 0) process.stdout.write(`${done} round trips in ${seconds()} s\n`)
}
const result = await manyTrips({ seed, ...limit, progress })
process.stdout.write(
  `${result.done} round trips in ${seconds()} s, ${(result.tookMs / Math.max(1, result.done)).toFixed(0)} ms each, seed ${seed}\n`,
)
if (result.failure !== null) process.stdout.write(`FAILED\n${result.failure}\n`)
process.exitCode = result.failure === null && result.done > 0 ? 0 : 1

function seconds(): string {
  return ((performance.now() - startedAtMs) / 1000).toFixed(1)
}

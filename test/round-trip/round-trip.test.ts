import { expect, test } from "bun:test"
import { manyTrips } from "./trip.ts"

const TRIPS = Number(process.env["ROUND_TRIPS"] ?? 40)
/** Always the same here; `npm run soak` looks for more. */
const SEED = Number(process.env["SEED"] ?? 407_133_431)

test(
  `${TRIPS} random workspaces go from the laptop to A, to B and home, and every hop is the identity`,
  async () => {
    const { done, tookMs, failure } = await manyTrips({ seed: SEED, trips: TRIPS })
    console.log(
      `${done} round trips in ${(tookMs / 1000).toFixed(1)} s, ${(tookMs / done).toFixed(0)} ms each, seed ${SEED}`,
    )
    if (failure !== null) console.log(failure)
    expect(failure).toBeNull()
    expect(done).toBe(TRIPS)
  },
  60_000 + TRIPS * 10_000,
)

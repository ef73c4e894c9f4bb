/** Addresses that expire: asked for once, and again when somebody finds that they have. */
import { toAppError } from "../protocol/errors.ts"

export interface Renewable<T> {
  now(): Promise<T>
  /** Runs the work with what is known now, and with what is asked for anew when it fails because that has expired. */
  using<R>(work: (value: T) => Promise<R>): Promise<R>
}

/** New ones that are refused too are no question of time, unless they were good for a while. */
const RENEWALS = 2
const GOOD_MS = 60_000

export function renewable<T>(ask: () => Promise<T>): Renewable<T> {
  let known: Promise<T> | null = null
  return {
    now: async () => await (known ??= ask()),
    async using(work) {
      for (let renewals = 0; ; renewals += 1) {
        const mine = (known ??= ask())
        const sinceMs = performance.now()
        try {
          return await work(await mine)
        } catch (error) {
          // Of several that find it at the same time the first asks for all.
          if (known === mine) known = null
          if (performance.now() - sinceMs > GOOD_MS) renewals = 0
          if (toAppError(error).code !== "expired" || renewals === RENEWALS) throw error
        }
      }
    },
  }
}

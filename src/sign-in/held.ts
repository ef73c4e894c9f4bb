/** A lock between processes that is waited for. */
import { tryFlock } from "../lib/flock.ts"
import { AppError } from "../protocol/errors.ts"

const LIMIT_MS = 40_000
const POLL_MS = 20

/** Holds the lock until it is disposed of, or this process ends. @throws {AppError} busy after 40 s */
export async function held(path: string): Promise<Disposable> {
  const endAtMs = Date.now() + LIMIT_MS
  for (;;) {
    const lock = tryFlock(path)
    if (lock !== null) return { [Symbol.dispose]: () => lock.release() }
    if (Date.now() > endAtMs) throw new AppError("busy", `${path} is locked by another process`)
    await Bun.sleep(POLL_MS)
  }
}

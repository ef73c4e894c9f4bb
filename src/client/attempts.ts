/** Trying again what may succeed then. */
import { AppError, isRetryable, toAppError } from "../protocol/errors.ts"

/** For a line that was lost, about a minute since bytes moved on; for a failure of the other side. */
const TRIES = { cut: 40, failed: 3 } as const
const FIRST_PAUSE_MS = 250
/** A line that comes back is not kept waiting for longer. */
const MAX_PAUSE_MS = 2000

export interface Attempt {
  /** A line was lost in one of the attempts before. */
  readonly wasCut: boolean
  /** Said by the work: so many bytes need not move any more. When that are more than ever before, the tries begin anew. */
  startsAt(offset: number): void
}

/**
 * Tries again, after a growing pause, what may succeed then: no connection or a cut one for about a minute since bytes moved on, a
 * failure of the other side a few times.
 * @throws {AppError} the last failure; interrupted
 */
export async function retrying<T>(signal: AbortSignal | undefined, work: (attempt: Attempt) => Promise<T>): Promise<T> {
  let wasCut = false
  let furthest = 0
  let tries = 0
  const startsAt = (offset: number): void => {
    if (offset <= furthest) return
    furthest = offset
    tries = 1
  }
  for (;;) {
    tries += 1
    try {
      return await work({ wasCut, startsAt })
    } catch (error) {
      const failure = toAppError(error)
      const isCut = failure.code === "unreachable" && failure.details?.["status"] === undefined
      wasCut ||= isCut || failure.code === "wrong_offset"
      const mayHelp = failure.code === "internal" || (isRetryable(failure.code) && failure.code !== "expired")
      if (tries >= (isCut ? TRIES.cut : TRIES.failed) || !mayHelp || signal?.aborted === true) throw failure
      await pause(Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1)), signal)
    }
  }
}

/** @throws {AppError} interrupted */
async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const interrupt = (): void => {
      clearTimeout(timer)
      reject(new AppError("interrupted", "a transfer was interrupted"))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", interrupt)
      resolve()
    }, ms)
    signal?.addEventListener("abort", interrupt, { once: true })
  })
}

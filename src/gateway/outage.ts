/** What a lost line to a host means for who waits: it may come back, so it is tried again, said each time, and not for ever. */
import { AppError, toAppError } from "../protocol/errors.ts"
import type { KnownHost } from "./known-hosts.ts"

/** Before each next try, seconds. */
const PAUSES_S = [1, 2, 4, 8, 15, 30, 30, 30] as const
const LOOK_MS = 100

/** The line was lost, or can't be made; the host itself may well go on. */
export function isOutage(failure: AppError): boolean {
  return failure.code === "unreachable" && failure.details?.["mayReturn"] === true
}

/** A failure of a request to a host over SSH in words about its line; every other failure as it is. */
export function overLine(host: Pick<KnownHost, "kind" | "name" | "root">, error: unknown): AppError {
  const failure = toAppError(error)
  if (host.kind !== "ssh" || failure.code !== "unreachable" || failure.details !== undefined) return failure
  return new AppError("unreachable", `the line to ${host.name} was lost (${failure.message})`, {
    cause: failure,
    hint: `is it awake and online? try by hand: ssh ${host.root}`,
    details: { mayReturn: true },
  })
}

export interface Patience {
  /**
   * Waits before the next try. False: there have been enough of them, or nobody wants it any more.
   * @param tell gets one line that says what is waited for
   */
  pause(failure: AppError, note: string, tell: (line: string) => void, isWanted: () => boolean): Promise<boolean>
  /** Something went forward: the tries are counted anew. */
  reset(): void
}

export function patience(): Patience {
  let tries = 0
  return {
    async pause(failure, note, tell, isWanted) {
      const seconds = PAUSES_S[tries]
      if (seconds === undefined) return false
      tries += 1
      tell(`${failure.message}: trying again in ${seconds} s (${tries} of ${PAUSES_S.length}${note})`)
      for (const until = performance.now() + seconds * 1000; performance.now() < until;) {
        if (!isWanted()) return false
        await Bun.sleep(LOOK_MS)
      }
      return isWanted()
    },
    reset: () => void (tries = 0),
  }
}

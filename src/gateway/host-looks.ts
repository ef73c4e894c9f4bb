/** `decamp hosts`: every host asked at once for what it says of itself; one that is slow or away keeps nobody waiting. */
import { AppError, toAppError } from "../protocol/errors.ts"
import { LOOK_MS, type HostLook, type HostState } from "../protocol/host-state.ts"
import type { TenantId } from "../protocol/ids.ts"
import type { HostParts, KnownHost, Reached } from "./known-hosts.ts"
import { infoOf, reach, shownHosts } from "./reach-host.ts"

interface Seen {
  readonly reached: Reached
  readonly state: HostState | null
}

export async function looks(parts: HostParts, tenant: TenantId, only?: string): Promise<HostLook[]> {
  const { hosts, ownedBy } = await shownHosts(parts, tenant, only)
  // Who waits for one that was just made, waits for its agents to start the first time.
  const limitMs = only === undefined ? LOOK_MS : ONE_MS
  return await Promise.all(
    hosts.map(async (host) => {
      const seen = host.kind === "laptop" ? null : await seenWithin(parts, host, limitMs)
      const isSeen = seen !== null && !(seen instanceof AppError)
      return {
        ...infoOf(host, isSeen ? seen.reached : seen, ownedBy),
        state: isSeen ? seen.state : null,
        answeredAtMs: isSeen ? seen.reached.host.answeredAtMs : host.answeredAtMs,
      }
    }),
  )
}

const ONE_MS = 20_000

/** What was begun goes on: the line that it makes is there for the next command. */
async function seenWithin(parts: HostParts, host: KnownHost, limitMs: number): Promise<Seen | AppError> {
  const late = Promise.withResolvers<AppError>()
  const timer = setTimeout(() => late.resolve(slow(host, limitMs)), limitMs)
  try {
    return await Promise.race([seen(parts, host, limitMs), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

async function seen(parts: HostParts, host: KnownHost, limitMs: number): Promise<Seen | AppError> {
  try {
    const reached = await reach(parts, host)
    // It is there all the same when it can't say how it is.
    return { reached, state: await reached.client.state(limitMs).catch(() => null) }
  } catch (error) {
    return toAppError(error)
  }
}

function slow(host: KnownHost, limitMs: number): AppError {
  const before = host.problem === null ? "" : ` (the last time: ${host.problem})`
  return new AppError("unreachable", `${host.name} did not answer within ${limitMs / 1000} s${before}`)
}

/**
 * Lines to hosts over SSH that own a workspace are made anew when they are lost, although nobody types a command: what goes on there
 * (autosync) needs its gateway. A refusal that only a person can mend is not tried again and again: their key may ask to be touched.
 */
import { toAppError } from "../protocol/errors.ts"
import type { HostId } from "../protocol/ids.ts"
import type { Hosts } from "./hosts.ts"
import { hostOf, type HostParts, type KnownHost } from "./known-hosts.ts"

const LOOK_EVERY_MS = 5000
/** The first pause after a failure; each next one is twice as long. */
const FIRST_PAUSE_MS = 5000
const LONGEST_PAUSE_MS = 5 * 60_000
/** The clock went on so far between two looks: this machine has slept, and its lines may be dead without a word. */
const SLEPT_MS = 30_000

export interface LineWatch {
  stop(): void
}

export interface LineWatchParts extends Pick<HostParts, "db" | "nowMs"> {
  readonly hosts: Pick<Hosts, "reach" | "lineOf">
  readonly log: (message: string, facts?: Readonly<Record<string, unknown>>) => void
}

interface Pause {
  readonly failures: number
  readonly untilMs: number
}

/** One look after the other, until it is stopped; a line that is being made then is nobody's to wait for. */
export function keepLines(parts: LineWatchParts): LineWatch {
  const round = lineRounds(parts)
  let isLooking = false
  const timer = setInterval(() => {
    if (isLooking) return
    isLooking = true
    void round()
      .catch((error: unknown) => parts.log("lines could not be looked at", { message: toAppError(error).message }))
      .finally(() => (isLooking = false))
  }, LOOK_EVERY_MS)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}

/** The look itself. It remembers failures from one to the next. */
export function lineRounds(parts: LineWatchParts): () => Promise<void> {
  const pauses = new Map<HostId, Pause>()
  let lastMs = parts.nowMs()
  return async () => {
    const nowMs = parts.nowMs()
    const hasSlept = nowMs - lastMs > SLEPT_MS
    lastMs = nowMs
    if (hasSlept) pauses.clear()
    const owners = await ownersOverSsh(parts)
    for (const known of pauses.keys()) if (!owners.some(({ host }) => host === known)) pauses.delete(known)
    await Promise.all(owners.map(async (host) => await look(parts, pauses, host, hasSlept)))
    // What it took is no sleep.
    lastMs = Math.max(lastMs, parts.nowMs() - LOOK_EVERY_MS)
  }
}

async function look(parts: LineWatchParts, pauses: Map<HostId, Pause>, host: KnownHost, isSuspect: boolean) {
  const state = parts.hosts.lineOf(host)?.state ?? "down"
  if (state === "connecting" || (state === "up" && !isSuspect)) {
    if (state === "up") pauses.delete(host.host)
    return
  }
  const pause = pauses.get(host.host)
  if (pause !== undefined && parts.nowMs() < pause.untilMs) return
  try {
    await parts.hosts.reach(host)
    pauses.delete(host.host)
    parts.log("a line was made anew", { host: host.name })
  } catch (error) {
    const { code, message } = toAppError(error)
    const failures = pause?.failures ?? 0
    const pauseMs = code === "unreachable" ? FIRST_PAUSE_MS * 2 ** failures : LONGEST_PAUSE_MS
    pauses.set(host.host, {
      failures: failures + 1,
      untilMs: parts.nowMs() + Math.min(pauseMs, LONGEST_PAUSE_MS),
    })
    if (failures === 0) parts.log("a line can't be made", { host: host.name, code, message })
  }
}

/** Of every tenant, in one query. */
async function ownersOverSsh({ db }: Pick<LineWatchParts, "db">): Promise<KnownHost[]> {
  const rows = await db
    .selectFrom("hosts")
    .selectAll()
    .where("kind", "=", "ssh")
    .where("removed", "=", 0)
    .where((where) =>
      where.exists(
        where
          .selectFrom("workspaces")
          .select("workspaces.id")
          .whereRef("workspaces.tenant", "=", "hosts.tenant")
          .whereRef("workspaces.owner_host", "=", "hosts.id"),
      ),
    )
    .execute()
  return rows.map(hostOf)
}

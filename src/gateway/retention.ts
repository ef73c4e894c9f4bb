/** Which checkpoints of a workspace stay. */
import type { CheckpointId } from "../protocol/ids.ts"

export interface Retention {
  /** So many of the newest stay, whatever their age. */
  readonly keepLast: number
  /** All younger than so many days stay. */
  readonly keepDays: number
}

/** All of a month, and twenty of a workspace that is touched rarely. */
export const DEFAULT_RETENTION: Retention = { keepLast: 20, keepDays: 30 }

export interface Candidate {
  readonly id: CheckpointId
  readonly createdAtMs: number
  readonly isPinned: boolean
}

const DAY_MS = 24 * 3_600_000

/** @param inUse those that something points at: they stay */
export function keptCheckpoints(
  candidates: readonly Candidate[],
  inUse: ReadonlySet<string>,
  { keepLast, keepDays }: Retention,
  nowMs: number,
): Set<CheckpointId> {
  const newestFirst = candidates.toSorted((one, other) => other.createdAtMs - one.createdAtMs)
  const kept = newestFirst.filter(
    ({ id, createdAtMs, isPinned }, at) =>
      at < keepLast || isPinned || inUse.has(id) || createdAtMs > nowMs - keepDays * DAY_MS,
  )
  return new Set(kept.map(({ id }) => id))
}

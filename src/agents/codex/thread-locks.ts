/** Codex's own lock of a session: flock on `thread-writer-locks/<id>.lock`, taken by whatever process has it open (0.169.0). */
import { join } from "node:path"
import { privateFolder } from "../../lib/files.ts"
import { isFlocked, tryFlock, type Flock } from "../../lib/flock.ts"
import type { CodexPlaces } from "./places.ts"

/** The locks that this process holds, for as long as it lives. */
export interface ThreadLocks {
  /** Whether another process has the session open. */
  isElsewhere(places: CodexPlaces, id: string): boolean
  isHeld(places: CodexPlaces, id: string): boolean
  /** Takes the lock, or has it already. False: another process has it. */
  hold(places: CodexPlaces, id: string): Promise<boolean>
  release(places: CodexPlaces, id: string): void
}

export function threadLocks(): ThreadLocks {
  const held = new Map<string, Flock>()
  const fileOf = (places: CodexPlaces, id: string): string => join(places.home, "thread-writer-locks", `${id}.lock`)
  return {
    isElsewhere: (places, id) => !held.has(fileOf(places, id)) && isFlocked(fileOf(places, id)),
    isHeld: (places, id) => held.has(fileOf(places, id)),
    async hold(places, id) {
      const file = fileOf(places, id)
      if (held.has(file)) return true
      await privateFolder(join(places.home, "thread-writer-locks"))
      const lock = tryFlock(file)
      if (lock === null) return false
      held.set(file, lock)
      return true
    },
    release(places, id) {
      const file = fileOf(places, id)
      held.get(file)?.release()
      held.delete(file)
    },
  }
}

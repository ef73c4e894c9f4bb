/** opencode's fence: triggers in its own store (fence-triggers.ts), set in one transaction with the check that no turn runs. */
import { existsSync } from "node:fs"
import type { FencedSession, Fencer, FenceReport, FenceRequest, FenceStrength } from "../agent.ts"
import { fenceKey, forgetFence, placeMarks, readJournal, recordFence, removeMarks } from "./fence-journal.ts"
import {
  dropTriggers,
  heldSessions,
  isSessionId,
  proveFence,
  setFence,
  standingFences,
  type StandingFence,
} from "./fence-triggers.ts"
import { readScope } from "./listing.ts"
import { placesOf } from "./places.ts"
import { activityOf, driversOf, type Activity } from "./processes.ts"
import { readSessions, stampOf, type StoredSession } from "./store.ts"
import { FENCED_SCHEMAS } from "./versions.ts"
import { openForWriting, writeTransaction } from "./writing.ts"

/** Fences opencode's sessions. */
export function opencodeFencer(): Fencer {
  return { foresee, fence, fenced, lift }
}

interface Look {
  readonly sessions: readonly StoredSession[]
  readonly fences: readonly StandingFence[]
  readonly stamp: string
}

async function look(request: FenceRequest): Promise<Look> {
  return await readScope<Look>(request.scope, { sessions: [], fences: [], stamp: "" }, (db, sessions) => ({
    sessions,
    fences: standingFences(db),
    stamp: stampOf(db),
  }))
}

async function foresee(request: FenceRequest): Promise<readonly FencedSession[]> {
  const { sessions, stamp } = await look(request)
  return sessions.map(({ id }) => judged(id, stamp, true))
}

async function fenced(request: FenceRequest): Promise<ReadonlyMap<string, FenceStrength>> {
  const { sessions, fences, stamp } = await look(request)
  const held = heldSessions(fences)
  const inForce = sessions.filter(({ id }) => held.has(id))
  return new Map(inForce.map(({ id }) => [id, judged(id, stamp, true).strength]))
}

async function fence(request: FenceRequest): Promise<FenceReport> {
  const { database } = placesOf(request.scope.env)
  const seen = await look(request)
  if (database === null || seen.sessions.length === 0) return { sessions: [], running: [] }
  const ids = seen.sessions.map(({ id }) => id).filter(isSessionId)
  const journal = await readJournal(request)
  const isSaid = request.words === "" || journal?.words === request.words
  const held = heldSessions(seen.fences)
  const key = await recordFence(request, database, ids)
  let running: readonly string[] = []
  if (!isSaid || ids.some((id) => !held.has(id))) {
    running = setOnIdle(database, { key, words: request.words }, seen.sessions, await activityOf(request.scope))
  }
  const isRunning = new Set(running)
  const fencedIds = ids.filter((id) => !isRunning.has(id))
  await placeMarks(request, fencedIds, !isSaid)
  return {
    sessions: seen.sessions
      .filter(({ id }) => !isRunning.has(id))
      .map(({ id }) => judged(id, seen.stamp, isSessionId(id))),
    running,
  }
}

/** How far the triggers can be relied on. */
function judged(id: string, stamp: string, isHeld: boolean): FencedSession {
  if (!isHeld || !isSessionId(id)) return { id, strength: "none", reason: "its id is not one of opencode's" }
  if (FENCED_SCHEMAS.has(stamp)) return { id, strength: "enforced" }
  const schema = stamp === "" ? "no schema stamp" : `the schema ${stamp}`
  return {
    id,
    strength: "advisory",
    reason: `opencode's store has ${schema}, with which no fence was tested; update decamp, or close opencode`,
  }
}

/**
 * The transaction: sessions as they are now, the fence on those that are in no turn, and the proof. `seen` and `activity` are from just
 * before: where a session has changed since, somebody is at work in it.
 * @returns sessions in a turn, with their parents and children
 */
function setOnIdle(
  database: string,
  fence: { readonly key: string; readonly words: string },
  seen: readonly StoredSession[],
  activity: Activity,
): readonly string[] {
  const before = new Map(seen.map((session) => [session.id, paceOf(session)]))
  const db = openForWriting(database)
  let running: readonly string[] = []
  try {
    writeTransaction(db, (check) => {
      const now = readSessions(
        db,
        seen.map(({ id }) => id),
      )
      const inTurn = now.filter(
        (session) =>
          session.isUnfinished &&
          (driversOf(activity, session).length > 0 || before.get(session.id) !== paceOf(session)),
      )
      running = familiesOf(now, inTurn)
      const isRunning = new Set(running)
      const standing = standingFences(db).find((each) => each.key === fence.key)
      // What stands on a session in a turn was set before the turn: it is left as it is.
      const ids = now.map(({ id }) => id).filter((id) => !isRunning.has(id) || standing?.named.has(id) === true)
      const words = fence.words === "" ? (standing?.words ?? "") : fence.words
      setFence(db, { key: fence.key, ids, words })
      check()
      proveFence(db, ids.filter(isSessionId))
    })
  } finally {
    db.close()
  }
  return running
}

/** What changes in a session when somebody goes on with it. */
function paceOf({ updatedAtMs, newestMessageAtMs, isUnfinished }: StoredSession): string {
  return [updatedAtMs, newestMessageAtMs, isUnfinished].join(" ")
}

/** Ids of some sessions with all that have a parent or child of theirs in common: a turn of one may go on in the others. */
function familiesOf(all: readonly StoredSession[], some: readonly StoredSession[]): readonly string[] {
  const byId = new Map(all.map((session) => [session.id, session]))
  const rootOf = (session: StoredSession): string => {
    let at = session
    for (let steps = 0; steps < all.length; steps += 1) {
      const parent = at.parentId === null ? undefined : byId.get(at.parentId)
      if (parent === undefined) break
      at = parent
    }
    return at.id
  }
  const roots = new Set(some.map(rootOf))
  return all.filter((session) => roots.has(rootOf(session))).map(({ id }) => id)
}

async function lift(request: FenceRequest): Promise<readonly string[]> {
  const journal = await readJournal(request)
  const { database } = placesOf(request.scope.env)
  const seen = await look(request)
  const ids = new Set([...(journal?.ids ?? []), ...seen.sessions.map(({ id }) => id)])
  const keys = new Set([fenceKey(request), ...(journal === null ? [] : [journal.key])])
  for (const file of new Set([...(journal?.databases ?? []), ...(database === null ? [] : [database])])) {
    if (existsSync(file)) liftFrom(file, keys, ids)
  }
  await removeMarks(request, [...ids])
  await forgetFence(request)
  return []
}

/** Takes the workspace's triggers out of one store, and its sessions out of those that were set under another key. */
function liftFrom(database: string, keys: ReadonlySet<string>, ids: ReadonlySet<string>): void {
  const db = openForWriting(database)
  try {
    const isOurs = (fence: StandingFence): boolean => keys.has(fence.key) || [...fence.named].some((id) => ids.has(id))
    if (!standingFences(db).some(isOurs)) return
    writeTransaction(db, () => {
      for (const each of standingFences(db).filter(isOurs)) {
        dropTriggers(db, each)
        if (!keys.has(each.key)) setFence(db, { ...each, ids: [...each.named].filter((id) => !ids.has(id)) })
      }
    })
  } finally {
    db.close()
  }
}

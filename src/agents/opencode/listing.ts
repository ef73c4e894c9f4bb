/** The sessions of a directory and what they are doing now. */
import type { Database } from "bun:sqlite"
import type { AgentScope, AgentSession, SessionState } from "../agent.ts"
import { digestOf } from "./chunks.ts"
import type { DigestMemory } from "./digest-memory.ts"
import { placesOf } from "./places.ts"
import { activityOf, driversOf } from "./processes.ts"
import { layoutOf, openForReading, providerOf, readSessions, sessionsOfScope, type StoredSession } from "./store.ts"

/** Reads the scope's sessions in one transaction. */
export async function readScope<T>(
  scope: AgentScope,
  empty: T,
  read: (db: Database, sessions: readonly StoredSession[], aliases: readonly string[]) => T,
): Promise<T> {
  const db = openForReading(placesOf(scope.env).database)
  if (db === null) return empty
  try {
    db.run("BEGIN")
    const { sessions, aliases } = await sessionsOfScope(db, scope)
    return read(db, sessions, aliases)
  } finally {
    db.close()
  }
}

/** All sessions of the scope with what they are doing, newest first. */
export async function listSessions(scope: AgentScope): Promise<readonly AgentSession[]> {
  const stored = await readScope<readonly StoredSession[]>(scope, [], (_db, sessions) => sessions)
  if (stored.length === 0) return []
  const activity = await activityOf(scope)
  const open = activity.here.map(({ pid }) => pid)
  return stored.map((session) => {
    const drivers = driversOf(activity, session).map(({ pid }) => pid)
    const state = stateOf(session, drivers.length, open.length)
    return {
      id: session.id,
      parentId: session.parentId,
      title: session.archivedAtMs === null ? session.title : `${session.title} (archived)`,
      state,
      pids: state === "running" ? drivers : state === "open" ? open : [],
      createdAtMs: session.createdAtMs,
      updatedAtMs: session.updatedAtMs,
      newestMessageAtMs: session.newestMessageAtMs,
      provider: providerOf(session.model),
    }
  })
}

function stateOf(session: StoredSession, drivers: number, open: number): SessionState {
  if (session.isUnfinished) return drivers > 0 ? "running" : "interrupted"
  return open > 0 ? "open" : "idle"
}

/** Digest of each named session as it is in the store now, wherever its directory is. */
export async function digestsOf(
  scope: AgentScope,
  ids: readonly string[],
  memory: DigestMemory,
): Promise<ReadonlyMap<string, string>> {
  const wanted = new Set(ids)
  return await readScope(scope, new Map<string, string>(), (db, _sessions, aliases) => {
    const layout = layoutOf(db)
    const directories = [scope.topLevel, ...aliases]
    const { toolOutput } = placesOf(scope.env)
    const mine = readSessions(db, ids).filter(({ id }) => wanted.has(id))
    return new Map(
      mine.map((each) => {
        const binding = { directories, projectId: each.projectId, toolOutput }
        const remembered = memory.recall(db, layout, each, binding)
        if (remembered !== null) return [each.id, remembered]
        const digest = digestOf(db, layout, each, binding)
        memory.remember(db, layout, each, binding, digest)
        return [each.id, digest]
      }),
    )
  })
}

/** Sessions of the scope whose last turn has no end. */
export async function unfinishedSessions(scope: AgentScope): Promise<readonly StoredSession[]> {
  return await readScope<readonly StoredSession[]>(scope, [], (_db, sessions) =>
    sessions.filter((each) => each.isUnfinished),
  )
}

/** What `decamp sessions import-clank` brought: a table of its own in host.db. */
import type { Database } from "bun:sqlite"
import { clankSessionSchema, type ClankSession } from "../../protocol/clank.ts"
import { AppError } from "../../protocol/errors.ts"

export interface ClankSessions {
  /** Newest first. @throws {AppError} damaged_data */
  list(): ClankSession[]
  /**
   * In one transaction. A row that is known already is replaced only by a newer one: lists of two machines may both have it.
   * @returns how many were new, how many replaced what was known
   */
  save(sessions: readonly ClankSession[]): { readonly added: number; readonly updated: number }
}

/** Makes the table when it is not there yet. */
export function clankSessionsOf(database: Database): ClankSessions {
  database.run(
    "CREATE TABLE IF NOT EXISTS clank_session (id TEXT PRIMARY KEY NOT NULL, updated_at_ms INTEGER NOT NULL, json TEXT NOT NULL)",
  )
  const all = database.query<{ json: string }, []>("SELECT json FROM clank_session ORDER BY updated_at_ms DESC, id")
  const one = database.query<{ json: string; updated_at_ms: number }, [string]>(
    "SELECT json, updated_at_ms FROM clank_session WHERE id = ?",
  )
  const write = database.query<null, [string, number, string]>(
    `INSERT INTO clank_session (id, updated_at_ms, json) VALUES (?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET updated_at_ms = excluded.updated_at_ms, json = excluded.json`,
  )
  return {
    list: () => all.all().map(({ json }) => parsed(json)),
    save: database.transaction((sessions: readonly ClankSession[]) => {
      let [added, updated] = [0, 0]
      for (const session of sessions) {
        const known = one.get(session.id)
        const json = JSON.stringify(session)
        const updatedAtMs = session.updatedAtMs ?? 0
        if (known !== null && (known.json === json || known.updated_at_ms > updatedAtMs)) continue
        write.run(session.id, updatedAtMs, json)
        if (known === null) added++
        else updated++
      }
      return { added, updated }
    }),
  }
}

function parsed(json: string): ClankSession {
  const result = clankSessionSchema.safeParse(JSON.parse(json))
  if (!result.success) {
    throw new AppError("damaged_data", "host.db: a session known from clank can't be read", { cause: result.error })
  }
  return result.data
}

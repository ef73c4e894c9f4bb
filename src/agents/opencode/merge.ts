/** One session from the stage into the store: rows that differ are written, rows that went away are deleted, the others not touched. */
import type { Database } from "bun:sqlite"
import { travellingColumns, type SqlValue } from "./chunks.ts"
import { keyOf, primaryKeyOf, type SessionTable, type StoreLayout } from "./store.ts"

/** Makes the session's rows in the store equal to those in the stage. Runs inside the caller's transaction. */
export function mergeSession(db: Database, layout: StoreLayout, id: string, check: () => void): void {
  for (const table of layout.columns.keys()) {
    const primary = primaryKeyOf(table)
    const same = primary.map((column) => `s."${column}" = m."${column}"`).join(" AND ")
    db.query<unknown, [string]>(
      `DELETE FROM main.${table} AS m WHERE "${keyOf(table)}" = ?1
       AND NOT EXISTS (SELECT 1 FROM stage.${table} s WHERE s."${keyOf(table)}" = ?1 AND ${same})`,
    ).run(id)
    check()
    db.query<unknown, [string]>(upsert(layout, table)).run(id)
    check()
  }
}

function upsert(layout: StoreLayout, table: SessionTable): string {
  const columns = travellingColumns(layout, table)
  const names = columns.map((column) => `"${column}"`).join(", ")
  const primary = primaryKeyOf(table)
  const others = columns.filter((column) => !primary.includes(column))
  const insert = `INSERT INTO main.${table} (${names}) SELECT ${names} FROM stage.${table} WHERE "${keyOf(table)}" = ?1`
  const target = primary.map((column) => `"${column}"`).join(", ")
  if (others.length === 0) return `${insert} ON CONFLICT (${target}) DO NOTHING`
  const set = others.map((column) => `"${column}" = excluded."${column}"`).join(", ")
  const differs = others.map((column) => `main.${table}."${column}" IS NOT excluded."${column}"`).join(" OR ")
  return `${insert} ON CONFLICT (${target}) DO UPDATE SET ${set} WHERE ${differs}`
}

/** A write transaction as the caller wants it: plain, or over fences. */
export type Transact = (work: (check: () => void) => void) => void

/** Bytes of records that one transaction writes of a session that is new here: a fraction of a second. */
const AHEAD_BYTES = 24 * 1024 * 1024

/**
 * Writes the records of a large session that is not here yet in several short transactions. Nobody sees them: the session's own row
 * comes last, by {@link mergeSession}, and an undo record that names the session as absent takes them away.
 */
export function placeAhead(db: Database, layout: StoreLayout, id: string, transact: Transact): void {
  for (const table of ["event", "message", "part"] as const) {
    if (!layout.columns.has(table)) continue
    const key = keyOf(table)
    const facts = db
      .query<{ first: number | null; last: number; bytes: number }, [string]>(
        `SELECT min(rowid) AS first, max(rowid) AS last, sum(octet_length(data)) AS bytes FROM stage.${table} WHERE "${key}" = ?1`,
      )
      .get(id)
    if (facts === null || facts.first === null || facts.bytes <= AHEAD_BYTES) continue
    const step = Math.max(1, Math.floor(((facts.last - facts.first + 1) * AHEAD_BYTES) / facts.bytes))
    const names = travellingColumns(layout, table).map((column) => `"${column}"`)
    const insert = db.query<unknown, SqlValue[]>(
      `INSERT OR IGNORE INTO main.${table} (${names.join(", ")}) SELECT ${names.join(", ")} FROM stage.${table}
       WHERE "${key}" = ?1 AND rowid BETWEEN ?2 AND ?3`,
    )
    for (let from = facts.first; from <= facts.last; from += step) {
      transact(() => {
        insert.run(id, from, from + step - 1)
      })
    }
  }
}

/** Takes away what {@link placeAhead} left when the session itself did not follow. False: it could not be taken away now. */
export function removeAhead(db: Database, layout: StoreLayout, id: string, transact: Transact): boolean {
  const left = (["event", "message", "part"] as const).filter((table) => layout.columns.has(table))
  const has = (table: string, key: string): boolean =>
    db.query<unknown, [string]>(`SELECT 1 FROM main.${table} WHERE "${key}" = ?1 LIMIT 1`).get(id) !== null
  if (has("session", "id") || !left.some((table) => has(table, keyOf(table)))) return true
  try {
    transact(() => {
      for (const table of left) {
        db.query<unknown, [string]>(`DELETE FROM main.${table} WHERE "${keyOf(table)}" = ?1`).run(id)
      }
    })
    return true
  } catch {
    return false
  }
}

/** Adds opencode's project row when it is not there; opencode fills in the rest at its next start. Answers whether it was added. */
export function ensureProject(db: Database, project: { readonly id: string; readonly worktree: string }): void {
  const now = Date.now()
  db.query<unknown, SqlValue[]>(
    `INSERT INTO main.project (id, worktree, vcs, time_created, time_updated, sandboxes)
     VALUES (?1, ?2, ?3, ?4, ?4, '[]') ON CONFLICT (id) DO NOTHING`,
  ).run(project.id, project.worktree, project.id === "global" ? null : "git", now)
}

export function hasProject(db: Database, id: string): boolean {
  return db.query<unknown, [string]>("SELECT 1 FROM project WHERE id = ?1").get(id) !== null
}

/** What changes in a session whenever opencode writes to it: compared before and inside the transaction. */
export function sessionStamp(db: Database, id: string): string {
  const row = db
    .query<Record<string, SqlValue>, [string]>(
      `SELECT (SELECT time_updated || ' ' || title FROM main.session WHERE id = ?1) AS session,
        (SELECT seq FROM main.event_sequence WHERE aggregate_id = ?1) AS seq,
        (SELECT count(*) || ' ' || max(time_updated) FROM main.message WHERE session_id = ?1) AS messages,
        (SELECT count(*) || ' ' || max(time_updated) FROM main.part WHERE session_id = ?1) AS parts`,
    )
    .get(id)
  return JSON.stringify(row)
}

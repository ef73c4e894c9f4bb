/** Keeping a session that both sides went on with: the local one becomes a copy under fresh ids. */
import type { Database } from "bun:sqlite"
import { crc32 } from "node:zlib"
import type { SqlValue } from "./chunks.ts"
import { keyOf, type StoreLayout } from "./store.ts"

/** opencode's ids (1.18.33): a kind, 12 hexadecimal digits that order them in time, 14 random letters and digits. */
const ID = /\b(ses|msg|prt|evt)_([0-9a-f]{12})([0-9A-Za-z]{14})\b/g
const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

export interface IdMap {
  /** The text with every id of the session replaced by its new one. */
  rename(text: string): string
}

/**
 * New ids for one session and all its records: the part that orders them stays, so the order stays. `seed` makes them repeatable.
 */
export function freshIds(owned: ReadonlySet<string>, seed: string): IdMap {
  return {
    rename: (text) =>
      text.replaceAll(ID, (id: string, kind: string, time: string) =>
        owned.has(id) ? `${kind}_${time}${letters(`${seed}${id}`)}` : id,
      ),
  }
}

function letters(text: string): string {
  let made = ""
  for (let n = 0; made.length < 14; n += 1) {
    let value = crc32(`${text}${n}`)
    for (let digit = 0; digit < 5; digit += 1) {
      made += ALPHABET[value % ALPHABET.length] ?? "0"
      value = Math.floor(value / ALPHABET.length)
    }
  }
  return made.slice(0, 14)
}

/** Ids that a copy of the session would need anew. */
export function ownedIds(db: Database, id: string): ReadonlySet<string> {
  const rows = db
    .query<{ id: string }, [string]>(
      `SELECT ?1 AS id UNION ALL SELECT id FROM main.message WHERE session_id = ?1
       UNION ALL SELECT id FROM main.part WHERE session_id = ?1
       UNION ALL SELECT id FROM main.event WHERE aggregate_id = ?1`,
    )
    .all(id)
  return new Set(rows.map((row) => row.id))
}

/** Copies a session's rows under fresh ids, with a title that says why it is there. Runs inside the caller's transaction. */
export function copySession(db: Database, layout: StoreLayout, id: string, ids: IdMap, check: () => void): void {
  for (const [table, columns] of layout.columns) {
    const names = columns.map((column) => `"${column}"`).join(", ")
    const marks = columns.map(() => "?").join(", ")
    const insert = db.query<unknown, SqlValue[]>(`INSERT INTO main.${table} (${names}) VALUES (${marks})`)
    const select = db.query<Record<string, SqlValue>, [string]>(
      `SELECT ${names} FROM main.${table} WHERE "${keyOf(table)}" = ?1`,
    )
    for (const row of select.iterate(id)) {
      insert.run(...columns.map((column) => copied(table, column, row[column] ?? null, ids)))
    }
    check()
  }
}

function copied(table: string, column: string, value: SqlValue, ids: IdMap): SqlValue {
  // The link belongs to the session that keeps the id.
  if (table === "session" && column === "share_url") return null
  if (typeof value !== "string") return value
  if (table === "session" && column === "title") return `${value} (kept by decamp: both sides went on)`
  return ids.rename(value)
}

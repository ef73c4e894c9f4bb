/**
 * The fence in opencode's store: triggers that refuse whatever would go on with a session. One set of triggers for each workspace,
 * named by a key of ours, each with the ids of its sessions.
 *
 * They name as few columns as can be, all of which are keys or indexed: SQLite itself refuses to drop such a column, so no update of
 * opencode can come to fail because of us, and a trigger's body names no table, so that renaming and rebuilding tables works too.
 * A rebuilt table loses its triggers: {@link standingFences} shows that, since a fence counts only with all of its triggers.
 */
import type { Database } from "bun:sqlite"
import { AppError } from "../../protocol/errors.ts"
import { writeTransaction } from "./writing.ts"

const PREFIX = "decamp_fence_"

/** What each trigger stops. In 1.18.33 every change of a conversation is written with an event, in one transaction. */
const KINDS = [
  { kind: "event", table: "event", on: "INSERT", row: "NEW", column: "aggregate_id" },
  // `opencode import` writes messages without events, and so did 1.14.
  { kind: "message", table: "message", on: "INSERT", row: "NEW", column: "session_id" },
  { kind: "removal", table: "message", on: "DELETE", row: "OLD", column: "session_id" },
  { kind: "child", table: "session", on: "INSERT", row: "NEW", column: "parent_id" },
  { kind: "deletion", table: "session", on: "DELETE", row: "OLD", column: "id" },
  // Only where there are no events.
  { kind: "part", table: "part", on: "INSERT", row: "NEW", column: "session_id" },
] as const

type Kind = (typeof KINDS)[number]

/** Ids that may stand in a trigger. */
export function isSessionId(id: string): boolean {
  return /^ses_[0-9A-Za-z]{1,100}$/.test(id)
}

export interface StandingFence {
  /** Which workspace's it is. */
  readonly key: string
  /** Sessions that every trigger of the fence names. */
  readonly ids: ReadonlySet<string>
  /** Sessions that some of its triggers name. */
  readonly named: ReadonlySet<string>
  readonly words: string
  readonly triggers: readonly string[]
}

/** The fences that stand in the store, whole or in part. */
export function standingFences(db: Database): StandingFence[] {
  const rows = db
    .query<{ name: string; tbl_name: string; sql: string }, []>(
      `SELECT name, tbl_name, sql FROM main.sqlite_master WHERE type = 'trigger' AND name GLOB '${PREFIX}*'`,
    )
    .all()
  const kinds = kindsOf(db)
  const byKey = Map.groupBy(rows, ({ name }) => name.slice(name.lastIndexOf("_") + 1))
  return [...byKey].map(([key, triggers]) => {
    const sets = kinds.map((kind) => {
      const found = triggers.find(({ name, tbl_name: table }) => name === nameOf(kind, key) && table === kind.table)
      return new Set(found === undefined ? [] : idsIn(found.sql))
    })
    const named = new Set(triggers.flatMap(({ sql }) => idsIn(sql)))
    return {
      key,
      named,
      ids: new Set([...named].filter((id) => sets.every((set) => set.has(id)))),
      words: wordsIn(triggers[0]?.sql ?? ""),
      triggers: triggers.map(({ name }) => name),
    }
  })
}

/** Sessions that a whole fence holds, whoever's it is. */
export function heldSessions(fences: readonly StandingFence[]): ReadonlySet<string> {
  return new Set(fences.flatMap(({ ids }) => [...ids]))
}

export interface NewFence {
  readonly key: string
  readonly ids: Iterable<string>
  readonly words: string
}

/** Sets the triggers of one workspace anew, naming exactly these sessions; none: takes them away. Runs inside the caller's transaction. */
export function setFence(db: Database, { key, ids, words }: NewFence): void {
  const list = [...ids].filter(isSessionId).toSorted()
  for (const fence of standingFences(db)) if (fence.key === key) dropTriggers(db, fence)
  if (list.length === 0) return
  const names = list.map((id) => `'${id}'`).join(", ")
  for (const kind of kindsOf(db)) {
    db.run(
      `CREATE TRIGGER "${nameOf(kind, key)}" BEFORE ${kind.on} ON "${kind.table}"
WHEN ${kind.row}."${kind.column}" IN (${names}) BEGIN SELECT RAISE(ABORT, ${quoted(words)}); END`,
    )
  }
}

/** Takes a fence's triggers away, also those of tables that are no more what they were. Runs inside the caller's transaction. */
export function dropTriggers(db: Database, { triggers }: Pick<StandingFence, "triggers">): void {
  for (const name of triggers) db.run(`DROP TRIGGER IF EXISTS main."${name.replaceAll('"', '""')}"`)
}

/** So many sessions are tried in each table: a try with a thousand of them in the fence takes 0.15 ms. */
const MAX_TRIES = 20

/**
 * Proves that the fence holds: what the store says of its triggers, and a try of what they are to refuse for some of the sessions. Runs
 * inside the caller's transaction, and changes nothing.
 * @throws {AppError} internal when something was not refused
 */
export function proveFence(db: Database, ids: Iterable<string>): void {
  const kinds = kindsOf(db).filter(({ on }) => on === "INSERT")
  const all = [...ids]
  const held = heldSessions(standingFences(db))
  const missing = all.find((id) => !held.has(id))
  if (missing !== undefined) {
    throw new AppError("internal", `the fence of session ${missing} does not stand in opencode's store`)
  }
  const step = Math.max(1, Math.ceil(all.length / MAX_TRIES))
  const list = all.filter((_, index) => index % step === 0)
  db.run("SAVEPOINT decamp_proof")
  try {
    for (const { table, column } of kinds) {
      const insert = db.query<unknown, [string]>(`INSERT INTO main."${table}" ("${column}") VALUES (?1)`)
      for (const id of list) {
        if (isRefused(() => insert.run(id))) continue
        throw new AppError("internal", `the fence of session ${id} in opencode's store does not hold (${table})`)
      }
    }
  } finally {
    db.run("ROLLBACK TO decamp_proof")
    db.run("RELEASE decamp_proof")
  }
}

function isRefused(attempt: () => void): boolean {
  try {
    attempt()
    return false
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "SQLITE_CONSTRAINT_TRIGGER"
  }
}

/**
 * A write transaction that steps over all fences: they are away while `work` runs, and stand again, whole, before it is committed,
 * for the sessions that there are then. No other process ever sees the store without them.
 * @param arriving also to be fenced, by ids that `work` answers
 */
export function writeOverFences(
  db: Database,
  work: (check: () => void) => void,
  arriving?: { readonly key: string; readonly words: string; readonly ids: readonly string[] },
): void {
  writeTransaction(db, (check) => {
    const fences = standingFences(db)
    for (const fence of fences) dropTriggers(db, fence)
    work(check)
    for (const fence of fences) {
      const ids = [...fence.named, ...(fence.key === arriving?.key ? arriving.ids : [])]
      setFence(db, { ...fence, ids: existing(db, ids) })
    }
    if (arriving === undefined || fences.some(({ key }) => key === arriving.key)) return
    setFence(db, { ...arriving, ids: existing(db, arriving.ids) })
  })
}

/** Those of some sessions that are in the store. */
export function existing(db: Database, ids: readonly string[]): string[] {
  const rows = db
    .query<{ id: string }, [string]>("SELECT id FROM main.session WHERE id IN (SELECT value FROM json_each(?1))")
    .all(JSON.stringify(ids))
  return rows.map(({ id }) => id)
}

/** The triggers that a store of this make needs. */
function kindsOf(db: Database): readonly Kind[] {
  const rows = db
    .query<{ name: string; columns: string }, []>(
      `SELECT m.name, json_group_array(c.name) AS columns FROM main.sqlite_master m JOIN pragma_table_info(m.name) c
       WHERE m.type = 'table' AND m.name IN ('event', 'message', 'session', 'part') GROUP BY m.name`,
    )
    .all()
  const columns = new Map(rows.map((row) => [row.name, row.columns]))
  const has = ({ table, column }: Kind): boolean => columns.get(table)?.includes(`"${column}"`) === true
  const [event] = KINDS
  return KINDS.filter((kind) => has(kind) && (kind.kind !== "part" || !has(event)))
}

function nameOf({ kind }: Kind, key: string): string {
  return `${PREFIX}${kind}_${key}`
}

/** Ids in a trigger's condition, which ends where its body begins. */
function idsIn(sql: string): string[] {
  const condition = sql.slice(0, Math.max(0, sql.indexOf(" BEGIN ")))
  return [...condition.matchAll(/'(ses_[0-9A-Za-z]{1,100})'/g)].map((match) => match[1] ?? "")
}

function wordsIn(sql: string): string {
  const literal = /RAISE\(ABORT, '((?:[^']|'')*)'\)/.exec(sql)?.[1] ?? ""
  return literal.replaceAll("''", "'")
}

/** A text as SQL: one line, at most 200 characters. */
function quoted(words: string): string {
  const line = words
    .replaceAll(/[\u0000-\u001f\u007f]+/g, " ")
    .slice(0, 200)
    .trim()
  return `'${(line === "" ? "this session is on another host" : line).replaceAll("'", "''")}'`
}

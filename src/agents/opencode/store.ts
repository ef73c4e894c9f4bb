/** Reading opencode's SQLite store without opencode. Facts seen in opencode 1.18.33. */
import { Database } from "bun:sqlite"
import { existsSync } from "node:fs"
import { newMemoryPace } from "../../lib/memory.ts"
import { AppError } from "../../protocol/errors.ts"
import type { AgentScope } from "../agent.ts"
import { isInScope, realDirectory } from "../scope.ts"

/** Tables that hold one session's records, the column that names the session, and what makes two rows the same one. */
export const SESSION_TABLES = [
  { name: "session", key: "id", primary: ["id"] },
  { name: "todo", key: "session_id", primary: ["session_id", "position"] },
  { name: "event_sequence", key: "aggregate_id", primary: ["aggregate_id"] },
  { name: "session_message", key: "session_id", primary: ["id"] },
  { name: "session_input", key: "session_id", primary: ["id"] },
  { name: "session_context_epoch", key: "session_id", primary: ["session_id"] },
  { name: "event", key: "aggregate_id", primary: ["id"] },
  { name: "message", key: "session_id", primary: ["id"] },
  { name: "part", key: "session_id", primary: ["id"] },
] as const

export type SessionTable = (typeof SESSION_TABLES)[number]["name"]

/** The column of a table that names the session. */
export function keyOf(table: SessionTable): string {
  return SESSION_TABLES.find(({ name }) => name === table)?.key ?? "session_id"
}

/** Primary key of a table: by it a row here and a row that arrives are the same one. */
export function primaryKeyOf(table: SessionTable): readonly string[] {
  return SESSION_TABLES.find(({ name }) => name === table)?.primary ?? ["id"]
}

/** Holds the secret with which a shared session is updated: it never leaves the host. */
const STAYS = ["session_share"]

/** Columns that belong to the host and not to the session: their values stay, or are null in a new row. */
export const HOST_COLUMNS: Readonly<Record<string, readonly string[]>> = {
  session: ["workspace_id", "share_url"],
  event_sequence: ["owner_id"],
}

export interface StoreLayout {
  /** Told the characters of the chunks that are read; keeps the memory of the process down. */
  readonly pace: (bytes: number) => void
  /** Newest migration id. */
  readonly stamp: string
  /** Columns of each session table that exists, sorted by name. */
  readonly columns: ReadonlyMap<SessionTable, readonly string[]>
  /** Tables with a session_id column that this version of decamp does not know. */
  readonly unknownTables: readonly string[]
}

/** Opens the store read-only; null when there is none yet. */
export function openForReading(database: string | null): Database | null {
  if (database === null || !existsSync(database)) return null
  const db = new Database(database, { readonly: true })
  db.run("PRAGMA busy_timeout = 5000")
  return db
}

/** Newest migration id of the store, "" when there is no store or it has none. */
export function schemaStamp(database: string | null): string {
  const db = openForReading(database)
  if (db === null) return ""
  try {
    return stampOf(db)
  } finally {
    db.close()
  }
}

/** Newest migration id of an open store, "" when it has none. */
export function stampOf(db: Database): string {
  // Before 1.15 the migrations were in another table.
  const tables = [
    ["migration", "id"],
    ["__drizzle_migrations", "name"],
  ] as const
  for (const [table, column] of tables) {
    const has = db.query("SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2").get(table, column)
    if (has === null) continue
    return db.query<{ id: string }, []>(`SELECT max(${column}) AS id FROM ${table}`).get()?.id ?? ""
  }
  return ""
}

/**
 * Looks at what the store is made of.
 * @throws {AppError} agent_version when a table that every session needs is missing
 */
export function layoutOf(db: Database): StoreLayout {
  const rows = db
    .query<{ table_name: string; column_name: string }, []>(
      `SELECT m.name AS table_name, c.name AS column_name FROM sqlite_master m JOIN pragma_table_info(m.name) c
       WHERE m.type = 'table' ORDER BY m.name, c.name`,
    )
    .all()
  const tables = new Map<string, string[]>()
  for (const row of rows) tables.set(row.table_name, [...(tables.get(row.table_name) ?? []), row.column_name])
  const columns = new Map<SessionTable, readonly string[]>()
  for (const { name, key } of SESSION_TABLES) {
    const found = tables.get(name)
    if (found?.includes(key)) columns.set(name, found)
  }
  for (const needed of ["session", "message", "part"] as const) {
    if (columns.has(needed)) continue
    throw new AppError("agent_version", `opencode's store has no table ${needed} that could be read`, {
      hint: "update opencode to a version that decamp knows, or leave the sessions with --leave-sessions",
    })
  }
  const known = new Set<string>([...SESSION_TABLES.map(({ name }) => name), ...STAYS])
  const unknownTables = [...tables].filter(([name, names]) => names.includes("session_id") && !known.has(name))
  return { pace: newMemoryPace(), stamp: stampOf(db), columns, unknownTables: unknownTables.map(([name]) => name) }
}

/** One row of the session table with what is needed to judge it. */
export interface StoredSession {
  readonly id: string
  readonly projectId: string
  readonly parentId: string | null
  readonly directory: string
  readonly title: string
  readonly model: string | null
  readonly createdAtMs: number
  readonly updatedAtMs: number
  readonly archivedAtMs: number | null
  readonly shareUrl: string | null
  readonly newestMessageAtMs: number
  /** The last turn has no end: its answer is open, the question is newer than every answer, or the next step is about to begin. */
  readonly isUnfinished: boolean
}

/**
 * Between two steps of a turn the last answer is complete, and says only that tools were called. So does one after which the user
 * refused a tool, and that turn is over: only what is as recent as this, ms, counts as a gap between steps (milliseconds in 1.18.33,
 * more where a snapshot of a large tree is taken).
 */
const BETWEEN_STEPS_MS = 10_000

interface SessionRow {
  id: string
  project_id: string
  parent_id: string | null
  directory: string
  title: string
  model: string | null
  time_created: number
  time_updated: number
  time_archived: number | null
  share_url: string | null
  newest: number | null
  role: string | null
  ended: number | null
  between_steps_at: number | null
}

/** The sessions with these ids and all their descendants by parent, newest first. One query. */
export function readSessions(db: Database, ids: readonly string[]): StoredSession[] {
  const rows = db
    .query<SessionRow, [string]>(
      `WITH RECURSIVE wanted(id) AS (
         SELECT value FROM json_each(?1) UNION SELECT s.id FROM session s JOIN wanted w ON s.parent_id = w.id)
       SELECT s.*, last.time_created AS newest,
         CASE WHEN json_valid(last.data) THEN json_extract(last.data, '$.role') END AS role,
         CASE WHEN json_valid(last.data) THEN json_extract(last.data, '$.time.completed') IS NOT NULL
           OR json_extract(last.data, '$.error') IS NOT NULL END AS ended,
         CASE WHEN json_valid(last.data) AND json_extract(last.data, '$.finish') IN ('tool-calls', 'unknown')
           AND json_extract(last.data, '$.error') IS NULL THEN json_extract(last.data, '$.time.completed') END AS between_steps_at
       FROM wanted JOIN session s ON s.id = wanted.id LEFT JOIN message last ON last.id = (
         SELECT m.id FROM message m WHERE m.session_id = s.id ORDER BY m.time_created DESC, m.id DESC LIMIT 1)
       ORDER BY s.time_updated DESC, s.id`,
    )
    .all(JSON.stringify(ids))
  return rows.map((row) => ({
    id: row.id,
    projectId: row.project_id,
    parentId: row.parent_id,
    directory: row.directory,
    title: row.title,
    model: row.model,
    createdAtMs: row.time_created,
    updatedAtMs: row.time_updated,
    archivedAtMs: row.time_archived,
    shareUrl: row.share_url,
    newestMessageAtMs: row.newest ?? 0,
    isUnfinished: row.role === "user" || (row.role === "assistant" && (row.ended !== 1 || isBetweenSteps(row))),
  }))
}

function isBetweenSteps({ between_steps_at: at }: SessionRow): boolean {
  return at !== null && Math.abs(Date.now() - at) < BETWEEN_STEPS_MS
}

/** Id of the provider in a session's record of its model. */
export function providerOf(model: string | null): string | null {
  try {
    const value: unknown = JSON.parse(model ?? "null")
    if (typeof value !== "object" || value === null || !("providerID" in value)) return null
    return typeof value.providerID === "string" ? value.providerID : null
  } catch {
    return null
  }
}

/** Sessions of the scope's directory: those below its top whatever their project id, and all their descendants. */
export async function sessionsOfScope(
  db: Database,
  scope: AgentScope,
): Promise<{ readonly sessions: StoredSession[]; readonly aliases: readonly string[] }> {
  const rows = db
    .query<{ directory: string; ids: string }, []>(
      "SELECT directory, json_group_array(id) AS ids FROM session GROUP BY directory",
    )
    .all()
  const inside: string[] = []
  const aliases = new Set<string>()
  for (const row of rows) {
    const real = await realDirectory(row.directory)
    if (!isInScope(real, scope)) continue
    inside.push(...(JSON.parse(row.ids) as string[]))
    const rest = real.slice(scope.topLevel.length)
    if (real !== row.directory && row.directory.endsWith(rest)) {
      aliases.add(row.directory.slice(0, row.directory.length - rest.length))
    }
  }
  return { sessions: readSessions(db, inside), aliases: [...aliases].filter((alias) => alias.length > 1) }
}

/**
 * One session as a row of chunks: newline-delimited JSON, whose lines are headers `{"table","columns"}` and rows (arrays in the order
 * of the columns). Described in docs/formats/opencode-session.md. Chunks are cut at rows chosen by their ids, so a session that
 * grew, or changed in one place, keeps all its other chunks as they were.
 */
import type { Database } from "bun:sqlite"
import { createHash } from "node:crypto"
import { crc32 } from "node:zlib"
import { AppError } from "../../protocol/errors.ts"
import { portableText, PORTABLE_PROJECT, type Binding } from "./binding.ts"
import { HOST_COLUMNS, SESSION_TABLES, type SessionTable, type StoreLayout } from "./store.ts"

/** A chunk is not cut before it has this many characters. */
const MIN_CHUNK = 256 * 1024
/** At this many characters it is cut wherever it is. */
const MAX_CHUNK = 2 * 1024 * 1024
/** Of the rows at which it may be cut, one in this many is one. */
const CUT_ONE_IN = 4
const DIGEST_PREFIX = "decamp opencode session 1\n"

export type SqlValue = string | number | bigint | null | Uint8Array
type SqlRow = Record<string, SqlValue>

/** How each table is read: in an order that only grows at its end while the session goes on. */
const ORDER: Record<SessionTable, string> = {
  session: "FROM session t WHERE t.id = ?1",
  todo: "FROM todo t WHERE t.session_id = ?1 ORDER BY t.position",
  event_sequence: "FROM event_sequence t WHERE t.aggregate_id = ?1",
  session_message: "FROM session_message t WHERE t.session_id = ?1 ORDER BY t.seq",
  session_input: "FROM session_input t WHERE t.session_id = ?1 ORDER BY t.admitted_seq",
  session_context_epoch: "FROM session_context_epoch t WHERE t.session_id = ?1",
  event: "FROM event t WHERE t.aggregate_id = ?1 ORDER BY t.seq",
  message: "FROM message t WHERE t.session_id = ?1 ORDER BY t.time_created, t.id",
  part: `FROM message m CROSS JOIN part t ON t.message_id = m.id
    WHERE m.session_id = ?1 ORDER BY m.time_created, m.id, t.id`,
}

/** Columns by which rows are ordered, where they are not in every version. */
const ORDERED_BY: Partial<Record<SessionTable, string>> = {
  todo: "position",
  session_message: "seq",
  session_input: "admitted_seq",
  event: "seq",
}

/** @throws {AppError} agent_version when sessions of this store can't be read in their order */
export function requireReadable(layout: StoreLayout): void {
  for (const [table, columns] of layout.columns) {
    const needed = ORDERED_BY[table]
    if (needed === undefined || columns.includes(needed)) continue
    throw new AppError(
      "agent_version",
      `opencode's store has the schema ${layout.stamp || "(none)"}, which decamp does not know how to read`,
      {
        hint: "update opencode and start it once here, which updates its store; or leave the sessions with --leave-sessions",
      },
    )
  }
}

/** These begin a chunk of their own, so that a change in one does not touch the others. */
const OWN_CHUNKS: ReadonlySet<SessionTable> = new Set(["event", "message", "part"])

/** The columns of a table that travel, sorted by name. */
export function travellingColumns(layout: StoreLayout, table: SessionTable): readonly string[] {
  const host = HOST_COLUMNS[table] ?? []
  return (layout.columns.get(table) ?? []).filter((column) => !host.includes(column))
}

/** Reads one session's chunks, one at a time. `schema` is the attached database to read from. */
export function* chunksOf(...from: Parameters<typeof cutLines>): Generator<Uint8Array> {
  for (const lines of cutLines(...from)) yield Buffer.from(lines.join(""))
}

/** Ids of one session's chunks, without making them: that would be twice the garbage. */
export function* chunkIdsOf(...from: Parameters<typeof cutLines>): Generator<string> {
  for (const lines of cutLines(...from)) {
    const hash = createHash("sha256")
    for (const line of lines) hash.update(line)
    yield hash.digest("hex")
  }
}

function* cutLines(
  db: Database,
  layout: StoreLayout,
  session: { readonly id: string },
  binding: Binding,
  schema = "main",
): Generator<readonly string[]> {
  const toPortable = portableText(binding)
  let lines: string[] = []
  let size = 0
  for (const { name } of SESSION_TABLES) {
    const columns = travellingColumns(layout, name)
    if (columns.length === 0) continue
    if (OWN_CHUNKS.has(name) && size > 0) {
      yield lines
      layout.pace(size)
      ;[lines, size] = [[], 0]
    }
    let isHeaded = false
    const header = JSON.stringify({ table: name, columns })
    const select = columns.map((column) => `t."${column}"`).join(", ")
    const from = ORDER[name].replaceAll(/(FROM|JOIN) (\w+) (t|m)\b/g, `$1 ${schema}.$2 $3`)
    for (const row of db.query<SqlRow, [string]>(`SELECT ${select} ${from}`).iterate(session.id)) {
      if (!isHeaded) size = push(lines, size, header)
      isHeaded = true
      size = push(lines, size, encodeRow(name, columns, row, toPortable))
      if (!isCut(row["id"], size)) continue
      yield lines
      layout.pace(size)
      ;[lines, size, isHeaded] = [[], 0, false]
    }
  }
  if (size > 0) yield lines
}

function push(lines: string[], size: number, line: string): number {
  lines.push(line, "\n")
  return size + line.length + 1
}

function isCut(id: SqlValue | undefined, size: number): boolean {
  if (size < MIN_CHUNK) return false
  return size >= MAX_CHUNK || (typeof id === "string" && crc32(id) % CUT_ONE_IN === 0)
}

function encodeRow(
  table: SessionTable,
  columns: readonly string[],
  row: SqlRow,
  toPortable: (text: string) => string,
): string {
  const values = columns.map((column) => {
    const value = row[column] ?? null
    if (table === "session" && column === "project_id") return PORTABLE_PROJECT
    if (typeof value === "string") return toPortable(table === "part" ? withUndo(value) : value)
    if (typeof value === "bigint") return { integer: value.toString() }
    return value instanceof Uint8Array ? { base64: Buffer.from(value).toString("base64") } : value
  })
  return JSON.stringify(values)
}

/** Key under which the files of a patch rest while undo is switched off on this host. */
const PARKED = ',"decampFiles":'

/** Makes undo of staged patches harmless: opencode deletes or restores the files that a patch names, so these name none. */
export function parkUndo(db: Database, session: string, parts: readonly string[]): void {
  db.query<unknown, [string, string]>(
    `UPDATE stage.part SET data = json_set(data, '$.files', json('[]'), '$.decampFiles', json(data -> '$.files'))
     WHERE rowid IN (SELECT p.rowid FROM json_each(?1) w JOIN stage.part p ON p.session_id = ?2 AND p.id = w.value)
       AND json_extract(data, '$.type') = 'patch' AND json_array_length(data, '$.files') > 0
       AND json_extract(data, '$.decampFiles') IS NULL`,
  ).run(JSON.stringify(parts), session)
}

/** A patch with its files, also where they are parked on this host. */
function withUndo(text: string): string {
  const at = text.lastIndexOf(PARKED)
  if (at === -1 || !text.includes('"type":"patch"')) return text
  const files = text.slice(at + PARKED.length, -1)
  return `${text.slice(0, at).replace('"files":[]', () => `"files":${files}`)}}`
}

/** SHA-256 of a chunk, hexadecimal: the id of the blob that holds it. */
export function chunkId(chunk: Uint8Array): string {
  return createHash("sha256").update(chunk).digest("hex")
}

/** Digest of a session from the ids of its chunks, in order. */
export function sessionDigest(chunkIds: readonly string[]): string {
  return createHash("sha256")
    .update(DIGEST_PREFIX + chunkIds.join("\n"))
    .digest("hex")
}

/** Digest of a session as it is in the store. */
export function digestOf(
  db: Database,
  layout: StoreLayout,
  session: { readonly id: string },
  binding: Binding,
  schema = "main",
): string {
  return sessionDigest([...chunkIdsOf(db, layout, session, binding, schema)])
}

/** Sessions with records that can't be carried, with the reason: JSON that is none, parts without their message. */
export function brokenSessions(db: Database, ids: readonly string[]): ReadonlyMap<string, string> {
  const rows = db
    .query<{ id: string; what: string; record: string; n: number }, [string]>(
      `WITH wanted(id) AS (SELECT value FROM json_each(?1))
       SELECT w.id, 'message' AS what, min(m.id) AS record, count(*) AS n FROM wanted w
         JOIN message m ON m.session_id = w.id WHERE NOT json_valid(m.data) GROUP BY w.id
       UNION ALL SELECT w.id, 'part', min(p.id), count(*) FROM wanted w
         JOIN part p ON p.session_id = w.id WHERE NOT json_valid(p.data) GROUP BY w.id
       UNION ALL SELECT w.id, 'lost', min(p.id), count(*) FROM wanted w JOIN part p ON p.session_id = w.id
         WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.id = p.message_id AND m.session_id = w.id) GROUP BY w.id`,
    )
    .all(JSON.stringify(ids))
  const found = new Map<string, string>()
  for (const { id, what, record, n } of rows) {
    const more = n > 1 ? ` and ${n - 1} more` : ""
    const reason =
      what === "lost"
        ? `part ${record}${more} has no message`
        : `the record of ${what} ${record}${more} is not valid JSON`
    if (!found.has(id)) found.set(id, reason)
  }
  return found
}

/** Arriving sessions, checked and bound to this host, in a database of their own beside opencode's: nothing of opencode's is touched. */
import type { Database } from "bun:sqlite"
import { relative } from "node:path"
import { z } from "zod"
import type { BlobSource } from "../../protocol/blob.ts"
import { AppError } from "../../protocol/errors.ts"
import type { SessionEntry } from "../../protocol/manifest.ts"
import { bindText, PORTABLE_DIRECTORY } from "./binding.ts"
import { sessionDigest, travellingColumns, type SqlValue } from "./chunks.ts"
import { keyOf, primaryKeyOf, SESSION_TABLES, type SessionTable, type StoreLayout } from "./store.ts"

/** A chunk of more plain bytes than this is refused: a single record this large is not opencode's. */
const MAX_CHUNK_BYTES = 256 * 1024 * 1024

const TABLE_NAMES = SESSION_TABLES.map(({ name }) => name)
const headerSchema = z.object({ table: z.enum(TABLE_NAMES), columns: z.array(z.string()).min(1).max(200) })
const valueSchema = z.union([
  z.string(),
  z.number(),
  z.null(),
  z.object({ integer: z.string().regex(/^-?\d{1,19}$/) }),
  z.object({ base64: z.string() }),
])
const rowSchema = z.array(valueSchema)

export interface Destination {
  readonly topLevel: string
  readonly projectId: string
  readonly toolOutput: string
}

/** Makes the tables of the attached database `stage` like those of the store. */
export function createStage(db: Database, layout: StoreLayout): void {
  for (const name of layout.columns.keys()) {
    // Long values last: SQLite reads over what stands before a column.
    const columns = travellingColumns(layout, name).toSorted((a, b) => Number(a === "data") - Number(b === "data"))
    const names = columns.map((column) => `"${column}"`).join(", ")
    db.run(`CREATE TABLE stage.${name} AS SELECT ${names} FROM main.${name} WHERE 0`)
    const same = [...new Set([keyOf(name), ...primaryKeyOf(name)])].map((column) => `"${column}"`)
    db.run(`CREATE INDEX stage.same_${name} ON ${name} (${same.join(", ")})`)
  }
  db.run("CREATE INDEX stage.order_message ON message (session_id, time_created, id)")
  db.run("CREATE INDEX stage.order_part ON part (message_id, id)")
  if (layout.columns.has("event")) db.run("CREATE INDEX stage.order_event ON event (aggregate_id, seq)")
}

/**
 * Reads one session's chunks and puts its rows into the stage.
 * @throws {AppError} damaged_data when something in it is not what it must be; agent_version when the store can't hold it
 */
export async function stageSession(
  db: Database,
  layout: StoreLayout,
  entry: SessionEntry,
  source: BlobSource,
  destination: Destination,
): Promise<void> {
  if (sessionDigest(entry.blobs) !== entry.digest) {
    throw new AppError("damaged_data", `the digest of session ${entry.id} is not that of its contents`)
  }
  const writer = stageWriter(db, layout, entry.id, destination)
  for (const blob of entry.blobs) {
    const bytes = await readChunk(source, blob)
    db.run("BEGIN")
    try {
      writer.writeChunk(bytes)
      db.run("COMMIT")
    } catch (error) {
      db.run("ROLLBACK")
      throw error
    }
  }
  checkStaged(db, entry.id)
}

async function readChunk(source: BlobSource, blob: SessionEntry["blobs"][number]): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of source.open(blob)) {
    size += piece.byteLength
    if (size > MAX_CHUNK_BYTES) throw new AppError("damaged_data", `blob ${blob} holds more than a chunk of a session`)
    pieces.push(piece)
  }
  return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces)
}

/** Writes the rows of a session's chunks; everything in them is checked and bound here. */
function stageWriter(
  db: Database,
  layout: StoreLayout,
  id: string,
  destination: Destination,
): { writeChunk(bytes: Uint8Array): void } {
  const { topLevel: directory, projectId, toolOutput } = destination
  const binding = { directory, projectId, toolOutput }
  return {
    writeChunk(bytes) {
      let open: OpenTable | null = null
      for (const line of linesOf(bytes)) {
        const value: unknown = JSON.parse(line)
        if (!Array.isArray(value)) {
          open = openTable(db, layout, headerSchema.parse(value))
          continue
        }
        if (open === null) throw new AppError("damaged_data", `a chunk of session ${id} begins with a row`)
        const row = rowSchema.parse(value)
        if (row.length !== open.columns.length) {
          throw new AppError("damaged_data", `a row of ${open.table} in session ${id} has ${row.length} values`)
        }
        const values = row.map((cell) => bindCell(cell, binding))
        if (values[open.keyIndex] !== id) {
          throw new AppError("damaged_data", `a row of ${open.table} does not belong to session ${id}`)
        }
        if (open.table === "session") bindSessionRow(open.columns, values, row, destination.topLevel)
        open.insert.run(...values)
      }
    },
  }
}

interface OpenTable {
  readonly table: SessionTable
  readonly columns: readonly string[]
  readonly keyIndex: number
  readonly insert: { run(...values: SqlValue[]): unknown }
}

function openTable(db: Database, layout: StoreLayout, header: z.infer<typeof headerSchema>): OpenTable {
  const has = travellingColumns(layout, header.table)
  const missing = header.columns.filter((column) => !has.includes(column))
  if (missing.length > 0) {
    throw new AppError("agent_version", `opencode's store here has no ${header.table}.${missing.join(", ")}`, {
      hint: "update opencode on this host",
    })
  }
  const keyIndex = header.columns.indexOf(keyOf(header.table))
  if (keyIndex === -1) throw new AppError("damaged_data", `rows of ${header.table} come without their session`)
  const names = header.columns.map((column) => `"${column}"`).join(", ")
  const marks = header.columns.map(() => "?").join(", ")
  const insert = db.query<unknown, SqlValue[]>(`INSERT INTO stage.${header.table} (${names}) VALUES (${marks})`)
  return { table: header.table, columns: header.columns, keyIndex, insert }
}

/** Lines of a chunk, one string at a time. */
function* linesOf(bytes: Uint8Array): Generator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true })
  let from = 0
  while (from < bytes.byteLength) {
    const end = bytes.indexOf(10, from)
    const to = end === -1 ? bytes.byteLength : end
    if (to > from) yield decoder.decode(bytes.subarray(from, to))
    from = to + 1
  }
}

function bindCell(
  cell: z.infer<typeof valueSchema>,
  binding: { readonly directory: string; readonly projectId: string; readonly toolOutput: string },
): SqlValue {
  if (typeof cell === "string") return bindText(cell, binding)
  if (typeof cell !== "object" || cell === null) return cell
  return "integer" in cell ? BigInt(cell.integer) : Buffer.from(cell.base64, "base64")
}

/** `path` is the directory relative to the worktree: opencode lists by it, so it must agree with the directory here. */
function bindSessionRow(
  columns: readonly string[],
  values: SqlValue[],
  portable: z.infer<typeof rowSchema>,
  topLevel: string,
): void {
  const at = columns.indexOf("directory")
  const written = portable[at]
  const directory = values[at]
  if (typeof written !== "string" || typeof directory !== "string" || !written.startsWith(PORTABLE_DIRECTORY)) return
  if (written.split("/").includes("..")) {
    throw new AppError("damaged_data", `a session's directory leads out of the workspace: ${JSON.stringify(written)}`)
  }
  const path = columns.indexOf("path")
  if (path !== -1 && values[path] !== null) values[path] = relative(topLevel, directory)
}

/** What must hold among the rows of one session before any of them is written to the store. */
function checkStaged(db: Database, id: string): void {
  const count = (sql: string): number => db.query<{ n: number }, [string]>(sql).get(id)?.n ?? 0
  if (count("SELECT count(*) AS n FROM stage.session WHERE id = ?1") !== 1) {
    throw new AppError("damaged_data", `session ${id} came without its own record`)
  }
  const lost = `SELECT count(*) AS n FROM stage.part p WHERE session_id = ?1
    AND NOT EXISTS (SELECT 1 FROM stage.message m WHERE m.id = p.message_id AND m.session_id = ?1)`
  if (count(lost) > 0) throw new AppError("damaged_data", `parts of session ${id} came without their message`)
  for (const table of ["message", "part"] as const) {
    if (count(`SELECT count(*) AS n FROM stage.${table} WHERE session_id = ?1 AND NOT json_valid(data)`) > 0) {
      throw new AppError("damaged_data", `a ${table} of session ${id} is not valid JSON`)
    }
    const taken = `SELECT count(*) AS n FROM stage.${table} s JOIN main.${table} m ON m.id = s.id
      WHERE s.session_id = ?1 AND m.session_id <> ?1`
    if (count(taken) > 0)
      throw new AppError("damaged_data", `a ${table} id of session ${id} is used by another session`)
  }
}

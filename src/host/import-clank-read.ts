/** Reading clank's `host.db` (schema versions 1 to 3), row by row, from a copy: the file itself is never opened by SQLite, which would write beside it. */
import { Database } from "bun:sqlite"
import { copyFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing } from "../lib/files.ts"
import type { ClankSession } from "../protocol/clank.ts"
import { AppError } from "../protocol/errors.ts"
import { clankTimeMs, ulidTimeMs } from "./import-clank-times.ts"

/** Most rows that are read, so that a hostile file stays bounded. */
const ROWS_MAX = 100_000
/** Longest text that is taken of one column, characters. */
const TEXT_MAX = 4000
const TITLE_MAX = 300
const NEWEST_VERSION = 3

export interface ClankFile {
  readonly version: number
  readonly sessions: readonly ClankSession[]
  readonly unreadable: readonly { readonly row: string; readonly reason: string }[]
  readonly notices: readonly string[]
}

/**
 * Every session of the file, with its times in milliseconds.
 * @param scratch a private folder for the copy
 * @throws {AppError} not_found, damaged_data when it is not clank's
 */
export async function readClankFile(file: string, scratch: string): Promise<ClankFile> {
  const copy = await copyQuiet(file, scratch)
  const notClanks = (reason: string, cause?: unknown): AppError =>
    new AppError("damaged_data", `${file} is not a host.db of clank: ${reason}`, {
      ...(cause === undefined ? {} : { cause }),
      hint: "clank keeps it in ~/.clank/host/host.db, on a machine it runs on in ~/.clank-host/host.db",
    })
  let db: Database | null = null
  try {
    db = new Database(copy, { readwrite: true, strict: true })
    const columns = db.query<{ name: string }, []>("PRAGMA table_info(sessions)").all()
    const known = new Set(columns.map(({ name }) => name))
    const missing = ["id", "external_id", "backend"].filter((name) => !known.has(name))
    if (missing.length > 0) throw notClanks(`its table sessions lacks ${missing.join(", ")}`)
    return { ...readSessions(db, known), version: versionOf(db) }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw notClanks(error instanceof Error ? error.message : String(error), error)
  } finally {
    db?.close()
  }
}

const COPY_ATTEMPTS = 5

/** Copies the database with its log; once more when something wrote in the meantime. */
async function copyQuiet(file: string, scratch: string): Promise<string> {
  const copy = join(scratch, "host.db")
  for (let attempt = 1; attempt <= COPY_ATTEMPTS; attempt++) {
    const before = await stampsOf(file)
    await copyFile(file, copy)
    await copyFile(`${file}-wal`, `${copy}-wal`).catch((error: unknown) => {
      if (!isMissing(error)) throw error
    })
    if ((await stampsOf(file)) === before) return copy
  }
  throw new AppError("busy", `${file} changed each time it was copied`, { hint: "stop clank, then try again" })
}

async function stampsOf(file: string): Promise<string> {
  const stamps = await Promise.all(
    [file, `${file}-wal`].map(async (path) => {
      const found = await stat(path).catch((error: unknown) => {
        if (isMissing(error) && path !== file) return null
        throw new AppError("not_found", `${file} can't be read`, { cause: error, hint: "name clank's host.db" })
      })
      if (found !== null && !found.isFile()) throw new AppError("not_found", `${path} is not a file`)
      return found === null ? "" : `${found.size} ${found.mtimeMs}`
    }),
  )
  return stamps.join(", ")
}

function versionOf(db: Database): number {
  return db.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version ?? 0
}

const text = z.string().nullable()
const rowSchema = z.object({
  row: z.int(),
  id: z.string().min(1, "it has no id").max(200),
  external_id: text,
  backend: text,
  title: text,
  prompt: text,
  status: text,
  visibility: text,
  project_dir: text,
  worktree_id: text,
  worktree_branch: text,
  created_at: text,
  updated_at: text,
})
const TEXTS = Object.keys(rowSchema.shape).filter((name) => name !== "row" && !name.endsWith("_at"))
const TIMES = ["created_at", "updated_at"]

/** Columns that this version lacks read as null. Times as text, whatever they are kept as; texts cut. */
function selectOf(known: ReadonlySet<string>): string {
  const column = (name: string, read: string): string => `${known.has(name) ? read : "NULL"} AS ${name}`
  return [
    "SELECT rowid AS row",
    ...TEXTS.map((name) => column(name, `substr(${name}, 1, ${TEXT_MAX})`)),
    ...TIMES.map((name) => column(name, `substr(CAST(${name} AS TEXT), 1, 100)`)),
  ].join(", ")
}

function readSessions(db: Database, known: ReadonlySet<string>): Omit<ClankFile, "version"> {
  const sessions: ClankSession[] = []
  const unreadable: { row: string; reason: string }[] = []
  const seen = new Set<number>()
  let guessed = 0
  const take = (raw: unknown): void => {
    const row = rowOf(raw)
    if (row !== null) seen.add(row)
    const parsed = rowSchema.safeParse(raw)
    if (!parsed.success) return void unreadable.push({ row: nameOf(raw), reason: reasonOf(parsed.error) })
    const { session, isGuessed } = sessionOf(parsed.data)
    if (isGuessed) guessed++
    sessions.push(session)
  }
  const select = selectOf(known)
  const everything = db.query<unknown, []>(`${select} FROM sessions LIMIT ${ROWS_MAX + 1}`)
  try {
    for (const raw of everything.iterate()) take(raw)
  } catch (error) {
    oneByOne(db, select, seen, take, (row, reason) => unreadable.push({ row, reason: reason ?? messageOf(error) }))
  }
  const version = versionOf(db)
  const isCut = sessions.length > ROWS_MAX
  const notices = [
    ...(guessed === 0
      ? []
      : [`${guessed} without a time that can be read: it was taken from the id, where that has one`]),
    ...(version > NEWEST_VERSION ? [`it has version ${version}; 1 to ${NEWEST_VERSION} were tried`] : []),
    ...(isCut ? [`only the first ${ROWS_MAX} sessions were read`] : []),
  ]
  return { sessions: sessions.slice(0, ROWS_MAX), unreadable, notices }
}

/** A damaged page stops a scan of the table. The index of the ids is elsewhere: through it each row that is left is read alone. */
function oneByOne(
  db: Database,
  select: string,
  seen: ReadonlySet<number>,
  take: (raw: unknown) => void,
  fail: (row: string, reason: string | null) => void,
): void {
  const one = db.query<unknown, [number]>(`${select} FROM sessions WHERE rowid = ?`)
  try {
    for (const { row, id } of db
      .query<{ row: number; id: unknown }, []>(`SELECT rowid AS row, id FROM sessions ORDER BY id LIMIT ${ROWS_MAX}`)
      .all()) {
      if (seen.has(row)) continue
      try {
        take(one.get(row))
      } catch (error) {
        fail(typeof id === "string" && id !== "" ? id : `row ${row}`, messageOf(error))
      }
    }
  } catch {
    fail("every row from the damage on", null)
  }
}

function sessionOf(row: z.infer<typeof rowSchema>): { readonly session: ClankSession; readonly isGuessed: boolean } {
  const created = clankTimeMs(row.created_at ?? "")
  const updated = clankTimeMs(row.updated_at ?? "")
  const guess = ulidTimeMs(row.id)
  const session = {
    id: row.id,
    backend: row.backend ?? "",
    nativeId: row.external_id ?? "",
    title: (nonEmpty(row.title) ?? firstLine(row.prompt ?? "")).slice(0, TITLE_MAX),
    status: row.status ?? "",
    visibility: row.visibility ?? "",
    directory: row.project_dir ?? "",
    worktree: row.worktree_id ?? "",
    branch: row.worktree_branch ?? "",
    createdAtMs: created ?? guess ?? updated,
    updatedAtMs: updated ?? guess ?? created,
  }
  return { session, isGuessed: created === null || updated === null }
}

function nonEmpty(value: string | null): string | null {
  return value === null || value.trim() === "" ? null : value
}

function firstLine(value: string): string {
  return value.trim().split("\n", 1)[0] ?? ""
}

function rowOf(raw: unknown): number | null {
  const found = z.object({ row: z.int() }).safeParse(raw)
  return found.success ? found.data.row : null
}

function nameOf(raw: unknown): string {
  const found = z.object({ id: z.string().min(1).max(200) }).safeParse(raw)
  return found.success ? found.data.id : `row ${rowOf(raw) ?? "?"}`
}

function reasonOf(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ")
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/**
 * What an import is about to change, kept so that it can be put back. A record is a SQLite file with the previous rows of every
 * affected session, and `record.json`, written last: without it the record is unfinished and nothing was changed. A second run of
 * an import makes a second record; undoing goes through them backwards.
 */
import type { Database } from "bun:sqlite"
import { open, readdir, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import { z } from "zod"
import { privateFolder, readTextIfExists, syncFolder, writeFileDurably } from "../../lib/files.ts"
import type { SqlValue } from "./chunks.ts"
import { writeOverFences } from "./fence-triggers.ts"
import { keyOf, type SessionTable, type StoreLayout } from "./store.ts"
import { attach } from "./writing.ts"

const recordSchema = z.object({
  schema: z.literal(1),
  /** Sessions that were there before; their rows are in the database. */
  existed: z.array(z.string()),
  /** Sessions that the import adds, forks among them. */
  absent: z.array(z.string()),
  /** Project row that the import adds, null when it was there. */
  projectAdded: z.string().nullable(),
  /** Files and folders that the import makes (undo snapshots). */
  filesAdded: z.array(z.string()),
})
export type UndoRecord = z.infer<typeof recordSchema>

/** Writes a finished, fsynced record of the named sessions' rows and answers its folder. Call before anything is changed. */
export async function recordUndo(
  db: Database,
  layout: StoreLayout,
  undoDirectory: string,
  record: Omit<UndoRecord, "schema">,
): Promise<string> {
  await privateFolder(undoDirectory)
  const number = (await recordNumbers(undoDirectory)).length + 1
  const folder = join(undoDirectory, `record-${number}`)
  await rm(folder, { recursive: true, force: true })
  await privateFolder(folder)
  const file = join(folder, "rows.db")
  await attach(db, file, "undo")
  try {
    db.run("BEGIN")
    for (const table of layout.columns.keys()) {
      db.query<unknown, [string]>(
        `CREATE TABLE undo.${table} AS SELECT * FROM main.${table}
         WHERE "${keyOf(table)}" IN (SELECT value FROM json_each(?1))`,
      ).run(JSON.stringify(record.existed))
    }
    db.run("COMMIT")
  } finally {
    db.run("DETACH undo")
  }
  await syncFile(file)
  await writeFileDurably(join(folder, "record.json"), JSON.stringify({ schema: 1, ...record }))
  await syncFolder(undoDirectory)
  await syncFolder(dirname(undoDirectory))
  return folder
}

/** Takes sessions out of a record that were not written after all: what goes on in them is not ours to take back. */
export async function dropFromUndo(folder: string, ids: ReadonlySet<string>): Promise<void> {
  const record = await readRecord(folder)
  if (record === null || ids.size === 0) return
  const others = (from: readonly string[]): string[] => from.filter((id) => !ids.has(id))
  const narrowed: UndoRecord = { ...record, existed: others(record.existed), absent: others(record.absent) }
  await writeFileDurably(join(folder, "record.json"), JSON.stringify(narrowed))
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r+")
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Numbers of the finished records, oldest first. */
async function recordNumbers(undoDirectory: string): Promise<number[]> {
  const names = await readdir(undoDirectory).catch(() => [])
  const numbers = names.flatMap((name) => /^record-(\d+)$/.exec(name)?.[1] ?? []).map(Number)
  const finished: number[] = []
  for (const number of numbers.toSorted((a, b) => a - b)) {
    if ((await readRecord(join(undoDirectory, `record-${number}`))) !== null) finished.push(number)
  }
  return finished
}

async function readRecord(folder: string): Promise<UndoRecord | null> {
  const text = await readTextIfExists(join(folder, "record.json"))
  return text === null ? null : recordSchema.parse(JSON.parse(text))
}

/** Whether a finished record is there that was not undone yet. */
export async function hasUndo(undoDirectory: string): Promise<boolean> {
  return (await recordNumbers(undoDirectory)).length > 0
}

/** Puts back what the records hold, newest first, each once. */
export async function applyUndo(db: Database, layout: StoreLayout, undoDirectory: string): Promise<void> {
  for (const number of (await recordNumbers(undoDirectory)).toReversed()) {
    const folder = join(undoDirectory, `record-${number}`)
    const record = await readRecord(folder)
    if (record === null) continue
    await attach(db, join(folder, "rows.db"), "undo")
    try {
      restoreRows(db, layout, record)
    } finally {
      db.run("DETACH undo")
    }
    for (const path of record.filesAdded) await rm(path, { recursive: true, force: true })
    // Undone once: what happens in the sessions from now on is not ours to take back.
    await rm(join(folder, "record.json"))
    await syncFolder(folder)
  }
}

/** Puts one session back as the record holds it, when what was written did not verify. */
export async function restoreSession(
  db: Database,
  layout: StoreLayout,
  folder: string,
  session: { readonly id: string; readonly existed: boolean; readonly forkId: string | null },
): Promise<void> {
  const { id, existed, forkId } = session
  const added = forkId === null ? [] : [forkId]
  const record = { existed: existed ? [id] : [], absent: existed ? added : [id, ...added], projectAdded: null }
  await attach(db, join(folder, "rows.db"), "undo")
  try {
    restoreRows(db, layout, record)
  } finally {
    db.run("DETACH undo")
  }
}

function restoreRows(
  db: Database,
  layout: StoreLayout,
  record: Pick<UndoRecord, "existed" | "absent" | "projectAdded">,
): void {
  const ids = JSON.stringify([...record.existed, ...record.absent])
  // A fence stands again afterwards, without the sessions that are gone.
  writeOverFences(db, () => {
    for (const [table, columns] of layout.columns) {
      const key = keyOf(table)
      if (table !== "session") deleteOf(db, table, key, ids)
      const names = columns.map((column) => `"${column}"`).join(", ")
      db.query<unknown, [string]>(
        `INSERT OR REPLACE INTO main.${table} (${names}) SELECT ${names} FROM undo.${table}
         WHERE "${key}" IN (SELECT value FROM json_each(?1))`,
      ).run(ids)
    }
    deleteOf(db, "session", "id", JSON.stringify(record.absent))
    if (record.projectAdded === null) return
    db.query<unknown, SqlValue[]>(
      "DELETE FROM main.project WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM main.session WHERE project_id = ?1)",
    ).run(record.projectAdded)
  })
}

function deleteOf(db: Database, table: SessionTable, key: string, ids: string): void {
  db.query<unknown, [string]>(`DELETE FROM main.${table} WHERE "${key}" IN (SELECT value FROM json_each(?1))`).run(ids)
}

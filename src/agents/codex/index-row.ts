/**
 * The row that Codex's index (`state_N.sqlite`) may have of a session from before. Codex 0.169.0 makes a row for a rollout that it
 * finds, but does not mend one: while a row names a file that is gone, the session is found neither by `resume` nor by `unarchive`,
 * and the list of a directory goes by the row's.
 */
import { Database } from "bun:sqlite"
import { z } from "zod"
import type { CodexPlaces } from "./places.ts"
import { newest } from "./side-stores.ts"

export const indexRowSchema = z.object({
  rollout_path: z.string(),
  cwd: z.string(),
  archived: z.int(),
  archived_at: z.int().nullable(),
})
export type IndexRow = z.infer<typeof indexRowSchema>

async function withIndex<T>(places: CodexPlaces, work: (db: Database) => T): Promise<T | null> {
  const file = await newest(places, "state")
  if (file === null) return null
  try {
    const db = new Database(file, { readwrite: true, create: false })
    try {
      db.run("PRAGMA busy_timeout = 5000")
      return work(db)
    } finally {
      db.close()
    }
  } catch {
    // A schema of another version: Codex then says what it does not find.
    return null
  }
}

/** What the index says of a session; null when it does not know it. */
export async function readRow(places: CodexPlaces, id: string): Promise<IndexRow | null> {
  return await withIndex(places, (db) => {
    const row = db.query("SELECT rollout_path, cwd, archived, archived_at FROM threads WHERE id = ?1").get(id)
    return indexRowSchema.safeParse(row).data ?? null
  })
}

/** Makes an existing row say where the session lies. Other columns (name, pin, section) stay. */
export async function writeRow(places: CodexPlaces, id: string, row: IndexRow): Promise<void> {
  await withIndex(places, (db) =>
    db
      .query("UPDATE threads SET rollout_path = ?2, cwd = ?3, archived = ?4, archived_at = ?5 WHERE id = ?1")
      .run(id, row.rollout_path, row.cwd, row.archived, row.archived_at),
  )
}

/** Writing to opencode's SQLite store beside a running opencode. */
import { Database } from "bun:sqlite"
import { writeFile } from "node:fs/promises"
import { AppError } from "../../protocol/errors.ts"

/** How long a transaction of ours may hold the store's write lock, ms: opencode itself gives up after 5,000. */
const MAX_LOCK_MS = 3_000

/** Opens the store for writing. Foreign keys are off: rows are replaced in place, and nothing may cascade from that. */
export function openForWriting(database: string): Database {
  const db = new Database(database, { readwrite: true, create: false })
  db.run("PRAGMA busy_timeout = 5000")
  db.run("PRAGMA foreign_keys = OFF")
  db.run("PRAGMA synchronous = FULL")
  return db
}

/**
 * Runs `work` in one write transaction and takes it back when it fails or held the lock for more than three seconds.
 * @throws {AppError} busy when the store is locked by another process for more than five seconds, or ours took too long
 */
export function writeTransaction(db: Database, work: (check: () => void) => void): void {
  begin(db)
  const startedAt = performance.now()
  const check = (): void => {
    if (performance.now() - startedAt <= MAX_LOCK_MS) return
    throw new AppError("busy", `writing to opencode's store took more than ${MAX_LOCK_MS / 1000} s and was taken back`)
  }
  try {
    work(check)
    check()
    db.run("COMMIT")
  } catch (error) {
    db.run("ROLLBACK")
    throw error
  }
}

function begin(db: Database): void {
  try {
    db.run("BEGIN IMMEDIATE")
  } catch (error) {
    throw new AppError("busy", "opencode's store is locked by another process", { cause: error })
  }
}

/** Attaches a database file of ours, made when it is not there: a connection that may not create the store may not create this either. */
export async function attach(db: Database, file: string, name: "stage" | "undo"): Promise<void> {
  await writeFile(file, "", { flag: "a", mode: 0o600 })
  db.query<unknown, [string]>(`ATTACH ?1 AS ${name}`).run(file)
}

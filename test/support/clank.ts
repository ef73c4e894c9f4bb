/** A `host.db` as clank's versions 1 to 3 made it (Acksell/clank at 3f3bf30). */
import { Database } from "bun:sqlite"

/** 2026-05-12T14:55:53.167Z */
export const CLANK_AT_MS = 1_778_597_753_167

/** A ULID of that instant, ms. */
export function ulidAt(ms: number, n: number): string {
  const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
  let time = ""
  for (let rest = ms, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = (alphabet[rest % 32] ?? "") + time
  return time + String(n).padStart(16, "0")
}

export function makeClankFile(path: string, version: 1 | 2 | 3, fill: (db: Database) => void): void {
  const db = new Database(path, { create: true, strict: true })
  db.run("PRAGMA journal_mode = WAL")
  const worktree = version === 1 ? "git_remote" : "worktree_id"
  const time = version === 3 ? "INTEGER" : "DATETIME"
  db.run(`CREATE TABLE sessions (id TEXT PRIMARY KEY, external_id TEXT, backend TEXT NOT NULL, status TEXT NOT NULL,
    visibility TEXT NOT NULL DEFAULT '', follow_up INTEGER NOT NULL DEFAULT 0, project_dir TEXT NOT NULL DEFAULT '',
    ${worktree} TEXT NOT NULL DEFAULT '', worktree_branch TEXT NOT NULL DEFAULT '', prompt TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT '', ticket_id TEXT NOT NULL DEFAULT '', agent TEXT NOT NULL DEFAULT '', draft TEXT NOT NULL DEFAULT '',
    created_at ${time} NOT NULL, updated_at ${time} NOT NULL, last_read_at ${time})`)
  db.run("CREATE INDEX idx_sessions_updated_at ON sessions(updated_at)")
  db.run(`PRAGMA user_version = ${version}`)
  fill(db)
  db.close()
}

/** One session; what is not said is that of an idle one of opencode. */
export function addClankRow(db: Database, row: Readonly<Record<string, string | number | Uint8Array | null>>): void {
  const full = {
    external_id: "ses_1",
    backend: "opencode",
    status: "idle",
    created_at: CLANK_AT_MS,
    updated_at: CLANK_AT_MS,
    ...row,
  }
  const names = Object.keys(full)
  db.query(`INSERT INTO sessions (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`).run(
    ...Object.values(full),
  )
}

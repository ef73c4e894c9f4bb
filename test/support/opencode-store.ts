/** A store with opencode's schema (the tables of 1.18.33 that hold sessions), for tests that need no opencode. */
import { Database } from "bun:sqlite"
import { mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"

const SCHEMA = `
CREATE TABLE migration (id TEXT PRIMARY KEY, time_completed INTEGER NOT NULL);
CREATE TABLE project (id text PRIMARY KEY, worktree text NOT NULL, vcs text, name text, icon_url text, icon_url_override text,
  icon_color text, time_created integer NOT NULL, time_updated integer NOT NULL, time_initialized integer, sandboxes text NOT NULL,
  commands text);
CREATE TABLE session (id text PRIMARY KEY, project_id text NOT NULL, workspace_id text, parent_id text, slug text NOT NULL,
  directory text NOT NULL, path text, title text NOT NULL, version text NOT NULL, share_url text, summary_additions integer,
  summary_deletions integer, summary_files integer, summary_diffs text, metadata text, cost real DEFAULT 0 NOT NULL,
  tokens_input integer DEFAULT 0 NOT NULL, revert text, permission text, agent text, model text, time_created integer NOT NULL,
  time_updated integer NOT NULL, time_compacting integer, time_archived integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL, time_updated integer NOT NULL,
  data text NOT NULL, FOREIGN KEY (session_id) REFERENCES session(id) ON DELETE CASCADE);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL, time_created integer NOT NULL,
  time_updated integer NOT NULL, data text NOT NULL, FOREIGN KEY (message_id) REFERENCES message(id) ON DELETE CASCADE);
CREATE TABLE todo (session_id text NOT NULL, content text NOT NULL, status text NOT NULL, priority text NOT NULL,
  position integer NOT NULL, time_created integer NOT NULL, time_updated integer NOT NULL, PRIMARY KEY (session_id, position));
CREATE TABLE event_sequence (aggregate_id text PRIMARY KEY, seq integer NOT NULL, owner_id text);
CREATE TABLE event (id text PRIMARY KEY, aggregate_id text NOT NULL, seq integer NOT NULL, type text NOT NULL, data text NOT NULL);
CREATE TABLE session_share (session_id text PRIMARY KEY, id text NOT NULL, secret text NOT NULL, url text NOT NULL,
  time_created integer NOT NULL, time_updated integer NOT NULL);
CREATE UNIQUE INDEX event_aggregate_seq_idx ON event (aggregate_id, seq);
CREATE INDEX message_session_time_created_id_idx ON message (session_id, time_created, id);
CREATE INDEX part_message_id_id_idx ON part (message_id, id);
CREATE INDEX part_session_idx ON part (session_id);
INSERT INTO migration VALUES ('20260622202450_simplify_session_input', 1);
INSERT INTO project (id, worktree, time_created, time_updated, sandboxes) VALUES ('p1', '/', 1, 1, '[]');`

/** Makes `HOME/.local/share/opencode/opencode.db` and answers its path. */
export async function makeOpencodeStore(home: string): Promise<string> {
  const file = join(home, ".local/share/opencode/opencode.db")
  await mkdir(dirname(file), { recursive: true })
  const db = new Database(file)
  db.run("PRAGMA journal_mode = WAL")
  db.run(SCHEMA)
  db.close()
  return file
}

const id = (kind: string, n: number): string =>
  `${kind}_${(0x2057c1c38000 + n).toString(16)}${String(n).padStart(14, "0")}`

/** Id of the n-th session that `addSession` makes. */
export const sessionId = (n: number): string => id("ses", n)

/** Adds a session with `turns` finished turns of a question and an answer; answers its id. */
export function addSession(
  file: string,
  options: { readonly n: number; readonly directory: string; readonly turns: number; readonly text?: string },
): string {
  const db = new Database(file)
  const session = sessionId(options.n)
  db.query(
    `INSERT INTO session (id, project_id, slug, directory, path, title, version, model, time_created, time_updated)
     VALUES (?, 'p1', 'slug', ?, '', ?, '1.18.33', '{"providerID":"fake"}', 1000, 2000)`,
  ).run(session, options.directory, `Session ${options.n}`)
  db.query("INSERT INTO event_sequence VALUES (?, -1, NULL)").run(session)
  db.close()
  addTurns(file, { ...options, from: 0 })
  return session
}

/** Adds turns to a session. */
export function addTurns(
  file: string,
  options: {
    readonly n: number
    readonly directory: string
    readonly turns: number
    readonly from: number
    readonly text?: string
  },
): void {
  const db = new Database(file)
  const session = sessionId(options.n)
  const insert = (table: string, values: readonly (string | number)[]): unknown =>
    db.query(`INSERT INTO ${table} VALUES (${values.map(() => "?").join(", ")})`).run(...values)
  db.transaction(() => {
    for (let turn = options.from; turn < options.from + options.turns; turn += 1) {
      const base = options.n * 1_000_000 + turn * 10
      const at = 10_000 + turn * 100
      const question = id("msg", base)
      insert("message", [question, session, at, at, JSON.stringify({ role: "user", time: { created: at } })])
      insert("part", [
        id("prt", base),
        question,
        session,
        at,
        at,
        JSON.stringify({ type: "text", text: `ask ${turn}` }),
      ])
      const answer = id("msg", base + 1)
      const done = {
        role: "assistant",
        parentID: question,
        path: { cwd: options.directory },
        time: { completed: at + 50 },
      }
      insert("message", [answer, session, at + 10, at + 50, JSON.stringify(done)])
      const text = `${options.text ?? "answer"} ${turn} ${options.directory}/file.ts`
      const part = JSON.stringify({ type: "text", text })
      insert("part", [id("prt", base + 1), answer, session, at + 10, at + 50, part])
      insert("event", [id("evt", base), session, turn, "message.part.updated.1", `{"part":${part}}`])
    }
    const last = options.from + options.turns - 1
    db.query("UPDATE event_sequence SET seq = ? WHERE aggregate_id = ?").run(last, session)
    db.query("UPDATE session SET time_updated = ? WHERE id = ?").run(20_000 + last, session)
  })()
  db.close()
}

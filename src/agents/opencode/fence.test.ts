/** The fence on a store with opencode's schema, and what becomes of it when that schema changes. */
import { Database } from "bun:sqlite"
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import { sessionRows } from "../../../test/support/opencode-home.ts"
import { addSession, addTurns, makeOpencodeStore, sessionId } from "../../../test/support/opencode-store.ts"
import type { FenceRequest, ImportedSession, SessionExport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { proveFence, setFence } from "./fence-triggers.ts"

const agent = opencodeAgent()
let folder: string
let store: string
let request: FenceRequest
let main: string
let child: string

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-fence-")))
  const topLevel = join(folder, "proj")
  await mkdir(topLevel)
  store = await makeOpencodeStore(folder)
  const scope = { env: { HOME: folder }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  request = {
    scope,
    folder: join(folder, "journal"),
    marks: join(folder, "marks"),
    words: "It's on dev\nbox; '); DROP TABLE session; --",
    hook: ["decamp", "hook"],
  }
  main = addSession(store, { n: 1, directory: topLevel, turns: 2 })
  child = addSession(store, { n: 2, directory: topLevel, turns: 1 })
  sql("UPDATE session SET parent_id = ? WHERE id = ?", main, child)
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const sql = (text: string, ...values: (string | number | null)[]): unknown[] => {
  const db = new Database(store)
  try {
    db.run("PRAGMA foreign_keys = ON")
    return db.query(text).all(...values)
  } finally {
    db.close()
  }
}
const master = (): unknown => sql("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
const strengths = async (): Promise<Record<string, string>> => Object.fromEntries(await agent.fenced(request))
const held = (): Record<string, string> => ({ [main]: "enforced", [child]: "enforced" })
const insertEvent = (id: string, seq = 900): unknown =>
  sql("INSERT INTO event VALUES (?, ?, ?, 'message.updated.1', '{}')", `evt_${seq}`, id, seq)

test("every way to go on with a fenced session is refused with the words, and nothing else", async () => {
  const other = addSession(store, { n: 3, directory: join(folder, "proj-too"), turns: 1 })
  expect(await agent.foresee(request)).toMatchObject([{ strength: "enforced" }, { strength: "enforced" }])
  expect(await readdir(folder)).not.toContain("journal")
  const before = sessionRows(store)
  const report = await agent.fence(request)
  expect(report).toEqual({
    sessions: [
      { id: main, strength: "enforced" },
      { id: child, strength: "enforced" },
    ],
    running: [],
  })
  expect(await strengths()).toEqual(held())
  const words = "It's on dev box; '); DROP TABLE session; --"
  for (const id of [main, child]) {
    expect(() => insertEvent(id)).toThrow(words)
    expect(() => sql("INSERT INTO message VALUES ('msg_new', ?, 1, 1, '{}')", id)).toThrow(words)
    expect(() => sql("DELETE FROM message WHERE session_id = ?", id)).toThrow(words)
    expect(() => sql("DELETE FROM session WHERE id = ?", id)).toThrow(words)
    expect(() =>
      sql(
        `INSERT INTO session (id, project_id, parent_id, slug, directory, title, version, time_created, time_updated)
         VALUES ('ses_kid', 'p1', ?, '', '/', '', '', 1, 1)`,
        id,
      ),
    ).toThrow(words)
  }
  expect(sessionRows(store)).toEqual(before)
  insertEvent(other)
  // What opencode does by itself at a start, and at its updates, goes through.
  sql("UPDATE session SET project_id = 'p1', workspace_id = NULL")
  sql("DELETE FROM event")
  expect((await readdir(request.marks)).toSorted()).toEqual([main, child].toSorted())
  expect(await readFile(join(request.marks, main), "utf8")).toContain("It's on dev")
})

test("lifting leaves no trace, and fences that were lost with the journal are lifted too", async () => {
  const before = master()
  await agent.fence(request)
  await rm(request.folder, { recursive: true })
  expect(await agent.lift({ ...request, folder: join(folder, "another journal"), words: "" })).toEqual([])
  expect(master()).toEqual(before)
  expect(await readdir(request.marks)).toEqual([])
  insertEvent(main)
  expect(await agent.lift(request)).toEqual([])
  expect(await strengths()).toEqual({})
})

test("another workspace's fence is neither lifted nor seen", async () => {
  const directory = join(folder, "proj-too")
  const other = addSession(store, { n: 3, directory, turns: 1 })
  const theirs = { ...request, folder: join(folder, "theirs"), scope: { ...request.scope, topLevel: directory } }
  await agent.fence(theirs)
  const before = master()
  await agent.fence(request)
  expect(await strengths()).toEqual(held())
  await agent.lift(request)
  expect(master()).toEqual(before)
  expect(() => insertEvent(other)).toThrow("on dev")
})

test("sessions that have come since are fenced by the next call, and new words are said", async () => {
  await agent.fence(request)
  const third = addSession(store, { n: 3, directory: request.scope.topLevel, turns: 1 })
  expect(await strengths()).toEqual(held())
  const before = master()
  await agent.fence({ ...request, words: "It is on elsewhere" })
  expect(master()).not.toEqual(before)
  expect(await strengths()).toEqual({ ...held(), [third]: "enforced" })
  expect(() => insertEvent(main)).toThrow("It is on elsewhere")
  expect(await readFile(join(request.marks, main), "utf8")).toBe("It is on elsewhere\n")
})

test("a fence that stands is not set again, and costs no look at the processes", async () => {
  await agent.fence(request)
  const version = sql("PRAGMA schema_version")
  const startedAt = performance.now()
  await agent.fence(request)
  expect(performance.now() - startedAt).toBeLessThan(50)
  expect(sql("PRAGMA schema_version")).toEqual(version)
})

test("a journal is there before a trigger is, and a crash between the two is lifted and set anew", async () => {
  const holder = new Database(store)
  holder.run("BEGIN IMMEDIATE")
  await expect(agent.fence(request)).rejects.toMatchObject({ code: "busy" })
  holder.run("ROLLBACK")
  holder.close()
  expect(JSON.parse(await readFile(join(request.folder, "fence.json"), "utf8"))).toMatchObject({ ids: [main, child] })
  expect(await strengths()).toEqual({})
  await agent.lift(request)
  expect(await readdir(request.folder)).toEqual([])
  await agent.fence(request)
  expect(await strengths()).toEqual(held())
}, 20_000)

test("a turn that begins between the look and the transaction is seen in it", async () => {
  const script = `
    const { Database } = require("bun:sqlite")
    const db = new Database(${JSON.stringify(store)})
    db.run("BEGIN IMMEDIATE")
    console.log("locked")
    await Bun.sleep(1500)
    db.run("INSERT INTO message VALUES ('msg_ffffffffffff0', ?, ?, 1, '{\\"role\\":\\"user\\"}')", ["${main}", Date.now()])
    db.run("COMMIT")`
  const other = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" })
  await other.stdout.getReader().read()
  const report = await agent.fence(request)
  expect(await other.exited).toBe(0)
  // Its child is spared with it.
  expect(report).toEqual({ sessions: [], running: expect.arrayContaining([main, child]) })
  expect(await strengths()).toEqual({})
}, 20_000)

test("a proof fails where no trigger is", () => {
  const db = new Database(store)
  db.run("BEGIN IMMEDIATE")
  setFence(db, { key: "0123456789ab", ids: [main], words: "away" })
  proveFence(db, [main])
  expect(() => proveFence(db, [main, child])).toThrow(child)
  db.run("DROP TRIGGER decamp_fence_message_0123456789ab")
  expect(() => proveFence(db, [main])).toThrow(main)
  // One that stands, and does nothing.
  db.run(
    `CREATE TRIGGER decamp_fence_message_0123456789ab BEFORE INSERT ON message
WHEN NEW.session_id IN ('${main}') BEGIN SELECT 1; END`,
  )
  expect(() => proveFence(db, [main])).toThrow("message")
  db.run("ROLLBACK")
  db.close()
})

test("a damaged journal makes the lift fail, and not be forgotten", async () => {
  await agent.fence(request)
  await writeFile(join(request.folder, "fence.json"), "{")
  await expect(agent.lift(request)).rejects.toThrow()
  expect(await strengths()).toEqual(held())
})

test.each([
  ["a column is added", "ALTER TABLE message ADD COLUMN later text"],
  ["another column is dropped", "ALTER TABLE session DROP COLUMN time_compacting"],
  ["a named column gets another name", "ALTER TABLE event RENAME COLUMN aggregate_id TO stream_id"],
  ["another table is rebuilt", "CREATE TABLE n AS SELECT * FROM todo; DROP TABLE todo; ALTER TABLE n RENAME TO todo"],
  ["events are emptied", "DELETE FROM event; DELETE FROM event_sequence"],
])("an update of opencode in which %s works on a fenced store, and the lift leaves nothing", async (name, change) => {
  await agent.fence(request)
  const db = new Database(store)
  db.run(change)
  db.close()
  // A fence that does not hold all that it should is none, until it is set again.
  const isWhole = !name.includes("another name")
  expect(await strengths()).toEqual(isWhole ? held() : {})
  if (isWhole) expect(() => insertEvent(main)).toThrow("on dev")
  await agent.lift(request)
  expect(sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")).toEqual([])
})

test.each(["event", "message", "session"])("a rebuilt table %s is noticed and fenced again", async (table) => {
  const before = sql("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", table) as { sql: string }[]
  await agent.fence(request)
  const db = new Database(store)
  // As drizzle's migrations do it.
  db.run("PRAGMA foreign_keys = OFF")
  db.run((before[0]?.sql ?? "").replace(`TABLE ${table}`, `TABLE __new_${table}`))
  db.run(`INSERT INTO __new_${table} SELECT * FROM ${table}`)
  db.run(`DROP TABLE ${table}`)
  db.run(`ALTER TABLE __new_${table} RENAME TO ${table}`)
  db.close()
  expect(await strengths()).toEqual({})
  // The rest of the fence holds meanwhile.
  if (table !== "event") expect(() => insertEvent(main)).toThrow("on dev")
  else expect(() => sql("INSERT INTO message VALUES ('msg_new', ?, 1, 1, '{}')", main)).toThrow("on dev")
  expect((await agent.fence(request)).sessions).toMatchObject([{ strength: "enforced" }, { strength: "enforced" }])
  expect(await strengths()).toEqual(held())
  await agent.lift(request)
  expect(sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")).toEqual([])
})

test("a store with an unknown schema is fenced, and that is said to be advisory", async () => {
  sql("INSERT INTO migration VALUES ('20990101000000_later', 1)")
  expect(await agent.foresee(request)).toMatchObject([{ strength: "advisory" }, { strength: "advisory" }])
  const { sessions } = await agent.fence(request)
  expect(sessions[0]).toMatchObject({ id: main, strength: "advisory", reason: expect.stringContaining("later") })
  expect(() => insertEvent(main)).toThrow("on dev")
  expect(await strengths()).toEqual({ [main]: "advisory", [child]: "advisory" })
})

test("a store without events is held by its messages and parts", async () => {
  sql("DROP TABLE event")
  await agent.fence(request)
  expect(() => sql("INSERT INTO message VALUES ('msg_new', ?, 1, 1, '{}')", main)).toThrow("on dev")
  const [message] = sessionRowsOf(main)
  expect(() => sql("INSERT INTO part VALUES ('prt_new', ?, ?, 1, 1, '{}')", message ?? "", main)).toThrow("on dev")
  expect(await strengths()).toEqual(held())
  await agent.lift(request)
  expect(sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")).toEqual([])
})

const sessionRowsOf = (id: string): string[] =>
  (sql("SELECT id FROM message WHERE session_id = ?", id) as { id: string }[]).map((row) => row.id)

test("a session with an id that is none of opencode's is not fenced, and that is said", async () => {
  const strange = "ses_1') OR 1"
  sql(
    `INSERT INTO session (id, project_id, slug, directory, title, version, time_created, time_updated)
     VALUES (?, 'p1', '', ?, '', '', 1, 1)`,
    strange,
    request.scope.topLevel,
  )
  const { sessions } = await agent.fence(request)
  expect(sessions.find(({ id }) => id === strange)).toMatchObject({ strength: "none", reason: expect.any(String) })
  expect(await strengths()).toEqual(held())
})

test("a thousand sessions are fenced within the limit of a lock, and others are not slowed down", async () => {
  const db = new Database(store)
  db.transaction(() => {
    for (let n = 10; n < 1010; n += 1) {
      db.query(
        `INSERT INTO session (id, project_id, slug, directory, path, title, version, time_created, time_updated)
         VALUES (?, 'p1', '', ?, '', '', '', 1, 1)`,
      ).run(sessionId(n), request.scope.topLevel)
    }
  })()
  const startedAt = performance.now()
  await agent.fence(request)
  expect(performance.now() - startedAt).toBeLessThan(3_000)
  const insert = db.query("INSERT INTO event VALUES (?, 'ses_other', ?, '', '{}')")
  const beganAt = performance.now()
  for (let n = 0; n < 100; n += 1) insert.run(`evt_n${n}`, n)
  expect((performance.now() - beganAt) / 100).toBeLessThan(3)
  db.close()
}, 20_000)

let blobs: MemoryBlobs
const take = async (from: FenceRequest): Promise<SessionExport> => {
  blobs = memoryBlobs()
  return await agent.export(from.scope, blobs.sink, { part: null, sessions: new Map() })
}
const bring = async (
  taken: SessionExport,
  fence: FenceRequest | undefined,
  base: ReadonlyMap<string, string> = new Map(),
): Promise<readonly ImportedSession[]> => {
  const { part, sessions } = taken
  const undoDirectory = join(folder, "undo")
  const { source } = blobs
  const { scope } = request
  const given = fence === undefined ? {} : { fence }
  return (await agent.import({ scope, part, sessions, source, base, undoDirectory, ...given })).sessions
}

test("arriving sessions step over the fence and stand fenced, forks too; undo leaves the fence as it was", async () => {
  await agent.fence(request)
  const taken = await take(request)
  const rows = sessionRows(store)
  // Here main went on, and a third one came; the child is unknown here.
  await agent.lift(request)
  addTurns(store, { n: 1, directory: request.scope.topLevel, turns: 1, from: 2 })
  sql("DELETE FROM session WHERE id = ?", child)
  sql("DELETE FROM event WHERE aggregate_id = ?", child)
  sql("DELETE FROM event_sequence WHERE aggregate_id = ?", child)
  await agent.fence(request)
  const [before, beforeMaster] = [sessionRows(store), master()]
  expect(await bring(taken, undefined)).toMatchObject([
    { id: main, outcome: "failed", reason: expect.stringContaining("fenced") },
    { id: child, outcome: "failed", reason: expect.stringContaining("on dev") },
  ])
  expect([sessionRows(store), master()]).toEqual([before, beforeMaster])
  const arrived = await bring(taken, request)
  const forkId = arrived[0]?.forkId ?? ""
  expect(arrived).toMatchObject([
    { id: main, outcome: "forked" },
    { id: child, outcome: "moved" },
  ])
  expect(await strengths()).toEqual({ ...held(), [forkId]: "enforced" })
  for (const id of [main, child, forkId]) expect(() => insertEvent(id)).toThrow("on dev")
  expect((await readdir(request.marks)).toSorted()).toEqual([main, child, forkId].toSorted())
  expect(sessionRows(store, [main, child]).message).toEqual(rows.message)
  await agent.undoImport(request.scope, join(folder, "undo"))
  expect([sessionRows(store), master()]).toEqual([before, beforeMaster])
  await agent.lift(request)
  expect(await readdir(request.marks)).toEqual([])
})

test("sessions that arrive where no fence stands yet are fenced, and triggers of others stay", async () => {
  const taken = await take(request)
  sql("DELETE FROM session")
  sql("DELETE FROM event")
  sql("DELETE FROM event_sequence")
  sql("CREATE TRIGGER theirs AFTER UPDATE ON event_sequence BEGIN SELECT 1; END")
  expect(await bring(taken, request)).toMatchObject([{ outcome: "moved" }, { outcome: "moved" }])
  expect(await strengths()).toEqual(held())
  const journal: unknown = JSON.parse(await readFile(join(request.folder, "fence.json"), "utf8"))
  expect(journal).toMatchObject({ ids: expect.arrayContaining([main, child]) })
  await agent.lift(request)
  expect(sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")).toEqual([{ name: "theirs" }])
})

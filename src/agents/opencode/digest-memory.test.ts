/** Which changes of a session make its digest be read again. */
import { Database } from "bun:sqlite"
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addSession, addTurns, makeOpencodeStore } from "../../../test/support/opencode-store.ts"
import { digestOf } from "./chunks.ts"
import { newDigestMemory } from "./digest-memory.ts"
import { layoutOf } from "./store.ts"

let home: string
let file: string
let db: Database
let id: string
const binding = { directories: ["/w"], projectId: "p1", toolOutput: "/o" }

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "decamp-memory-")))
  file = await makeOpencodeStore(home)
  id = addSession(file, { n: 1, directory: "/w", turns: 3 })
  db = new Database(file)
})

afterEach(async () => {
  db.close()
  await rm(home, { recursive: true, force: true })
})

test("what was read is known again until something changes, for its own binding and session only", () => {
  const memory = newDigestMemory()
  const layout = layoutOf(db)
  expect(memory.recall(db, layout, { id }, binding)).toBeNull()
  memory.remember(db, layout, { id }, binding, "d")
  expect(memory.recall(db, layout, { id }, binding)).toBe("d")
  expect(memory.recall(db, layout, { id }, { ...binding, directories: ["/w", "/x"] })).toBeNull()
  expect(memory.recall(db, layout, { id: addSession(file, { n: 2, directory: "/w", turns: 3 }) }, binding)).toBeNull()
})

test.each([
  ["a turn", () => addTurns(file, { n: 1, directory: "/w", turns: 1, from: 3 })],
  ["a title", () => db.run("UPDATE session SET title = 'other'")],
  ["a todo", () => db.run(`INSERT INTO todo VALUES ('${id}', 'c', 's', 'p', 0, 1, 1)`)],
  ["a todo's words", () => db.run("UPDATE todo SET content = 'b'")],
  ["a part, at its time, of another length", () => db.run("UPDATE part SET data = data || ' ' WHERE rowid = 1")],
  ["a part of the same length", () => db.run("UPDATE part SET time_updated = time_updated + 1 WHERE rowid = 1")],
  [
    "two parts whose times cancel out",
    () =>
      db.run(
        "UPDATE part SET time_updated = time_updated + CASE rowid WHEN 1 THEN -1 WHEN 2 THEN 1 ELSE 0 END, data = data || rowid",
      ),
  ],
  ["a message that is gone", () => db.run("DELETE FROM message WHERE rowid = (SELECT max(rowid) FROM message)")],
  [
    "an event in place of another",
    () => db.run("UPDATE event SET id = 'evt_x' WHERE seq = (SELECT max(seq) FROM event)"),
  ],
  ["a column of the schema", () => db.run("ALTER TABLE session ADD COLUMN later text")],
])("%s is noticed", (name, change) => {
  if (name === "a todo's words") db.run(`INSERT INTO todo VALUES ('${id}', 'a', 's', 'p', 0, 1, 1)`)
  const memory = newDigestMemory()
  memory.remember(db, layoutOf(db), { id }, binding, digestOf(db, layoutOf(db), { id }, binding))
  expect(memory.recall(db, layoutOf(db), { id }, binding)).not.toBeNull()
  change()
  expect(memory.recall(db, layoutOf(db), { id }, binding)).toBeNull()
})

test("nothing is remembered of a session that was just written to, or whose times lie ahead of the clock", () => {
  const at = 1_000_000
  for (const [newestMs, isKnown] of [
    [at - 2_000, true],
    [at - 1_999, false],
    [at + 3_600_000, false],
  ] as const) {
    db.run(`UPDATE part SET time_updated = ${newestMs} WHERE rowid = 1`)
    const memory = newDigestMemory(() => at)
    memory.remember(db, layoutOf(db), { id }, binding, "d")
    expect(memory.recall(db, layoutOf(db), { id }, binding)).toBe(isKnown ? "d" : null)
  }
})

test("what sessions name is read once, and again when one has changed, also where it is too fresh to remember", () => {
  const at = 1_000_000
  const memory = newDigestMemory(() => at)
  const other = addSession(file, { n: 2, directory: "/w", turns: 1 })
  const read: string[][] = []
  const look = (): string[] =>
    memory
      .names(db, [other, id], (ids) => {
        read.push([...ids])
        return {
          trees: ids.map((session) => ({ tree: `${session} ${read.length}`, session, part: null, isNeeded: false })),
          outputs: [],
        }
      })
      .trees.map(({ tree }) => tree)
  for (const each of [id, other]) memory.remember(db, layoutOf(db), { id: each }, binding, "d")
  const first = [`${id} 1`, `${other} 1`]
  expect([look(), look()]).toEqual([first, first])
  db.run(`UPDATE part SET time_updated = ${at} WHERE session_id = '${other}'`)
  for (const each of [id, other]) {
    if (memory.recall(db, layoutOf(db), { id: each }, binding) === null) {
      memory.remember(db, layoutOf(db), { id: each }, binding, "e")
    }
  }
  expect(look()).toEqual([`${id} 1`, `${other} 2`])
  expect(look()).toEqual([`${id} 1`, `${other} 3`])
  expect(read).toEqual([[other, id], [other], [other]])
})

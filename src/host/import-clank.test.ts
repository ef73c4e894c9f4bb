import { afterAll, expect, test } from "bun:test"
import { Database } from "bun:sqlite"
import { mkdir, mkdtemp, open, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addClankRow, CLANK_AT_MS as AT, makeClankFile, ulidAt } from "../../test/support/clank.ts"
import { openHostStore } from "./store/host-store.ts"
import { readClankFile } from "./import-clank-read.ts"
import { clankTimeMs, ulidTimeMs } from "./import-clank-times.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-clank-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

/** Its first ten characters are 2026-05-12T14:55:53.167Z. */
const ULID = ulidAt(AT, 1)

test.each([
  ["2026-05-12 14:55:53.167221395 +0000 UTC m=+1046.173573732", AT],
  ["2026-05-12 14:55:53.167221395 +0000 UTC m=-12.345", AT],
  ["2026-05-12 14:55:53.167221395 +0000 UTC", AT],
  ["2026-05-12 16:55:53.167221395 +0200 +0200", AT],
  ["2026-05-12 16:55:53.167221395 +0200 CEST m=+0.000000001", AT],
  ["2026-05-12 09:25:53.167221395 -0530 -0530", AT],
  ["2026-05-12T14:55:53.167221395Z", AT],
  ["2026-05-12T14:55:53Z", AT - 167],
  ["2026-05-12 14:55:53.1 +0000 UTC", AT - 67],
  ["2026-05-12 14:55:53.09 +0000 UTC", AT - 77],
  [String(AT), AT],
  ["", null],
  ["0", null],
  ["0001-01-01 00:00:00 +0000 UTC", null],
  ["2026-02-30T00:00:00Z", null],
  ["2026-13-01T00:00:00Z", null],
  ["99999999999999999999", null],
  ["yesterday", null],
  ["2026-05-12 14:55:53", null],
])("the time %p is %p", (text, ms) => {
  expect(clankTimeMs(text)).toBe(ms)
})

test("a ULID says when it was made, in either case of letters; another id says nothing", () => {
  // The example of github.com/ulid/spec: 01ARYZ6S41 is 1469918176385.
  expect(ulidTimeMs("01ARYZ6S41TSV4RRFFQ69G5FAV")).toBe(1_469_918_176_385)
  expect(ulidTimeMs(ULID.toLowerCase())).toBe(AT)
  expect(ulidTimeMs("81ARYZ6S41TSV4RRFFQ69G5FAV")).toBeNull()
  expect(ulidTimeMs("01ARYZ6S41TSV4RRFFQ69G5FAI")).toBeNull()
  expect(ulidTimeMs("ses_1")).toBeNull()
})

/** A host.db in a folder of its own. */
async function clankFile(version: 1 | 2 | 3, fill: (db: Database) => void): Promise<string> {
  const path = join(await mkdtemp(join(folder, "file-")), "host.db")
  makeClankFile(path, version, fill)
  return path
}

async function read(file: string): ReturnType<typeof readClankFile> {
  return await readClankFile(file, await mkdtemp(join(folder, "scratch-")))
}

test("version 3 is read whole: title, agent, native id, directory, worktree, branch, times", async () => {
  const file = await clankFile(3, (db) =>
    addClankRow(db, {
      id: ULID,
      title: "Fix the cart",
      project_dir: "/src/shop",
      worktree_id: "wt_1",
      worktree_branch: "main",
      visibility: "archived",
      updated_at: AT + 5,
    }),
  )
  expect(await read(file)).toEqual({
    version: 3,
    unreadable: [],
    notices: [],
    sessions: [
      {
        id: ULID,
        backend: "opencode",
        nativeId: "ses_1",
        title: "Fix the cart",
        status: "idle",
        visibility: "archived",
        directory: "/src/shop",
        worktree: "wt_1",
        branch: "main",
        createdAtMs: AT,
        updatedAtMs: AT + 5,
      },
    ],
  })
})

test.each([1, 2] as const)(
  "version %p: printed times become milliseconds, a lost one comes from the id",
  async (version) => {
    const file = await clankFile(version, (db) => {
      addClankRow(db, {
        id: ulidAt(AT - 1000, 1),
        created_at: "2026-05-12 16:55:53.167221395 +0200 +0200",
        updated_at: "2026-05-12T14:55:54Z",
      })
      addClankRow(db, {
        id: ulidAt(AT - 1000, 2),
        created_at: "garbage",
        updated_at: "",
        prompt: "\nadd a test\nand more",
      })
      addClankRow(db, { id: "no-ulid", created_at: "garbage", updated_at: "garbage" })
    })
    const { sessions, notices, unreadable } = await read(file)
    expect(unreadable).toEqual([])
    expect(sessions).toMatchObject([
      { createdAtMs: AT, updatedAtMs: AT - 167 + 1000, worktree: "" },
      { createdAtMs: AT - 1000, updatedAtMs: AT - 1000, title: "add a test" },
      { createdAtMs: null, updatedAtMs: null },
    ])
    expect(notices).toEqual(["2 without a time that can be read: it was taken from the id, where that has one"])
  },
)

test("a row that can't be read is named, and the others come", async () => {
  const file = await clankFile(3, (db) => {
    addClankRow(db, { id: "one" })
    addClankRow(db, { id: "two", title: new Uint8Array([0xff, 0xfe, 0]) })
    addClankRow(db, { id: null })
    addClankRow(db, { id: "four" })
  })
  const { sessions, unreadable } = await read(file)
  expect(sessions.map(({ id }) => id)).toEqual(["one", "four"])
  expect(unreadable.map(({ row }) => row)).toEqual(["two", "row 3"])
  expect(unreadable[0]?.reason).toContain("title")
})

test("a damaged page costs the rows in it, each by name, and no other", async () => {
  const file = await clankFile(3, (db) => {
    for (let n = 0; n < 200; n++) addClankRow(db, { id: ulidAt(AT, n), prompt: "x".repeat(900) })
    db.run("PRAGMA wal_checkpoint(TRUNCATE)")
  })
  const bytes = await readFile(file)
  // A leaf of the table, not of its indexes: the prompt follows the id.
  const at = bytes.indexOf(`${ulidAt(AT, 100)}ses_1`)
  const handle = await open(file, "r+")
  await handle.write(Buffer.alloc(64, 0xff), 0, 64, at - (at % 4096))
  await handle.close()
  const { sessions, unreadable } = await read(file)
  expect(unreadable.map(({ row }) => row)).toContain(ulidAt(AT, 100))
  expect(unreadable.length).toBeLessThan(10)
  expect(sessions.length + unreadable.length).toBe(200)
})

test("rows that are still in clank's log are read, and the file and its folder stay as they are", async () => {
  const file = await clankFile(3, (db) => addClankRow(db, { id: "one" }))
  const writer = new Database(file, { strict: true })
  addClankRow(writer, { id: "two" })
  const names = await readdir(join(file, ".."))
  const before = await Promise.all(names.map(async (name) => await readFile(join(file, "..", name))))
  expect((await read(file)).sessions.map(({ id }) => id)).toEqual(["one", "two"])
  expect(await readdir(join(file, ".."))).toEqual(names)
  const after = await Promise.all(names.map(async (name) => await readFile(join(file, "..", name))))
  // The shared memory beside the log is the writer's own.
  names.forEach((name, i) => expect([name, after[i]?.equals(before[i] ?? Buffer.alloc(0))]).toEqual([name, true]))
  writer.close()
})

test("what is not clank's is refused by name", async () => {
  const other = join(folder, "other.db")
  const db = new Database(other, { create: true })
  db.run("CREATE TABLE sessions (id TEXT)")
  db.close()
  await Bun.write(
    join(folder, "text.db"),
    "not a database at all, but long enough to have a header of its own".repeat(20),
  )
  await mkdir(join(folder, "folder.db"))
  expect(read(other)).rejects.toMatchObject({ code: "damaged_data", message: expect.stringContaining("external_id") })
  expect(read(join(folder, "text.db"))).rejects.toMatchObject({ code: "damaged_data" })
  expect(read(join(folder, "folder.db"))).rejects.toMatchObject({ code: "not_found" })
  expect(read(join(folder, "none.db"))).rejects.toMatchObject({ code: "not_found" })
})

test("the same list twice changes nothing; of two lists the newer row stays", async () => {
  const file = await clankFile(3, (db) => {
    addClankRow(db, { id: "one", title: "new", updated_at: AT + 5 })
    addClankRow(db, { id: "two" })
  })
  const { sessions } = await read(file)
  const store = openHostStore(folder)
  expect(store.clank.save(sessions)).toEqual({ added: 2, updated: 0 })
  expect(store.clank.save(sessions)).toEqual({ added: 0, updated: 0 })
  const older = sessions.map((session) => ({ ...session, title: "old", updatedAtMs: AT - 5 }))
  expect(store.clank.save(older)).toEqual({ added: 0, updated: 0 })
  expect(store.clank.save(sessions.map((session) => ({ ...session, directory: "/x" })))).toEqual({
    added: 0,
    updated: 2,
  })
  store.close()
  const again = openHostStore(folder)
  expect(again.clank.list().map(({ id, title, directory }) => [id, title, directory])).toEqual([
    ["one", "new", "/x"],
    ["two", "", "/x"],
  ])
  again.close()
})

/** Export and import between two stores with opencode's schema: no opencode is started here. */
import { Database } from "bun:sqlite"
import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { memoryBlobs, type MemoryBlobs } from "../../../test/support/memory-blobs.ts"
import { sessionRows } from "../../../test/support/opencode-home.ts"
import { addSession, addTurns, makeOpencodeStore, sessionId } from "../../../test/support/opencode-store.ts"
import type { BlobId } from "../../protocol/ids.ts"
import type { AgentScope, ImportedSession, SessionExport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { sessionDigest } from "./chunks.ts"

const agent = opencodeAgent()
let folder: string
let blobs: MemoryBlobs
let source: AgentScope
let target: AgentScope
let sourceStore: string
let targetStore: string

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-import-")))
  blobs = memoryBlobs()
  const scope = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  source = await scope("a")
  target = await scope("b")
  sourceStore = await makeOpencodeStore(join(folder, "a"))
  targetStore = await makeOpencodeStore(join(folder, "b"))
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const take = async (known?: SessionExport, scope = source): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (
  taken: SessionExport,
  base?: SessionExport,
  undo = "undo",
): Promise<readonly ImportedSession[]> => {
  const imported = await agent.import({
    scope: target,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, undo),
  })
  return imported.sessions
}
const edit = (store: string, sql: string, ...values: (string | number | null)[]): void => {
  const db = new Database(store)
  db.query(sql).run(...values)
  db.close()
}
/** The exported sessions with one chunk's text changed, as a host that lies would send them. */
async function forged(taken: SessionExport, change: (text: string) => string): Promise<SessionExport> {
  const [entry] = taken.sessions
  if (entry === undefined) throw new Error("no session")
  const ids: BlobId[] = []
  for (const id of entry.blobs) {
    const text = change(new TextDecoder().decode(blobs.contents.get(id)))
    const ref = await blobs.sink.put([new TextEncoder().encode(text)] as unknown as AsyncIterable<Uint8Array>)
    ids.push(ref.id)
  }
  return { ...taken, sessions: [{ ...entry, blobs: ids, digest: sessionDigest(ids) }] }
}

test("rows, times and unknown columns arrive; what belongs to the host stays, and is said", async () => {
  const id = addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 3 })
  for (const store of [sourceStore, targetStore]) edit(store, "ALTER TABLE session ADD COLUMN later text")
  edit(sourceStore, "UPDATE session SET later = 'new', share_url = 'https://x', workspace_id = 'w', time_archived = 5")
  edit(sourceStore, "INSERT INTO session_share VALUES (?, 's', 'secret', 'https://x', 1, 1)", id)
  const long = JSON.stringify({ type: "tool", state: { metadata: { outputPath: "/data/tool-output/x" } } })
  edit(sourceStore, "UPDATE part SET data = ? WHERE id = (SELECT max(id) FROM part)", long)
  edit(sourceStore, "CREATE TABLE session_mood (session_id text, mood text)")
  edit(sourceStore, "INSERT INTO session_mood VALUES (?, 'good')", id)
  const taken = await take(undefined, { ...source, withArchived: true })
  expect(taken.notTravelling.map(({ path, reason }) => `${path} ${reason}`)).toEqual([
    expect.stringContaining("share link"),
    expect.stringContaining("session_mood"),
    expect.stringContaining("1 long tool outputs"),
  ])
  for (const bytes of blobs.contents.values()) expect(new TextDecoder().decode(bytes)).not.toContain("secret")
  expect(await bring(taken)).toEqual([{ id, outcome: "moved" }])
  const [row] = sessionRows(targetStore).session
  expect(row).toMatchObject({ later: "new", share_url: null, workspace_id: null, time_archived: 5, project_id: "r1" })
  expect(row).toMatchObject({ directory: target.topLevel, time_created: 1000, time_updated: 20_002, path: "" })
  expect((await agent.sessions(target))[0]?.title).toBe("Session 1 (archived)")
  // On the way back the link at home is still there.
  edit(targetStore, "UPDATE session SET title = 'There'")
  ;[source, target, sourceStore, targetStore] = [target, source, targetStore, sourceStore]
  expect(await bring(await take(taken), taken, "undo-back")).toEqual([{ id, outcome: "moved" }])
  expect(sessionRows(targetStore).session).toMatchObject([
    { title: "There", share_url: "https://x", workspace_id: "w" },
  ])
})

test("archived sessions stay with their children and are listed, unless they are asked for or went before", async () => {
  const [kept, archived, child] = [1, 2, 3].map((n) =>
    addSession(sourceStore, { n, directory: source.topLevel, turns: 1 }),
  )
  edit(sourceStore, "UPDATE session SET time_archived = 5 WHERE id = ?", archived ?? "")
  edit(sourceStore, "UPDATE session SET parent_id = ? WHERE id = ?", archived ?? "", child ?? "")
  const taken = await take()
  expect(taken.sessions.map(({ id }) => id)).toEqual([kept ?? ""])
  expect(taken.notTravelling).toEqual([
    { kind: "session", path: archived ?? "", reason: expect.stringContaining("--archived") },
  ])
  const all = await take(taken, { ...source, withArchived: true })
  expect(all.sessions).toHaveLength(3)
  expect(all.notTravelling).toEqual([])
  edit(sourceStore, "UPDATE session SET time_archived = 6 WHERE id = ?", kept ?? "")
  expect((await take(all)).sessions).toHaveLength(3)
})

test("a long tool output arrives as a file, bound to it, is not sent again, and an undo takes it away", async () => {
  const id = addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 1 })
  const folderOf = (scope: AgentScope): string => join(scope.env["HOME"] ?? "", ".local/share/opencode/tool-output")
  const path = join(folderOf(source), "tool_206d00000001ABCdef")
  await mkdir(folderOf(source), { recursive: true })
  await writeFile(path, "x".repeat(100_000))
  const state = { output: `Full output saved to: ${path}\nx`, metadata: { truncated: true, outputPath: path } }
  edit(
    sourceStore,
    "UPDATE part SET data = ? WHERE id = (SELECT max(id) FROM part)",
    JSON.stringify({ type: "tool", state }),
  )
  const taken = await take()
  expect(taken.notTravelling).toEqual([])
  expect(taken.part.shared.map(({ name }) => name)).toEqual(["tool-output/tool_206d00000001ABCdef"])
  // The entry itself: the file was not read again.
  expect((await take(taken)).part.shared[0]).toBe(taken.part.shared[0] as (typeof taken.part.shared)[number])
  expect(await bring(taken)).toEqual([{ id, outcome: "moved" }])
  const there = join(folderOf(target), "tool_206d00000001ABCdef")
  expect(await readFile(there, "utf8")).toBe("x".repeat(100_000))
  const data = String(sessionRows(targetStore).part.at(-1)?.["data"])
  expect(data.split(there)).toHaveLength(3)
  expect(data).not.toContain(path)
  expect((await agent.digests(target, [id])).get(id)).toBe(taken.sessions[0]?.digest ?? "")
  await agent.undoImport(target, join(folder, "undo"))
  expect(await readdir(folderOf(target))).toEqual([])
  // One that can't be read does not hold the session up; a name that leads elsewhere does.
  for (const { blobs: ids } of taken.part.shared) for (const blob of ids) blobs.contents.delete(blob)
  expect(await bring(taken, undefined, "undo-2")).toMatchObject([{ id, outcome: "moved", reason: expect.any(String) }])
  const named = taken.part.shared.map((content) => ({ ...content, name: "tool-output/../../evil" }))
  const evil = { ...taken, part: { ...taken.part, shared: named } }
  await expect(bring(evil, undefined, "undo-3")).rejects.toMatchObject({ code: "damaged_data" })
})

test("a session that grew puts only what is new, and one that shrank is smaller there too", async () => {
  const text = "lorem ipsum ".repeat(2_000)
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 200, text })
  const first = await take()
  const all = blobs.newBytes()
  expect(first.sessions[0]?.blobs.length).toBeGreaterThan(10)
  await bring(first)
  addTurns(sourceStore, { n: 1, directory: source.topLevel, turns: 2, from: 200, text })
  const grown = await take(first)
  expect(blobs.newBytes()).toBeLessThan(all / 4)
  expect(await bring(grown, first, "undo-2")).toMatchObject([{ outcome: "moved" }])
  expect(sessionRows(targetStore).part).toHaveLength(404)
  edit(sourceStore, "DELETE FROM part WHERE message_id IN (SELECT id FROM message ORDER BY time_created DESC LIMIT 6)")
  edit(sourceStore, "DELETE FROM message WHERE id IN (SELECT id FROM message ORDER BY time_created DESC LIMIT 6)")
  expect(await bring(await take(grown), grown, "undo-3")).toMatchObject([{ outcome: "moved" }])
  expect(sessionRows(targetStore).message).toEqual(
    JSON.parse(JSON.stringify(sessionRows(sourceStore).message).replaceAll(source.topLevel, target.topLevel)),
  )
})

test.each([
  ["rows of another session", (text: string) => text.replaceAll(sessionId(1), sessionId(2))],
  ["JSON that is none", (text: string) => text.replaceAll('"{\\"type\\":', '"{\\"type\\"')],
  ["a directory outside", (text: string) => text.replace('"\\u0001D"', '"\\u0001D/../../etc"')],
  ["parts without their message", (text: string) => (text.startsWith('{"table":"message"') ? "" : text)],
  ["a column that is not there", (text: string) => text.replace('"slug"', '"slug\\") VALUES (1); --"')],
  ["a table that is not a session's", (text: string) => text.replace('"table":"todo"', '"table":"credential"')],
  ["lines that are no rows", (text: string) => `${text}nonsense\n`],
])("%s fail that session and change nothing", async (_name, change) => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 2 })
  edit(sourceStore, "INSERT INTO todo VALUES (?, 'c', 'pending', 'high', 0, 1, 1)", sessionId(1))
  const other = addSession(targetStore, { n: 2, directory: target.topLevel, turns: 1 })
  const before = sessionRows(targetStore)
  const bad = await forged(await take(), change)
  const [outcome] = await bring(bad)
  expect(outcome).toMatchObject({ id: sessionId(1), outcome: "failed" })
  expect(outcome?.reason).not.toContain("answer")
  expect(sessionRows(targetStore)).toEqual(before)
  expect(before.session).toMatchObject([{ id: other }])
})

test("a session can't bring records for another that arrives with it", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 1 })
  addSession(sourceStore, { n: 2, directory: source.topLevel, turns: 1 })
  edit(sourceStore, "INSERT INTO todo VALUES (?, 'c', 'pending', 'high', 0, 1, 1)", sessionId(1))
  const taken = await take()
  const [entry] = taken.sessions.filter(({ id }) => id === sessionId(1))
  if (entry === undefined) throw new Error("no session")
  const planted = await forged({ ...taken, sessions: [entry] }, (text) =>
    text.replace(`["c",0,"high","${sessionId(1)}"`, `["planted",0,"high","${sessionId(2)}"`),
  )
  const outcomes = await bring({
    ...taken,
    sessions: [...planted.sessions, ...taken.sessions.filter(({ id }) => id === sessionId(2))],
  })
  expect(outcomes).toMatchObject([
    { id: sessionId(1), outcome: "failed" },
    { id: sessionId(2), outcome: "moved" },
  ])
  expect(sessionRows(targetStore).todo).toEqual([])
})

test("a message id that another session uses here fails that session alone", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 1 })
  addSession(sourceStore, { n: 3, directory: source.topLevel, turns: 1 })
  const taken = await take()
  addSession(targetStore, { n: 2, directory: target.topLevel, turns: 1 })
  const stolen = String(sessionRows(sourceStore, [sessionId(1)]).message[0]?.["id"])
  edit(targetStore, "UPDATE message SET id = ? WHERE id = (SELECT min(id) FROM message)", stolen)
  const outcomes = await bring(taken)
  expect(outcomes.find(({ id }) => id === sessionId(1))).toMatchObject({ outcome: "failed" })
  expect(outcomes.find(({ id }) => id === sessionId(3))).toMatchObject({ outcome: "moved" })
  expect(sessionRows(targetStore, [sessionId(2)]).message).toHaveLength(2)
})

test("text that names the destination's path is no place: it is carried and verified", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 1, text: `it was in ${target.topLevel}/x` })
  expect(await bring(await take())).toMatchObject([{ outcome: "moved" }])
  expect(JSON.stringify(sessionRows(targetStore).part)).toContain(`it was in ${target.topLevel}/x`)
})

test("another spelling of the directory is found, and becomes the real one", async () => {
  const link = join(folder, "link")
  await symlink(source.topLevel, link)
  await mkdir(join(source.topLevel, "sub"))
  const id = addSession(sourceStore, { n: 1, directory: join(link, "sub"), turns: 1 })
  const taken = await take()
  expect(taken.sessions).toMatchObject([{ id, newestMessageAtMs: 10_010, provider: "fake", wasRunning: false }])
  await bring(taken)
  expect(sessionRows(targetStore).session).toMatchObject([{ directory: join(target.topLevel, "sub"), path: "sub" }])
})

test("a store that stays locked fails the session, and a second run brings it in; undo goes back past both", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 2 })
  addSession(targetStore, { n: 2, directory: target.topLevel, turns: 1 })
  const before = sessionRows(targetStore)
  const taken = await take()
  const holder = new Database(targetStore)
  holder.run("BEGIN IMMEDIATE")
  expect(await bring(taken)).toMatchObject([{ outcome: "failed", reason: expect.stringContaining("locked") }])
  holder.run("ROLLBACK")
  holder.close()
  expect(sessionRows(targetStore)).toEqual(before)
  expect(await bring(taken)).toMatchObject([{ outcome: "moved" }])
  expect(await bring(taken)).toMatchObject([{ outcome: "unchanged" }])
  expect((await readdir(join(folder, "undo"))).toSorted()).toEqual(["record-1", "record-2"])
  await agent.undoImport(target, join(folder, "undo"))
  expect(sessionRows(targetStore)).toEqual(before)
  const db = new Database(targetStore)
  expect(db.query("SELECT id FROM project").all()).toEqual([{ id: "p1" }])
  db.close()
}, 20_000)

test("a session that reads back as something else is put back as it was", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 2 })
  addSession(sourceStore, { n: 2, directory: source.topLevel, turns: 2 })
  const first = await take()
  await bring(first)
  addTurns(sourceStore, { n: 1, directory: source.topLevel, turns: 1, from: 2 })
  edit(targetStore, "DELETE FROM part WHERE session_id = ?", sessionId(2))
  edit(targetStore, "DELETE FROM message WHERE session_id = ?", sessionId(2))
  edit(targetStore, "DELETE FROM session WHERE id = ?", sessionId(2))
  const before = sessionRows(targetStore, [sessionId(1)])
  // A store that changes what is written to it.
  edit(targetStore, "CREATE TRIGGER lies AFTER INSERT ON part BEGIN UPDATE part SET data = '{}' WHERE id = NEW.id; END")
  const outcomes = await bring(await take(first), first, "undo-2")
  expect(outcomes).toMatchObject([
    { outcome: "failed", reason: expect.stringContaining("read back") },
    { outcome: "failed", reason: expect.stringContaining("read back") },
  ])
  edit(targetStore, "DROP TRIGGER lies")
  expect(sessionRows(targetStore, [sessionId(1)]).message).toEqual(before.message)
  expect(sessionRows(targetStore, [sessionId(2)])).toMatchObject({ session: [], message: [], part: [] })
  // What was not written is not taken back either, whatever goes on in it.
  addTurns(targetStore, { n: 1, directory: target.topLevel, turns: 1, from: 7 })
  const after = sessionRows(targetStore)
  await agent.undoImport(target, join(folder, "undo-2"))
  expect(sessionRows(targetStore)).toEqual(after)
})

test("a large session is placed in several transactions and is whole", async () => {
  const text = "0123456789abcdef".repeat(65_536)
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 60, text })
  const taken = await take()
  expect(await bring(taken)).toMatchObject([{ outcome: "moved" }])
  expect(await agent.digests(target, [sessionId(1)])).toEqual(await agent.digests(source, [sessionId(1)]))
}, 30_000)

test("of a large session whose last step fails nothing is left", async () => {
  const text = "0123456789abcdef".repeat(65_536)
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 40, text })
  edit(targetStore, "CREATE TRIGGER no BEFORE INSERT ON session BEGIN SELECT RAISE(ABORT, 'full'); END")
  edit(targetStore, "CREATE TABLE seen (n integer)")
  edit(targetStore, "CREATE TRIGGER saw AFTER INSERT ON part BEGIN INSERT INTO seen VALUES (1); END")
  expect(await bring(await take())).toMatchObject([{ outcome: "failed", reason: "full" }])
  const db = new Database(targetStore)
  expect(db.query("SELECT count(*) AS n FROM seen").get()).not.toEqual({ n: 0 })
  db.close()
  expect(sessionRows(targetStore)).toMatchObject({ session: [], message: [], part: [], event: [] })
}, 30_000)

test("an undo folder without a finished record changes nothing", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 2 })
  await bring(await take())
  await rm(join(folder, "undo/record-1/record.json"))
  const before = sessionRows(targetStore)
  await agent.undoImport(target, join(folder, "undo"))
  expect(sessionRows(targetStore)).toEqual(before)
})

test("a store with an unknown schema is not written to", async () => {
  addSession(sourceStore, { n: 1, directory: source.topLevel, turns: 2 })
  edit(targetStore, "INSERT INTO migration VALUES ('20990101000000_later', 1)")
  const taken = await take()
  expect(await bring(taken)).toMatchObject([
    { outcome: "failed", reason: expect.stringContaining("20990101000000_later") },
  ])
  expect(sessionRows(targetStore).session).toEqual([])
})

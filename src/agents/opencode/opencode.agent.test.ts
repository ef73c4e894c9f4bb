/** Sessions of the real opencode, from one home to another and back. The tests of this file go on from each other, in order. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, expect, test } from "bun:test"
import { createHash } from "node:crypto"
import { appendFile, cp, lstat, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run } from "../../lib/process.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { memoryBlobs } from "../../../test/support/memory-blobs.ts"
import {
  exportSession,
  listSessions,
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  startPrompt,
  startServer,
  type OpencodeHome,
} from "../../../test/support/opencode-home.ts"
import type { AgentScope, SessionExport, SessionImport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"

const agent = opencodeAgent()
const blobs = memoryBlobs()
const ORIGIN = "https://github.com/acme/proj.git"
let folder: string
let model: FakeModel
let laptop: OpencodeHome
let remote: OpencodeHome
let here: string
let there: string
let main: string
let child: string
let first: SessionExport
let back: SessionExport
let imports = 0

const scopeOf = (home: OpencodeHome, topLevel: string): AgentScope => ({
  env: home.env,
  topLevel,
  excluded: [],
  rootCommit: null,
  originUrl: ORIGIN,
})
const local = (): AgentScope => scopeOf(laptop, here)
const distant = (): AgentScope => scopeOf(remote, there)
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (scope: AgentScope, taken: SessionExport, base?: SessionExport): Promise<SessionImport> => {
  imports += 1
  return await agent.import({
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${imports}`),
  })
}

async function git(cwd: string, ...argv: string[]): Promise<void> {
  const env = { PATH: process.env["PATH"] ?? "", HOME: folder }
  const names = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
  const result = await run(["git", ...names, ...argv], { cwd, env })
  if (result.exitCode !== 0) throw new Error(result.stderr)
}

/** Every file below a folder with the hash of its bytes. */
async function treeHashes(top: string, path = ""): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of await readdir(join(top, path))) {
    if (path === "" && name === ".git") continue
    const each = join(path, name)
    if ((await lstat(join(top, each))).isDirectory()) Object.assign(found, await treeHashes(top, each))
    else
      found[each] = createHash("sha256")
        .update(await readFile(join(top, each)))
        .digest("hex")
  }
  return found
}

/** Rows as text with one place's path written as the other's, so that only real differences remain. */
function rowsAt(home: OpencodeHome, from: string, to: string, ids?: readonly string[]): unknown {
  return JSON.parse(JSON.stringify(sessionRows(home.database, ids)).replaceAll(from, to))
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-opencode-")))
  model = startFakeModel()
  laptop = await makeOpencodeHome(join(folder, "laptop"), model.baseUrl)
  remote = await makeOpencodeHome(join(folder, "remote"), model.baseUrl)
  here = join(folder, "laptop/src/proj")
  there = join(folder, "remote/work/other name")
  await mkdir(here, { recursive: true })
  await git(here, "init", "-q")
  await git(here, "remote", "add", "origin", ORIGIN)
  await writeFile(join(here, "a.txt"), "one\n")
  await writeFile(join(here, "b.txt"), "bee\n")
  await git(here, "add", ".")
  await git(here, "commit", "-qm", "one")
  // Dirty before the agent begins: neither the edit nor the new file is in any commit.
  await appendFile(join(here, "a.txt"), "edited by hand\n")
  await writeFile(join(here, "untracked.txt"), "mine\n")
  const sub = toolCall("bash", { command: "echo sub > sub.txt", description: "sub" })
  const script = [
    toolCall("write", { filePath: join(here, "made.txt"), content: "made\n" }),
    toolCall("bash", { command: "pwd; echo agent >> a.txt", description: "edit" }),
    toolCall("todowrite", { todos: [{ id: "1", content: `read ${here}/a.txt`, status: "pending", priority: "high" }] }),
    toolCall("task", { description: "child", prompt: `do sub ${sub}`, subagent_type: "general" }),
  ]
  await runPrompt({ home: laptop, cwd: here, title: "Main", prompt: `first ${script.join("")}` })
  const rows = sessionRows(laptop.database)
  main = String(rows.session.find((row) => row["parent_id"] === null)?.["id"])
  child = String(rows.session.find((row) => row["parent_id"] === main)?.["id"])
}, 120_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("sessions made before decamp came are found, the child of a task among them", async () => {
  const sessions = await agent.sessions(local())
  expect(sessions.map(({ id, parentId, title, state }) => ({ id, parentId, title, state }))).toEqual([
    { id: main, parentId: null, title: "Main", state: "idle" },
    { id: child, parentId: main, title: expect.stringContaining("child"), state: "idle" },
  ])
  expect(await agent.detect(laptop.env)).toMatchObject({
    version: "1.18.33",
    schemaStamp: "20260622202450_simplify_session_input",
  })
  expect(await agent.providers(laptop.env)).toEqual(["fake", "opencode"])
  expect(await agent.sessions(scopeOf(laptop, folder))).toHaveLength(2)
  expect(await agent.sessions({ ...scopeOf(laptop, folder), excluded: [here] })).toHaveLength(0)
  expect(await agent.sessions(scopeOf(laptop, `${here}x`))).toHaveLength(0)
})

test("they arrive at another path with every record, bound to it, and verified", async () => {
  await mkdir(join(folder, "remote/work"), { recursive: true })
  await cp(here, there, { recursive: true })
  first = await take(local())
  expect(first.skipped).toEqual([])
  expect(first.part.shared.length).toBeGreaterThan(0)
  const arrived = await bring(distant(), first)
  expect(arrived).toEqual({
    path: "sqlite",
    sessions: [
      { id: main, outcome: "moved", undo: "available" },
      { id: child, outcome: "moved", undo: "available" },
    ],
  })
  expect(rowsAt(remote, there, here)).toEqual(rowsAt(laptop, here, here))
  expect(JSON.stringify(sessionRows(remote.database))).not.toContain(here)
  expect(sessionRows(remote.database).todo).toMatchObject([{ content: `read ${there}/a.txt` }])
  const exported = JSON.stringify(await exportSession(remote, there, main)).replaceAll(there, here)
  expect(JSON.parse(exported)).toEqual(await exportSession(laptop, here, main))
  expect(await listSessions(remote, there)).toMatchObject([{ id: main, title: "Main", directory: there }])
}, 60_000)

test("nothing is exported again while nothing changed, on either host", async () => {
  blobs.newBytes()
  const again = await take(local(), first)
  expect(again.sessions.every((entry, index) => entry === first.sessions[index])).toBe(true)
  const other = await take(distant(), first)
  expect(other.sessions.map(({ digest }) => digest)).toEqual(first.sessions.map(({ digest }) => digest))
  expect(other.part.shared).toEqual(first.part.shared)
  expect(blobs.newBytes()).toBe(0)
  const repeated = await bring(distant(), first, first)
  expect(repeated.sessions.map(({ outcome }) => outcome)).toEqual(["unchanged", "unchanged"])
})

test("undo at the destination gives the right file back, and no other byte on either host changes", async () => {
  // Both sides are dirty in their own way before the step is undone.
  await appendFile(join(there, "b.txt"), "edited at the destination\n")
  await writeFile(join(there, "fresh.txt"), "fresh\n")
  await appendFile(join(here, "b.txt"), "edited at the source\n")
  const before = { here: await treeHashes(here), there: await treeHashes(there) }
  const messages = sessionRows(remote.database).message.filter((row) => row["session_id"] === main)
  const question = messages.find((row) => String(row["data"]).includes('"role":"user"'))?.["id"]
  await using server = await startServer(remote, there)
  await server.request("POST", `/session/${main}/revert`, { messageID: question })
  expect(await readFile(join(there, "a.txt"), "utf8")).toBe("one\nedited by hand\n")
  const after = await treeHashes(there)
  // What the agent made is gone, the file it edited is as the hand left it, everything else is untouched.
  const { "made.txt": _made, "sub.txt": _sub, "a.txt": _edited, ...others } = before.there
  expect(after).toEqual({ ...others, "a.txt": createHash("sha256").update("one\nedited by hand\n").digest("hex") })
  expect(await treeHashes(here)).toEqual(before.here)
}, 60_000)

test("the session goes on there with its whole history, and tools run in the new directory", async () => {
  await using server = await startServer(remote, there)
  await server.request("POST", `/session/${main}/unrevert`)
  await server.request("PATCH", `/session/${main}`, { title: "Renamed there" })
  const asked = model.requests.length
  const pwd = toolCall("bash", { command: "pwd > where.txt", description: "pwd" })
  await runPrompt({ home: remote, cwd: there, session: main, prompt: `second ${pwd}` })
  expect(await readFile(join(there, "where.txt"), "utf8")).toBe(`${there}\n`)
  const request = model.requests.slice(asked).find(({ tools }) => tools.length > 0)
  const texts = (request?.messages ?? []).map(textOf)
  expect(texts.some((text) => text.includes("first "))).toBe(true)
  expect(request?.messages.filter(({ role }) => role === "tool")).toHaveLength(4)
  expect(JSON.stringify(request?.messages)).not.toContain(here)
}, 60_000)

test("coming back applies a new title, a revert and the removal of messages", async () => {
  // Undo the second question there and ask another: opencode removes the messages of the first.
  const second = sessionRows(remote.database)
    .message.filter((row) => row["session_id"] === main && String(row["data"]).includes('"role":"user"'))
    .at(-1)?.["id"]
  {
    await using server = await startServer(remote, there)
    await server.request("POST", `/session/${main}/revert`, { messageID: second })
    await server.request("POST", `/session/${main}/message`, { parts: [{ type: "text", text: "third" }] })
    // opencode writes the summary of a turn after it answered.
    await Bun.sleep(1500)
  }
  back = await take(distant(), first)
  const changed = back.sessions.filter((entry, index) => entry.digest !== first.sessions[index]?.digest)
  expect(changed.map(({ id }) => id)).toEqual([main])
  const arrived = await bring(local(), back, first)
  expect(arrived.sessions.map(({ id, outcome }) => ({ id, outcome }))).toEqual([
    { id: main, outcome: "moved" },
    { id: child, outcome: "unchanged" },
  ])
  expect(rowsAt(laptop, here, there)).toEqual(rowsAt(remote, there, there))
  expect(sessionRows(laptop.database).message.some((row) => row["id"] === second)).toBe(false)
  expect(await listSessions(laptop, here)).toMatchObject([{ id: main, title: "Renamed there", directory: here }])
}, 60_000)

test("undoing an import leaves every row as it was", async () => {
  const before = sessionRows(laptop.database)
  const older = { ...first, sessions: first.sessions.filter(({ id }) => id === main) }
  // With what is here as the base, the older state is simply newer news: it replaces.
  const arrived = await bring(local(), older, back)
  expect(arrived.sessions).toMatchObject([{ id: main, outcome: "moved" }])
  expect(sessionRows(laptop.database)).not.toEqual(before)
  const undo = join(folder, `undo-${imports}`)
  await agent.undoImport(local(), undo)
  expect(sessionRows(laptop.database)).toEqual(before)
  await agent.undoImport(local(), undo)
  await agent.undoImport(local(), join(folder, "never"))
  expect(sessionRows(laptop.database)).toEqual(before)
})

test("a session that went on on both sides is there twice, and one that went on only here is kept", async () => {
  const kept = await bring(local(), first, first)
  expect(kept.sessions).toMatchObject([
    { id: main, outcome: "kept" },
    { id: child, outcome: "unchanged" },
  ])
  const rows = sessionRows(laptop.database, [main])
  const forked = await bring(local(), first, { ...first, sessions: [] })
  const forkId = forked.sessions[0]?.forkId ?? ""
  expect(forked.sessions[0]).toMatchObject({ id: main, outcome: "forked" })
  const copy = sessionRows(laptop.database, [forkId])
  expect(copy.message.length).toBe(rows.message.length)
  expect(copy.session).toMatchObject([{ title: "Renamed there (kept by decamp: both sides went on)" }])
  const opened = (await exportSession(laptop, here, forkId)) as { messages: { info: { sessionID: string } }[] }
  expect(opened.messages).toHaveLength(rows.message.length)
  expect(opened.messages.every(({ info }) => info.sessionID === forkId)).toBe(true)
  await agent.undoImport(local(), join(folder, `undo-${imports}`))
  expect(sessionRows(laptop.database, [main])).toEqual(rows)
  expect(sessionRows(laptop.database, [forkId]).session).toEqual([])
}, 60_000)

test("a session with a broken record is skipped by name, the others go", async () => {
  const db = new Database(laptop.database)
  const broken = db.query("SELECT id, data FROM part WHERE session_id = ? LIMIT 1").get(child) as Record<string, string>
  db.query("UPDATE part SET data = ? WHERE id = ?").run('{"type":', broken["id"] ?? "")
  const taken = await take(local())
  expect(taken.sessions.map(({ id }) => id)).toEqual([main])
  expect(taken.skipped).toEqual([{ id: child, reason: expect.stringContaining(broken["id"] ?? "") }])
  db.query("UPDATE part SET data = ? WHERE id = ?").run(broken["data"] ?? "", broken["id"] ?? "")
  db.close()
})

test("without the trees undo changes no file, and the way back gives them again", async () => {
  const bare = await makeOpencodeHome(join(folder, "bare"), model.baseUrl)
  const place = join(folder, "bare/proj")
  await cp(here, place, { recursive: true })
  const scope = scopeOf(bare, place)
  const arrived = await bring(scope, { ...back, part: { ...back.part, shared: [] } })
  expect(arrived.sessions.map(({ outcome, undo }) => ({ outcome, undo }))).toEqual([
    { outcome: "moved", undo: "unavailable" },
    { outcome: "moved", undo: "unavailable" },
  ])
  const returned = await take(scope, back)
  expect(returned.sessions).toEqual(back.sessions)
  const before = await treeHashes(place)
  const question = sessionRows(bare.database).message.find((row) => row["session_id"] === main)?.["id"]
  await using server = await startServer(bare, place)
  await server.request("POST", `/session/${main}/revert`, { messageID: question })
  expect(await treeHashes(place)).toEqual(before)
}, 60_000)

test("a turn in this directory is seen while it runs, one elsewhere never", async () => {
  const turn = startPrompt({ home: laptop, cwd: here, session: main, prompt: "slow [[slow:4000]]" })
  try {
    const asked = model.requests.length
    while (model.requests.length === asked) await Bun.sleep(50)
    const startedAt = performance.now()
    const seen = await agent.processes(local())
    expect(performance.now() - startedAt).toBeLessThan(400)
    expect(seen).toEqual([{ pid: turn.pid, command: "opencode run", state: "running" }])
    expect((await agent.sessions(local())).find(({ id }) => id === main)).toMatchObject({
      state: "running",
      pids: [turn.pid],
    })
    expect(await agent.processes(scopeOf(laptop, join(folder, "elsewhere")))).toEqual([])
  } finally {
    await turn.exited
  }
  expect(turn.exitCode).toBe(0)
  expect(await agent.processes(local())).toEqual([])
}, 60_000)

test("a session file holds a session with its children and replaces an older state elsewhere", async () => {
  const file = join(folder, "main.session")
  expect((await agent.exportFile(local(), main, file)).map(({ id }) => id).toSorted()).toEqual([child, main].toSorted())
  expect(await agent.recognizes(file)).toBe(true)
  const imported = await agent.importFile(distant(), file, join(folder, "undo-file"))
  expect(imported.find(({ id }) => id === main)).toMatchObject({ outcome: "moved" })
  expect(rowsAt(remote, there, here, [main])).toEqual(rowsAt(laptop, here, here, [main]))
  const bytes = await readFile(file)
  await writeFile(file, bytes.subarray(0, bytes.byteLength - 100))
  await expect(agent.importFile(distant(), file, join(folder, "undo-file-2"))).rejects.toMatchObject({
    code: "damaged_data",
  })
  await expect(agent.exportFile(local(), "ses_none", file)).rejects.toMatchObject({ code: "unknown_session" })
}, 60_000)

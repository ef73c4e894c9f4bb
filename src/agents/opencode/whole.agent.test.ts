/** All that belongs to a session, made by the real opencode, at another place under another HOME. The tests go on from each other. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run } from "../../lib/process.ts"
import { startFakeModel, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { memoryBlobs } from "../../../test/support/memory-blobs.ts"
import {
  exportSession,
  listSessions,
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  startServer,
  type OpencodeHome,
} from "../../../test/support/opencode-home.ts"
import type { AgentScope, SessionExport, SessionImport } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"

const agent = opencodeAgent()
const blobs = memoryBlobs()
/** A picture of one pixel. */
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
let folder: string
let model: FakeModel
let laptop: OpencodeHome
let remote: OpencodeHome
let here: string
let there: string
let main: string
let archived: string
let taken: SessionExport

const scopeOf = (home: OpencodeHome, topLevel: string): AgentScope => ({
  env: home.env,
  topLevel,
  excluded: [],
  rootCommit: null,
  originUrl: "https://github.com/acme/whole.git",
  withArchived: true,
})
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (
  scope: AgentScope,
  what: SessionExport,
  base: SessionExport | null,
  undo: string,
): Promise<SessionImport> =>
  await agent.import({
    scope,
    part: what.part,
    sessions: what.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, undo),
  })
const outputPaths = (home: OpencodeHome): string[] =>
  sessionRows(home.database).part.flatMap((row) => {
    const data = JSON.parse(String(row["data"])) as { state?: { metadata?: { outputPath?: string } } }
    return data.state?.metadata?.outputPath ?? []
  })
const session = (home: OpencodeHome, id: string): Record<string, unknown> =>
  sessionRows(home.database, [id]).session[0] ?? {}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-whole-")))
  model = startFakeModel()
  laptop = await makeOpencodeHome(join(folder, "laptop"), model.baseUrl)
  remote = await makeOpencodeHome(join(folder, "remote"), model.baseUrl)
  for (const home of [laptop, remote]) {
    // Without it opencode sends a model no picture.
    const config = join(home.path, ".config/opencode/opencode.json")
    const seeing =
      '"tool_call": true, "attachment": true, "modalities": { "input": ["text", "image"], "output": ["text"] }'
    await writeFile(config, (await readFile(config, "utf8")).replace('"tool_call": true', seeing))
  }
  // A blank in the way: file URLs write it otherwise.
  here = join(folder, "laptop/my proj")
  there = join(folder, "remote/work")
  for (const place of [here, there]) {
    await mkdir(place, { recursive: true })
    const env = { PATH: process.env["PATH"] ?? "", HOME: folder }
    await run(["git", "init", "-q"], { cwd: place, env })
    await run(["git", "remote", "add", "origin", "https://github.com/acme/whole.git"], { cwd: place, env })
    await writeFile(join(place, "note.txt"), "a note\n")
    await writeFile(join(place, "pixel.png"), Buffer.from(PIXEL, "base64"))
  }
  const long = toolCall("bash", { command: "seq 1 30000", description: "count" })
  const todo = toolCall("todowrite", {
    todos: [{ id: "1", content: `read ${here}/a`, status: "pending", priority: "high" }],
  })
  const child = toolCall("task", { description: "child", prompt: `count ${long}`, subagent_type: "general" })
  await runPrompt({ home: laptop, cwd: here, title: "Main", prompt: `first ${long}${todo}${child}` })
  main = String(sessionRows(laptop.database).session.find((row) => row["title"] === "Main")?.["id"])
  await runPrompt({ home: laptop, cwd: here, title: "Old", prompt: "old" })
  archived = String(sessionRows(laptop.database).session.find((row) => row["title"] === "Old")?.["id"])
  await using server = await startServer(laptop, here)
  const url = `file://${encodeURI(here)}`
  await server.request("POST", `/session/${main}/message`, {
    parts: [
      { type: "text", text: "look at these" },
      { type: "file", mime: "text/plain", filename: "note.txt", url: `${url}/note.txt` },
      { type: "file", mime: "image/png", filename: "pixel.png", url: `${url}/pixel.png` },
      { type: "file", mime: "image/png", filename: "data.png", url: `data:image/png;base64,${PIXEL}` },
    ],
  })
  await server.request("PATCH", `/session/${archived}`, { time: { archived: Date.now() } })
  await server.request("PATCH", `/session/${main}`, { title: "Renamed by hand" })
  // Undone and not gone on: the undo itself has to travel.
  const questions = sessionRows(laptop.database, [main]).message.filter((row) =>
    String(row["data"]).includes('"role":"user"'),
  )
  await server.request("POST", `/session/${main}/revert`, { messageID: questions.at(-1)?.["id"] })
  await Bun.sleep(1_000)
}, 180_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("titles, todos, reverts, permissions, attachments and archived sessions arrive, and opencode shows them", async () => {
  taken = await take(scopeOf(laptop, here))
  expect(taken.notTravelling).toEqual([])
  expect(taken.skipped).toEqual([])
  const arrived = await bring(scopeOf(remote, there), taken, null, "undo")
  expect(arrived.sessions.map(({ outcome }) => outcome)).toEqual(["moved", "moved", "moved"])
  const text = JSON.stringify(sessionRows(remote.database))
  expect(text).not.toContain(here)
  expect(text).not.toContain(encodeURI(here))
  expect(text).toContain(`file://${there}/note.txt`)
  expect(text).toContain(PIXEL)
  expect(session(remote, main)).toMatchObject({
    title: "Renamed by hand",
    revert: String(session(laptop, main)["revert"]),
    permission: session(laptop, main)["permission"] as string,
  })
  expect(String(session(remote, main)["revert"])).toContain("messageID")
  expect(session(remote, archived)["time_archived"]).toBe(Number(session(laptop, archived)["time_archived"]))
  expect(sessionRows(remote.database).todo).toMatchObject([{ content: `read ${there}/a`, status: "pending" }])
  const [mine, its] = [await exportSession(laptop, here, main), await exportSession(remote, there, main)]
  const bound = JSON.stringify(mine)
    .replaceAll(encodeURI(here), there)
    .replaceAll(here, there)
    .replaceAll(laptop.dataDir, remote.dataDir)
  expect(its).toEqual(JSON.parse(bound))
  expect((await listSessions(remote, there)).map(({ id }) => id)).toContain(main)
  const again = await take(scopeOf(remote, there), taken)
  expect(again.sessions).toEqual(taken.sessions)
  expect(again.part.shared).toEqual(taken.part.shared)
}, 120_000)

test("long tool outputs of sessions and children lie where the arrived sessions say", async () => {
  const [from, to] = [outputPaths(laptop), outputPaths(remote)]
  expect(from).toHaveLength(2)
  expect(to.map((path) => path.replace(remote.dataDir, laptop.dataDir))).toEqual(from)
  for (const [index, path] of to.entries()) {
    expect(await readFile(path)).toEqual(await readFile(from[index] ?? ""))
  }
})

test("the session goes on there: undo is taken back, the picture and the whole output are there for the model", async () => {
  {
    await using server = await startServer(remote, there)
    await server.request("POST", `/session/${main}/unrevert`)
  }
  const asked = model.requests.length
  const tail = toolCall("bash", { command: `tail -1 '${outputPaths(remote)[0]}'; pwd`, description: "tail" })
  await runPrompt({ home: remote, cwd: there, session: main, prompt: `and now ${tail}` })
  const requests = model.requests.slice(asked).filter(({ tools }) => tools.length > 0)
  const sent = JSON.stringify(requests.at(-1)?.messages)
  expect(sent).toContain(PIXEL)
  expect(sent).toContain("a note")
  expect(sent).toContain(`30000\\n${there}`)
  expect(sent).not.toContain(here)
  const back = await take(scopeOf(remote, there), taken)
  const arrived = await bring(scopeOf(laptop, here), back, taken, "undo-back")
  expect(arrived.sessions.find(({ id }) => id === main)).toMatchObject({ outcome: "moved" })
  expect(session(laptop, main)["revert"]).toBeNull()
  const files = sessionRows(laptop.database, [main]).part.map((row) => String(row["data"]))
  expect(files.some((data) => data.includes(`file://${encodeURI(here)}/note.txt`))).toBe(true)
}, 120_000)

test("taking the first arrival back leaves neither sessions nor files", async () => {
  const other = await makeOpencodeHome(join(folder, "other"), model.baseUrl)
  const scope = scopeOf(other, join(folder, "other/proj"))
  await mkdir(scope.topLevel)
  await bring(scope, taken, null, "undo-other")
  expect(await readdir(join(other.dataDir, "tool-output"))).toHaveLength(2)
  await agent.undoImport(scope, join(folder, "undo-other"))
  expect(sessionRows(other.database).session).toEqual([])
  expect(await readdir(join(other.dataDir, "tool-output"))).toEqual([])
}, 60_000)

/** Sessions between versions of the real opencode: there, on, undone, back and on again. The table of tested pairs comes from here. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { cp, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { AgentScope, SessionExport } from "../../src/agents/agent.ts"
import { opencodeAgent } from "../../src/agents/opencode/agent.ts"
import { run } from "../../src/lib/process.ts"
import { requireTestAgents } from "../support/agents.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../support/fake-model.ts"
import { memoryBlobs } from "../support/memory-blobs.ts"
import {
  exportSession,
  makeOpencodeHome,
  runPrompt,
  sessionRows,
  startServer,
  type OpencodeHome,
} from "../support/opencode-home.ts"
import { newestAgent, otherOpencode, type OtherOpencode } from "../support/other-agents.ts"

const PINNED = "1.18.33"
const ORIGIN = "https://github.com/acme/versions.git"
const agent = opencodeAgent()
const blobs = memoryBlobs()
let folder: string
let model: FakeModel
let count = 0

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-versions-")))
  model = startFakeModel()
})

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

interface Place {
  readonly home: OpencodeHome
  readonly directory: string
  readonly scope: AgentScope
}

async function git(cwd: string, ...argv: string[]): Promise<void> {
  const names = ["-c", "user.name=A", "-c", "user.email=a@b"]
  const result = await run(["git", ...names, ...argv], { cwd, env: { PATH: process.env["PATH"] ?? "", HOME: folder } })
  if (result.exitCode !== 0) throw new Error(result.stderr)
}

async function place(name: string, { bin }: OtherOpencode): Promise<Place> {
  count += 1
  const made = await makeOpencodeHome(join(folder, `${count}-${name}`), model.baseUrl)
  const env = { ...made.env, PATH: `${bin}:${made.env["PATH"]}` }
  const directory = join(made.path, "proj")
  const scope = { env, topLevel: directory, excluded: [], rootCommit: null, originUrl: ORIGIN }
  return { home: { ...made, env, opencode: join(bin, "opencode") }, directory, scope }
}

const take = async ({ scope }: Place, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async ({ scope }: Place, taken: SessionExport, base: SessionExport | null): Promise<string[]> => {
  count += 1
  const imported = await agent.import({
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${count}`),
  })
  return imported.sessions.map(({ outcome, reason }) => reason ?? outcome)
}

/** A repository with a session that edits a tracked file, has a list of things to do and a child. */
async function withSession(at: Place): Promise<string> {
  const { home, directory } = at
  await mkdir(directory)
  await writeFile(join(directory, "a.txt"), "one\n")
  await git(directory, "init", "-q")
  await git(directory, "remote", "add", "origin", ORIGIN)
  await git(directory, "add", ".")
  await git(directory, "commit", "-qm", "one")
  await writeFile(join(directory, "a.txt"), "one\nby hand\n")
  const script = [
    toolCall("bash", { command: "echo agent >> a.txt", description: "edit" }),
    toolCall("todowrite", { todos: [{ id: "1", content: "to do", status: "pending", priority: "high" }] }),
    toolCall("task", { description: "child", prompt: "look", subagent_type: "general" }),
  ]
  await runPrompt({ home, cwd: directory, title: "Main", prompt: `first ${script.join("")}` })
  return String(sessionRows(home.database).session.find((row) => row["parent_id"] === null)?.["id"])
}

/** Lets the session go on; the model must have seen what was asked before. */
async function goOn({ home, directory }: Place, id: string, prompt: string, earlier: readonly string[]): Promise<void> {
  const asked = model.requests.length
  const pwd = toolCall("bash", { command: `pwd > ${prompt}.txt`, description: "pwd" })
  await runPrompt({ home, cwd: directory, session: id, prompt: `${prompt} ${pwd}` })
  expect(await readFile(join(directory, `${prompt}.txt`), "utf8")).toBe(`${directory}\n`)
  const sent = (model.requests.slice(asked).find(({ tools }) => tools.length > 0)?.messages ?? [])
    .map(textOf)
    .join("\n")
  for (const text of earlier) expect(sent).toContain(text)
}

async function thereAndBack(from: OtherOpencode, to: OtherOpencode): Promise<void> {
  const [source, target] = [await place("source", from), await place("target", to)]
  const id = await withSession(source)
  const first = await take(source)
  await cp(source.directory, target.directory, { recursive: true })
  const installed = await agent.detect(target.scope.env)
  if (installed === null) throw new Error("no opencode at the target")
  expect(installed.version).toBe(to.version)
  expect(agent.compareVersions(first.part, installed)).toMatchObject({ verdict: "go" })
  expect(await bring(target, first, null)).toEqual(["moved", "moved"])
  const shown = JSON.stringify(await exportSession(target.home, target.directory, id))
  const mine = JSON.stringify(await exportSession(source.home, source.directory, id))
  expect(JSON.parse(shown)).toEqual(JSON.parse(mine.replaceAll(source.directory, target.directory)))
  expect((await take(target, first)).sessions).toEqual(first.sessions)
  await goOn(target, id, "second", ["first"])
  const question = sessionRows(target.home.database).message.find((row) =>
    String(row["data"]).includes('"role":"user"'),
  )
  {
    await using server = await startServer(target.home, target.directory)
    await server.request("POST", `/session/${id}/revert`, { messageID: question?.["id"] })
    expect(await readFile(join(target.directory, "a.txt"), "utf8")).toBe("one\nby hand\n")
    await server.request("POST", `/session/${id}/unrevert`)
  }
  const back = await take(target, first)
  expect((await bring(source, back, first)).toSorted()).toEqual(["moved", "unchanged"])
  await goOn(source, id, "third", ["first", "second"])
  const rows = sessionRows(source.home.database, [id])
  expect(rows.session).toMatchObject([{ title: "Main", directory: source.directory }])
  expect(sessionRows(source.home.database).todo).toMatchObject([{ content: "to do" }])
}

const pinned = async (): Promise<OtherOpencode> => ({ version: PINNED, bin: (await requireTestAgents()).bin })

test.each([["1.17.19"], ["1.18.3"]] as const)(
  "%s and the pinned version take each other's sessions, in both directions",
  async (version) => {
    const other = await otherOpencode(version)
    if (other === null) return
    await thereAndBack(other, await pinned())
    await thereAndBack(await pinned(), other)
  },
  300_000,
)

test.each([["1.17.19"], ["1.18.3"]] as const)(
  "%s is fenced and prompted like the pinned version",
  async (version) => {
    const other = await otherOpencode(version)
    if (other === null) return
    const at = await place("fenced", other)
    const id = await withSession(at)
    const [folders, marks] = [join(at.home.path, "fence"), join(at.home.path, "marks")]
    await mkdir(folders)
    await mkdir(marks)
    const request = { scope: at.scope, folder: folders, marks, words: "it is away", hook: ["decamp", "hook"] }
    const before = sessionRows(at.home.database)
    expect((await agent.fence(request)).sessions.map(({ strength }) => strength)).toEqual(["enforced", "enforced"])
    const refused = runPrompt({ home: at.home, cwd: at.directory, session: id, prompt: "away" })
    await expect(refused).rejects.toThrow("opencode run ended with 1")
    expect(sessionRows(at.home.database)).toEqual(before)
    await agent.lift(request)
    const pieces: string[] = []
    const options = { onText: (text: string) => void pieces.push(text), signal: new AbortController().signal }
    await agent.prompt(at.scope, id, "-now 'with' \"quotes\"\n[[slow:800]]", options)
    expect(pieces.length).toBeGreaterThan(2)
    expect(pieces.join("")).toMatch(/^(tick )+REPLY#\d+ to: -now 'with' "quotes"/)
  },
  120_000,
)

test("npm's newest and the pinned version take each other's sessions, or say that they do not", async () => {
  const newest = await newestAgent("opencode")
  if (newest === null || newest.version === PINNED) return
  const target = await place("newest", newest)
  await mkdir(target.directory)
  await runPrompt({ home: target.home, cwd: target.directory, prompt: "hello" })
  const [there, here] = [
    await agent.detect(target.scope.env),
    await agent.detect((await place("p", await pinned())).scope.env),
  ]
  if (there === null || here === null) throw new Error("not installed")
  const verdict = agent.compareVersions({ version: PINNED, schemaStamp: there.schemaStamp }, there)
  if (verdict.verdict === "refuse") {
    expect(verdict.message).toContain(newest.version)
    throw new Error(`npm's newest is not known: ${verdict.message}`)
  }
  await thereAndBack(await pinned(), newest)
  await thereAndBack(newest, await pinned())
}, 300_000)

test("1.14.41 and the pinned version refuse each other's sessions, with words, also where a store is not there yet", async () => {
  const old = await otherOpencode("1.14.41")
  if (old === null) return
  const [source, target] = [await place("old", old), await place("new", await pinned())]
  await withSession(source)
  await expect(take(source)).rejects.toMatchObject({
    code: "agent_version",
    message: expect.stringContaining("20260504145000_add_sync_owner"),
    hint: expect.stringContaining("--leave-sessions"),
  })
  expect(await agent.sessions(source.scope)).toMatchObject([{ state: "idle" }, { state: "idle" }])
  const [older, newer] = [await agent.detect(source.scope.env), await agent.detect(target.scope.env)]
  if (older === null || newer === null) throw new Error("not installed")
  for (const verdict of [
    agent.compareVersions(older, newer),
    agent.compareVersions({ version: PINNED, schemaStamp: newer.schemaStamp }, older),
    agent.compareVersions(older, { ...older, schemaStamp: "" }),
  ]) {
    expect(verdict).toMatchObject({ verdict: "refuse", hint: expect.stringContaining("--leave-sessions") })
    expect(JSON.stringify(verdict)).toContain("1.14.41")
  }
}, 120_000)

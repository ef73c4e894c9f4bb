/** Sessions of the real Codex, from one home to another and back. The tests of this file go on from each other, in order. */
import { Database } from "bun:sqlite"
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { codexPrompt, codexRun, makeCodexHome, type CodexHome } from "../../../test/support/codex-home.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { memoryBlobs } from "../../../test/support/memory-blobs.ts"
import { openTerminal } from "../../../test/support/tmux.ts"
import { run } from "../../lib/process.ts"
import type { AgentScope, FenceRequest, ImportedSession, SessionExport } from "../agent.ts"
import { codexAgent } from "./agent.ts"
import { setPendingGoals } from "./goals.ts"
import { placesOf } from "./places.ts"
import { allRollouts } from "./rollouts.ts"
import { askServer } from "./stdio-server.ts"

const agent = codexAgent()
const blobs = memoryBlobs()
let folder: string
let model: FakeModel
let laptop: CodexHome
let remote: CodexHome
let here: string
let there: string
let main: string
let child: string
let first: SessionExport
let second: SessionExport
let imports = 0

const scopeOf = (home: CodexHome, topLevel: string): AgentScope => ({
  env: home.env,
  topLevel,
  excluded: [],
  rootCommit: null,
  originUrl: null,
})
const local = (): AgentScope => scopeOf(laptop, here)
const distant = (): AgentScope => scopeOf(remote, there)
const take = async (scope: AgentScope, known?: SessionExport): Promise<SessionExport> =>
  await agent.export(scope, blobs.sink, {
    part: known?.part ?? null,
    sessions: new Map(known?.sessions.map((entry) => [entry.id, entry])),
  })
const bring = async (
  scope: AgentScope,
  taken: SessionExport,
  base?: SessionExport,
  fence?: FenceRequest,
): Promise<readonly ImportedSession[]> => {
  imports += 1
  const request = {
    scope,
    part: taken.part,
    sessions: taken.sessions,
    source: blobs.source,
    base: new Map(base?.sessions.map((entry) => [entry.id, entry.digest])),
    undoDirectory: join(folder, `undo-${imports}`),
  }
  return (await agent.import(fence === undefined ? request : { ...request, fence })).sessions
}
const pathOf = async (home: CodexHome, id: string): Promise<string> => {
  const found = (await allRollouts(placesOf(home.env), new Map())).find((rollout) => rollout.id === id)
  if (found === undefined) throw new Error(`no rollout of ${id} in ${home.path}`)
  return found.path
}
const ask = async (home: CodexHome, cwd: string, method: string, params: object): Promise<string> =>
  JSON.stringify(await askServer(home.codex, { env: home.env, cwd }, [{ method, params: { ...params } }]))
/** What the model was told in the newest request of a session. */
const toldOf = (id: string): { readonly text: string; readonly prompts: readonly string[] } => {
  const messages = model.requests.findLast(({ session }) => session === id)?.messages ?? []
  return { text: JSON.stringify(messages), prompts: messages.filter(({ role }) => role === "user").map(textOf) }
}
const ordinals = async (path: string): Promise<boolean> =>
  (await readFile(path, "utf8"))
    .trimEnd()
    .split("\n")
    .every((line, index) => (JSON.parse(line) as { ordinal: number }).ordinal === index)

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-")))
  model = startFakeModel()
  here = join(folder, "laptop/src/my proj")
  there = join(folder, "remote/work/other")
  laptop = await makeCodexHome(join(folder, "laptop"), model.baseUrl, [here])
  remote = await makeCodexHome(join(folder, "remote"), model.baseUrl, [there])
  for (const directory of [here, there]) await mkdir(directory, { recursive: true })
  await writeFile(join(here, "image.png"), Buffer.from(PNG, "base64"))
  const sub = toolCall("exec_command", { cmd: "pwd > sub.txt" })
  const script = [
    toolCall("exec_command", { cmd: "pwd; echo made > made.txt" }),
    toolCall("view_image", { path: join(here, "image.png") }),
    toolCall("multi_agent_v1/spawn_agent", { message: `do sub ${sub}` }),
    toolCall("exec_command", { cmd: "for i in 1 2 3 4 5 6 7 8 9; do test -e sub.txt || sleep 1; done; sleep 1" }),
  ]
  const prompt = `first, not in ${there}/x ${script.join("")}`
  main = (await codexPrompt({ home: laptop, cwd: here, prompt })).id
  child = (await agent.sessions(local())).find(({ parentId }) => parentId === main)?.id ?? ""
  await ask(laptop, here, "thread/name/set", { threadId: main, name: "Nice name" })
  await ask(laptop, here, "thread/goal/set", {
    threadId: main,
    objective: `finish ${here}/a.txt`,
    status: "paused",
    tokenBudget: 77,
  })
}, 120_000)

const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAABQAAAAUCAIAAAAC64paAAAAG0lEQVR4nGP4z8BANiJf56jmUc2jmkc1U0UzADHNjoAymaoJAAAAAElFTkSuQmCC"

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("sessions made before decamp came are found, the sub-agent's among them", async () => {
  const sessions = await agent.sessions(local())
  expect(sessions.map(({ id, parentId, title, state }) => ({ id, parentId, title, state }))).toContainAllValues([
    { id: main, parentId: null, title: "Nice name", state: "idle" },
    { id: child, parentId: main, title: expect.stringContaining("do sub"), state: "idle" },
  ])
  expect(await agent.detect(laptop.env)).toMatchObject({ version: "codex-cli 0.169.0", schemaStamp: "state_5" })
  expect(await agent.providers(laptop.env)).toContain("fake")
  expect(await readFile(join(here, "sub.txt"), "utf8")).toBe(`${here}\n`)
})

test("with a fence they arrive in the archive, where Codex refuses to go on with them", async () => {
  first = await take(local())
  expect(first.skipped).toEqual([])
  expect(first.sessions).toHaveLength(2)
  const fence = { scope: distant(), folder: join(folder, "fence"), marks: join(folder, "marks"), words: "", hook: [] }
  expect((await bring(distant(), first, undefined, fence)).map(({ outcome }) => outcome)).toEqual(["moved", "moved"])
  const refused = await codexRun({ home: remote, cwd: there, session: main, prompt: "too early" })
  expect(refused.exitCode).not.toBe(0)
  expect(refused.stderr).toContain("archived")
  const ids = [main, child]
  expect(await agent.digests(distant(), ids)).toEqual(await agent.digests(local(), ids))
  const unarchived = await run([remote.codex, "unarchive", main], { env: remote.env, cwd: there })
  expect(unarchived.exitCode).toBe(0)
  expect(await setPendingGoals(fence)).toEqual(new Map())
  expect(await agent.digests(distant(), ids)).toEqual(await agent.digests(local(), ids))
}, 60_000)

test("Codex itself finds them there by directory, with name, goal, parent and every record", async () => {
  const listed = await ask(remote, there, "thread/list", { cwd: there, sourceKinds: ["exec", "cli"] })
  expect(listed).toContain(main)
  expect(listed).toContain('"name":"Nice name"')
  expect(await ask(remote, there, "thread/goal/get", { threadId: main })).toContain(
    `"objective":"finish ${there}/a.txt","status":"paused","tokenBudget":77`,
  )
  expect(await ask(remote, there, "thread/read", { threadId: child })).toContain(`"parentThreadId":"${main}"`)
  const text = await readFile(await pathOf(laptop, main), "utf8")
  expect(await readFile(await pathOf(remote, main), "utf8")).toBe(
    text
      .replaceAll(Bun.pathToFileURL(here).href, Bun.pathToFileURL(there).href)
      .replaceAll(here, there)
      .replaceAll(laptop.codexHome, remote.codexHome),
  )
})

test("the session goes on there with its whole history, and tools run in the new directory", async () => {
  const prompt = `second ${toolCall("exec_command", { cmd: "pwd > where.txt" })}`
  await codexPrompt({ home: remote, cwd: there, session: main, prompt })
  expect(await readFile(join(there, "where.txt"), "utf8")).toBe(`${there}\n`)
  const { text, prompts } = toldOf(main)
  expect(prompts.filter((each) => /^(first|second)/.test(each))).toHaveLength(2)
  expect(text).not.toContain(laptop.path)
  expect(text).toContain(PNG)
  expect(await ordinals(await pathOf(remote, main))).toBe(true)
}, 60_000)

test("coming back, the records at home stay byte for byte and only the rest is added; it goes on here", async () => {
  const path = await pathOf(laptop, main)
  const before = await readFile(path)
  second = await take(distant(), first)
  expect(second.sessions.filter((entry) => !first.sessions.includes(entry)).map(({ id }) => id)).toEqual([main])
  expect((await bring(local(), second, first)).map(({ id, outcome }) => [id, outcome])).toContainAllValues([
    [main, "moved"],
    [child, "unchanged"],
  ])
  expect((await readFile(path)).subarray(0, before.byteLength).equals(before)).toBe(true)
  await codexPrompt({ home: laptop, cwd: here, session: main, prompt: "third" })
  const { text, prompts } = toldOf(main)
  expect(prompts.filter((each) => /^(first|second|third)/.test(each))).toHaveLength(3)
  // What the person typed about the other directory is as it was typed, everything else is bound here.
  expect(text.split(there)).toHaveLength(2)
  expect(await ordinals(path)).toBe(true)
}, 60_000)

test("when both sides went on, both are there under names that say so, and both open", async () => {
  await codexPrompt({ home: remote, cwd: there, session: main, prompt: "fourth, there" })
  const third = await take(distant(), second)
  const forked = (await bring(local(), third, second)).find(({ id }) => id === main)
  expect(forked).toMatchObject({ outcome: "forked" })
  const forkId = forked?.forkId ?? ""
  await codexPrompt({ home: laptop, cwd: here, session: main, prompt: "fifth" })
  await codexPrompt({ home: laptop, cwd: here, session: forkId, prompt: "fifth" })
  const asked = (id: string): string[] =>
    toldOf(id).prompts.flatMap((each) => /^(third|fourth|fifth)/.exec(each)?.[0] ?? [])
  expect(asked(main)).toEqual(["fourth", "fifth"])
  expect(asked(forkId)).toEqual(["third", "fifth"])
  const listed = await ask(laptop, here, "thread/list", { cwd: here, sourceKinds: ["exec", "cli"] })
  expect(listed).toContain('"name":"Nice name (kept by decamp: both sides went on)"')
  const { exitCode } = await codexRun({ home: laptop, cwd: here, session: child, prompt: "child" })
  expect(exitCode).toBe(0)
}, 60_000)

test("killed in the middle of a tool: said, carried, and gone on with", async () => {
  const running = Bun.spawn([laptop.codex, "exec", "--json", "--skip-git-repo-check", "-"], {
    cwd: here,
    env: { ...laptop.env },
    stdin: Buffer.from(`killed ${toolCall("exec_command", { cmd: "echo $$ > tool.pid; sleep 60" })}`),
    stdout: "ignore",
    stderr: "ignore",
  })
  const toolPid = join(here, "tool.pid")
  for (let waited = 0; waited < 100 && !(await Bun.file(toolPid).exists()); waited += 1) await Bun.sleep(100)
  running.kill("SIGTERM")
  await running.exited
  const left = Number(await readFile(toolPid, "utf8"))
  try {
    process.kill(left, "SIGKILL")
  } catch {
    // It ended with Codex.
  }
  const taken = await take(local())
  const killed = taken.sessions.find(({ title }) => title.startsWith("killed"))
  expect(killed).toMatchObject({ wasRunning: true })
  expect((await agent.sessions(local())).find(({ id }) => id === killed?.id)).toMatchObject({ state: "interrupted" })
  await bring(distant(), { ...taken, sessions: taken.sessions.filter((entry) => entry === killed) })
  await codexPrompt({ home: remote, cwd: there, session: killed?.id ?? "", prompt: "go on" })
  expect(toldOf(killed?.id ?? "").prompts.filter((each) => /^(killed|go on)/.test(each))).toHaveLength(2)
}, 60_000)

test("Codex's own list of the directory shows what arrived, and opens it", async () => {
  const argv = [remote.codex, "--no-daemon", "resume", "--include-non-interactive"]
  await using terminal = await openTerminal(folder, argv, { cwd: there, env: remote.env })
  await terminal.until(/Nice name/)
  await terminal.submit("Nice")
  expect(await terminal.until(/REPLY#\d+ to: fourth/)).toContain("second")
}, 60_000)

test("a row of the index that names a file which is gone does not keep Codex from a session that arrives", async () => {
  const third = await makeCodexHome(join(folder, "third"), model.baseUrl, [])
  const place = join(folder, "third/proj")
  await mkdir(place)
  await bring(scopeOf(third, place), first)
  await codexPrompt({ home: third, cwd: place, session: main, prompt: "known" })
  await rm(await pathOf(third, main))
  const index = new Database(join(third.codexHome, "state_5.sqlite"))
  index.run("UPDATE threads SET rollout_path = '/gone/x.jsonl', cwd = '/gone' WHERE id = ?", [main])
  index.close()
  expect((await codexRun({ home: third, cwd: place, session: main, prompt: "lost" })).exitCode).not.toBe(0)
  await bring(scopeOf(third, place), first)
  await codexPrompt({ home: third, cwd: place, session: main, prompt: "found" })
  expect(toldOf(main).prompts.filter((each) => /^(first|known|found)/.test(each))).toHaveLength(2)
}, 60_000)

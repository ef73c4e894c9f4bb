/** Fence and interruption with the real Claude Code: its window in tmux, and `claude -p`. The tests go on from each other. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readFile, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { processTree } from "../../lib/process-tree.ts"
import { claudePrompt, claudeRun, makeClaudeHome, type ClaudeHome } from "../../../test/support/claude-home.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { openTerminal } from "../../../test/support/tmux.ts"
import type { AgentScope, FenceRequest } from "../agent.ts"
import { claudeFencer } from "./fence.ts"
import { claudeAgent } from "./agent.ts"
import { claudeInterrupter } from "./interrupt.ts"
import { listSessions } from "./listing.ts"
import { claudeMemory } from "./store.ts"

const memory = claudeMemory()
const fencer = claudeFencer(memory)
const interrupter = claudeInterrupter(memory)
const WORDS = "This session is on devbox. Bring it back: decamp pull --migrate"
let folder: string
let model: FakeModel
let home: ClaudeHome
let place: string
let scope: AgentScope
let request: FenceRequest
let id: string

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-clfence-")))
  model = startFakeModel()
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  home = await makeClaudeHome(join(folder, "home"), model.baseUrl, [place])
  scope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  request = {
    scope,
    folder: join(folder, "journal"),
    marks: join(folder, "it's marks"),
    words: WORDS,
    hook: [process.execPath, join(import.meta.dir, "../../main.ts"), "hook"],
  }
  id = (await claudePrompt({ home, cwd: place, prompt: "first" })).id
}, 120_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

const until = async (what: () => boolean | Promise<boolean>, limitMs = 40_000): Promise<void> => {
  for (const end = Date.now() + limitMs; !(await what());) {
    if (Date.now() > end) throw new Error(`never came: ${what.toString()}`)
    await Bun.sleep(100)
  }
}
const asked = (text: string): boolean =>
  model.requests.some(({ messages }) => messages.some((message) => textOf(message).includes(text)))
const state = async (): Promise<string | undefined> =>
  (await listSessions(memory, scope)).find((session) => session.id === id)?.state
const settings = async (): Promise<string> => await readFile(join(home.configDir, "settings.json"), "utf8")

test("a window that was open before shows the words instead of asking, and asks after the lift", async () => {
  const argv = [home.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(folder, argv, { cwd: place, env: home.env })
  await window.until(/bypass permissions on/)
  await until(async () => (await state()) === "open")
  const before = await settings()
  expect(await fencer.foresee(request)).toEqual([{ id, strength: "enforced" }])
  const startedAt = performance.now()
  expect(await fencer.fence(request)).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  expect(performance.now() - startedAt).toBeLessThan(8_000)
  await window.submit("second while away")
  await window.until(/This session is on devbox/)
  expect(asked("second while away")).toBe(false)
  // A new process reads the hooks at its start.
  await claudeRun({ home, cwd: place, session: id, prompt: "third while away" })
  expect(asked("third while away")).toBe(false)
  const again = performance.now()
  expect(await fencer.fence(request)).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  expect(performance.now() - again).toBeLessThan(300)
  expect(await fencer.fenced(request)).toEqual(new Map([[id, "enforced"]]))
  expect(await fencer.lift(request)).toEqual([])
  expect(await settings()).toBe(before)
  expect(await fencer.fenced(request)).toEqual(new Map())
  await window.submit("fourth after the return")
  await until(() => asked("fourth after the return"))
  await until(async () => (await state()) === "open")
}, 120_000)

test("a window whose session went on elsewhere says what to type; a new one knows all, and the hooks are gone", async () => {
  const before = await settings()
  const argv = [home.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(folder, argv, { cwd: place, env: home.env })
  await window.until(/bypass permissions on/)
  await until(async () => (await state()) === "open")
  await fencer.fence(request)
  // What comes back: another process goes on with the session, as an import adds lines.
  await rm(join(request.marks, id))
  await claudePrompt({ home, cwd: place, session: id, prompt: "came from devbox" })
  await fencer.fence(request)
  const pid = await window.pid()
  expect(await fencer.lift(request)).toEqual([expect.stringContaining(`(pid ${pid})`)])
  await window.submit("into the stale window")
  await window.until(/this window does not know it/)
  expect(asked("into the stale window")).toBe(false)
  // The terminal ends with its program.
  await window.submit("/exit").catch(() => null)
  await until(async () => (await state()) === "idle")
  await until(async () => (await settings()) === before)
  const { text } = await claudePrompt({ home, cwd: place, session: id, prompt: "knows all" })
  expect(text).toContain("to: knows all")
  expect(JSON.stringify(model.requests.at(-1)?.messages)).toContain("came from devbox")
  expect(await settings()).toBe(before)
}, 120_000)

test("nothing is marked in the middle of a turn, and the turn ends undisturbed", async () => {
  const turn = claudeRun({ home, cwd: place, session: id, prompt: "fifth [[slow:5000]]" })
  await until(() => asked("fifth"))
  expect(await fencer.fence(request)).toEqual({ sessions: [], running: [id] })
  expect(await fencer.fenced(request)).toEqual(new Map())
  expect((await turn).exitCode).toBe(0)
  expect(await fencer.fence(request)).toMatchObject({ sessions: [{ id, strength: "enforced" }] })
  await fencer.lift(request)
}, 60_000)

const waiting = (seconds: number): string =>
  toolCall("Bash", { command: `sleep ${seconds}; true`, description: "wait" })
const sleepers = async (seconds: number): Promise<number[]> =>
  (await processTree(() => false)).filter(({ argv }) => argv.join(" ") === `sleep ${seconds}`).map(({ pid }) => pid)

test("a turn in a window is interrupted with its tool, closed, and goes on", async () => {
  const argv = [home.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(folder, argv, { cwd: place, env: home.env })
  await window.until(/bypass permissions on/)
  await window.submit(`sixth ${waiting(801)}`)
  await until(async () => (await sleepers(801)).length > 0)
  await until(async () => (await state()) === "running")
  const tools = await interrupter.toolProcesses(scope)
  expect(tools.map(({ pid }) => pid)).toEqual(expect.arrayContaining(await sleepers(801)))
  expect(await interrupter.toolProcesses({ ...scope, topLevel: join(folder, "elsewhere") })).toEqual([])
  expect(await interrupter.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(await sleepers(801)).toEqual([])
  expect(await state()).toBe("idle")
  await claudePrompt({ home, cwd: place, session: id, prompt: "seventh" })
  const last = model.requests.findLast(({ tools: offered }) => offered.length > 0)
  const said = JSON.stringify(last?.messages)
  expect(said).toContain("sixth")
  expect(said).toContain("Request interrupted by user for tool use")
}, 120_000)

test("of a process that was killed the orphaned tool is found and ended, and the turn is closed", async () => {
  const turn = claudeRun({ home, cwd: place, session: id, prompt: `eighth ${waiting(802)}` })
  await until(async () => (await sleepers(802)).length > 0)
  // Claude Code 2.1.197 writes its records some 100 ms late: killed before that, the turn is in no file.
  await until(async () => (await state()) === "running")
  const tree = await processTree(() => false)
  const shell = tree.find(({ pid }) => pid === tree.find(({ argv }) => argv.join(" ") === "sleep 802")?.ppid)
  process.kill(shell?.ppid ?? 0, "SIGKILL")
  await turn.catch(() => null)
  expect(await state()).toBe("interrupted")
  expect((await interrupter.toolProcesses(scope)).map(({ pid }) => pid)).toEqual(
    expect.arrayContaining(await sleepers(802)),
  )
  expect(await interrupter.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(await sleepers(802)).toEqual([])
  expect(await state()).toBe("idle")
  expect((await claudePrompt({ home, cwd: place, session: id, prompt: "ninth" })).text).toContain("ninth")
  expect(await interrupter.interrupt(scope)).toEqual({ sessions: [], left: [] })
}, 120_000)

test("a prompt goes to a session, its answer comes in pieces, and an interruption closes the turn", async () => {
  const agent = claudeAgent()
  const pieces: string[] = []
  const onText = (text: string): void => void pieces.push(text)
  await agent.prompt(scope, id, "tenth [[slow:1000]]", { onText, signal: new AbortController().signal })
  expect(pieces.length).toBeGreaterThan(2)
  expect(pieces.join("")).toContain("to: tenth")
  expect(await agent.attachCommand(scope, id)).toEqual([home.claude, "--resume", id])
  const stop = new AbortController()
  const turn = agent.prompt(scope, id, `eleventh ${waiting(803)}`, { onText, signal: stop.signal })
  const ended = turn.catch((error: unknown) => error)
  await until(async () => (await sleepers(803)).length > 0)
  await expect(agent.prompt(scope, id, "another", { onText, signal: stop.signal })).rejects.toMatchObject({
    code: "session_busy",
  })
  stop.abort()
  expect(await ended).toMatchObject({ code: "interrupted" })
  expect(await sleepers(803)).toEqual([])
  expect(await state()).toBe("idle")
  await fencer.fence(request)
  await expect(agent.prompt(scope, id, "while away", { onText, signal: new AbortController().signal })).rejects.toThrow(
    WORDS,
  )
  await fencer.lift(request)
  await expect(
    agent.prompt(scope, "00000000-0000-4000-8000-000000000000", "x", { onText, signal: new AbortController().signal }),
  ).rejects.toMatchObject({ code: "unknown_session" })
}, 120_000)

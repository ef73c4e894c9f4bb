/** Fence and interruption with the real opencode: its window in tmux, `opencode run`, its server. The tests go on from each other. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { run } from "../../lib/process.ts"
import { processTree } from "../../lib/process-tree.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
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
import { openTerminal } from "../../../test/support/tmux.ts"
import type { AgentScope, FenceRequest } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"

const agent = opencodeAgent()
let folder: string
let model: FakeModel
let home: OpencodeHome
let place: string
let scope: AgentScope
let request: FenceRequest
let id: string

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-ocfence-")))
  model = startFakeModel()
  home = await makeOpencodeHome(join(folder, "home"), model.baseUrl)
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  scope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  request = {
    scope,
    folder: join(folder, "journal"),
    marks: join(folder, "marks"),
    words: "This session is on devbox. Bring it back: decamp pull --migrate",
    hook: ["decamp", "hook"],
  }
  await runPrompt({ home, cwd: place, title: "Main", prompt: "first" })
  id = String(sessionRows(home.database).session[0]?.["id"])
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
  model.requests.some(({ messages, tools }) => tools.length > 0 && textOf(messages.at(-1)).includes(text))
const state = async (): Promise<string | undefined> =>
  (await agent.sessions(scope)).find((session) => session.id === id)?.state
const sleeping = (seconds: number): string =>
  toolCall("bash", { command: `echo began > began; sleep ${seconds}; true`, description: "wait" })
const sleepers = async (seconds: number): Promise<number[]> =>
  (await processTree(() => false)).filter(({ argv }) => argv.join(" ") === `sleep ${seconds}`).map(({ pid }) => pid)
/** Numbers of a session's events, which must have no gap, and its last message. */
const ending = (): {
  readonly gaps: number
  readonly last: Record<string, unknown>
  readonly tools: unknown[]
  readonly told: unknown
} => {
  const rows = sessionRows(home.database, [id])
  const seqs = rows.event.map((row) => Number(row["seq"]))
  const event = rows.event.at(-1)
  const sorted = rows.message.toSorted((a, b) => Number(a["time_created"]) - Number(b["time_created"]))
  const parts = rows.part.map((row) => JSON.parse(String(row["data"])) as { type: string; state?: unknown })
  return {
    gaps: seqs.filter((seq, index) => index > 0 && seq !== (seqs[index - 1] ?? 0) + 1).length,
    last: JSON.parse(String(sorted.at(-1)?.["data"])) as Record<string, unknown>,
    told: [event?.["type"], JSON.parse(String(event?.["data"]))],
    tools: parts.filter(({ type }) => type === "tool").map((part) => part.state),
  }
}
/** The last event tells what the last message says. */
const expectTold = (): void => {
  const [message] = sessionRows(home.database, [id])
    .message.toSorted((a, b) => Number(a["time_created"]) - Number(b["time_created"]))
    .slice(-1)
  const info = { ...ending().last, id: message?.["id"], sessionID: id }
  expect(ending().told).toEqual(["message.updated.1", { sessionID: id, info }])
}
const closed = { role: "assistant", error: { name: "MessageAbortedError", data: { message: "Aborted" } } }

test("a window that was open before refuses prompts while fenced, and takes them again after the lift", async () => {
  await using window = await openTerminal(folder, [home.opencode, "--session", id], { cwd: place, env: home.env })
  await window.until(/ctrl\+p/)
  await window.submit("second from the window")
  await until(() => asked("second from the window"))
  await until(async () => (await state()) === "open")
  // The summary of a turn is written after its end.
  await Bun.sleep(1_500)
  const before = sessionRows(home.database)
  expect(await agent.fence(request)).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  const requests = model.requests.length
  await window.submit("third while away")
  await window.until(/Failed to send|error/i)
  expect(model.requests.length).toBe(requests)
  expect(sessionRows(home.database)).toEqual(before)
  const refused = await run([home.opencode, "run", "--session", id, "fourth while away"], {
    cwd: place,
    env: home.env,
    timeoutMs: 60_000,
  })
  expect(refused.exitCode).not.toBe(0)
  expect(model.requests.length).toBe(requests)
  expect(sessionRows(home.database)).toEqual(before)
  expect(await listSessions(home, place)).toMatchObject([{ id }])
  expect(await exportSession(home, place, id)).toMatchObject({ info: { id } })
  expect(await agent.fenced(request)).toEqual(new Map([[id, "enforced"]]))
  expect(await agent.lift(request)).toEqual([])
  await window.submit("fifth after the return")
  await until(() => asked("fifth after the return"))
  await until(() => ending().last["finish"] === "stop")
  await Bun.sleep(1_500)
}, 180_000)

test("commands that change a fenced session in another way are refused too", async () => {
  await agent.fence(request)
  const before = sessionRows(home.database)
  {
    await using server = await startServer(home, place)
    const refused = async (method: string, path: string, body?: object): Promise<void> =>
      await expect(server.request(method, `/session/${id}${path}`, body)).rejects.toThrow(/answered 5/)
    await refused("PATCH", "", { title: "renamed" })
    await refused("POST", "/message", { noReply: true, parts: [{ type: "text", text: "note" }] })
    await refused("DELETE", "")
    const message = before.message[0]?.["id"]
    await refused("POST", "/revert", { messageID: message })
  }
  const file = join(folder, "export.json")
  const exported = (await exportSession(home, place, id)) as { messages: { info: { id: string } }[] }
  const [first] = exported.messages
  const planted = JSON.stringify({
    ...exported,
    messages: [{ ...first, info: { ...first?.info, id: "msg_ffffffffffffAAAAAAAAAAAAAA" }, parts: [] }],
  })
  await Bun.write(file, planted)
  const imported = await run([home.opencode, "import", file], { cwd: place, env: home.env, timeoutMs: 60_000 })
  expect(imported.exitCode).not.toBe(0)
  expect(sessionRows(home.database).message).toEqual(before.message)
  expect(sessionRows(home.database).event).toEqual(before.event)
  await agent.lift(request)
}, 180_000)

test("a turn killed in the middle of a tool: interrupted, its orphan is found and ended, and opencode goes on", async () => {
  const turn = startPrompt({ home, cwd: place, session: id, prompt: `sixth ${sleeping(701)}` })
  await until(async () => (await sleepers(701)).length > 0)
  expect(await state()).toBe("running")
  expect(await agent.fence(request)).toEqual({ sessions: [], running: [id] })
  expect(await agent.fenced(request)).toEqual(new Map())
  turn.kill("SIGKILL")
  await turn.exited
  expect(await state()).toBe("interrupted")
  const orphans = await sleepers(701)
  const found = await agent.toolProcesses(scope)
  expect(found.map(({ pid }) => pid)).toEqual(expect.arrayContaining(orphans))
  expect(found.map(({ command }) => command)).toContain("sleep")
  expect(await agent.toolProcesses({ ...scope, topLevel: join(folder, "elsewhere") })).toEqual([])
  expect(await agent.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(await sleepers(701)).toEqual([])
  expect(await agent.toolProcesses(scope)).toEqual([])
  expect(await state()).toBe("idle")
  expect(ending()).toMatchObject({
    gaps: 0,
    last: { ...closed, time: { completed: expect.any(Number) } },
    tools: [{ status: "error", error: "Tool execution aborted", metadata: { interrupted: true } }],
  })
  expectTold()
  // opencode opens what was closed, and goes on.
  const info = (await exportSession(home, place, id)) as { messages: { info: { error?: { name: string } } }[] }
  expect(info.messages.at(-1)?.info.error?.name).toBe("MessageAbortedError")
  await runPrompt({ home, cwd: place, session: id, prompt: "seventh" })
  expect(asked("seventh")).toBe(true)
  expect(ending()).toMatchObject({ gaps: 0, last: { finish: "stop" } })
}, 180_000)

test("a turn that runs is interrupted with its tool, and the fence can be set", async () => {
  const turn = startPrompt({ home, cwd: place, session: id, prompt: `eighth ${sleeping(702)}` })
  await until(async () => (await sleepers(702)).length > 0)
  const tools = await agent.toolProcesses(scope)
  expect(tools.map(({ pid }) => pid)).toEqual(expect.arrayContaining(await sleepers(702)))
  // Its servers are no tools, and neither are opencode itself and what a test starts.
  expect(tools.map(({ command }) => command).filter((each) => !["bash", "sleep", "sh"].includes(each))).toEqual([])
  const startedAt = performance.now()
  expect(await agent.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(performance.now() - startedAt).toBeLessThan(8_000)
  await turn.exited
  expect(await sleepers(702)).toEqual([])
  expect(ending()).toMatchObject({ gaps: 0, last: closed })
  expectTold()
  expect(await agent.fence(request)).toMatchObject({ running: [], sessions: [{ strength: "enforced" }] })
  await agent.lift(request)
}, 120_000)

test("a server is asked to end the turn, and goes on; its answer closes the transcript", async () => {
  await using server = await startServer(home, place)
  await server.request("POST", `/session/${id}/prompt_async`, {
    parts: [{ type: "text", text: `ninth ${sleeping(703)}` }],
  })
  await until(async () => (await sleepers(703)).length > 0)
  expect(await state()).toBe("running")
  expect(await agent.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(await sleepers(703)).toEqual([])
  expect(ending()).toMatchObject({ gaps: 0, last: closed })
  expectTold()
  expect(await server.request("GET", "/session/status")).toEqual({})
}, 120_000)

test("a turn in a window is interrupted; the window ends, and a new one goes on", async () => {
  await using window = await openTerminal(folder, [home.opencode, "--session", id], { cwd: place, env: home.env })
  await window.until(/ctrl\+p/)
  await window.submit(`tenth ${sleeping(704)}`)
  await until(async () => (await sleepers(704)).length > 0)
  expect(await agent.processes(scope)).toMatchObject([{ command: "opencode", state: "running" }])
  expect(await agent.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(await sleepers(704)).toEqual([])
  expect(await agent.processes(scope)).toEqual([])
  expect(ending()).toMatchObject({ gaps: 0, last: closed })
  expectTold()
  expect(await state()).toBe("idle")
  await runPrompt({ home, cwd: place, session: id, prompt: "eleventh" })
  expect(asked("eleventh")).toBe(true)
}, 180_000)

test("a turn that is killed before its first word is closed with an empty answer", async () => {
  const requests = model.requests.length
  const turn = startPrompt({ home, cwd: place, session: id, prompt: "twelfth [[slow:60000]]" })
  await until(() => model.requests.length > requests)
  turn.kill("SIGKILL")
  await turn.exited
  expect(await state()).toBe("interrupted")
  expect(await agent.interrupt(scope)).toEqual({ sessions: [id], left: [] })
  expect(ending()).toMatchObject({ gaps: 0, last: closed })
  expectTold()
  await runPrompt({ home, cwd: place, session: id, prompt: "thirteenth" })
  expect(asked("thirteenth")).toBe(true)
  expect(await agent.interrupt(scope)).toEqual({ sessions: [], left: [] })
}, 120_000)

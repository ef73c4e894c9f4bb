/** One writer, with the real Codex: its interface in a terminal, its server, `codex exec`. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  codexPrompt,
  codexRun,
  makeCodexHome,
  startCodex,
  stopCodexDaemon,
  type CodexHome,
} from "../../../test/support/codex-home.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { openTerminal } from "../../../test/support/tmux.ts"
import type { AgentScope, FenceRequest } from "../agent.ts"
import { codexAgent } from "./agent.ts"
import { allRollouts, type Rollout } from "./rollouts.ts"
import { placesOf } from "./places.ts"

let folder: string
let place: string
let home: CodexHome
let model: FakeModel
let id: string
const agent = codexAgent()
const scope = (): AgentScope => ({ env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null })
const request = (): FenceRequest => ({
  scope: scope(),
  folder: join(folder, "fence"),
  marks: join(folder, "marks"),
  words: "This session is on box since 14:02. Bring it back: decamp pull --migrate",
  hook: [],
})
const asked = (text: string): number =>
  model.requests.filter(({ messages }) => messages.some((message) => textOf(message).includes(text))).length
const rollout = async (): Promise<Rollout> => {
  const found = (await allRollouts(placesOf(home.env), new Map())).find((each) => each.id === id)
  if (found === undefined) throw new Error(`no rollout of ${id}`)
  return found
}
const lines = async (): Promise<string> => await readFile((await rollout()).path, "utf8")

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-codex-fence-")))
  place = join(folder, "proj")
  await mkdir(place)
  model = startFakeModel()
  home = await makeCodexHome(join(folder, "home"), model.baseUrl, [place])
  id = (await codexPrompt({ home, cwd: place, prompt: "first" })).id
}, 60_000)
afterAll(async () => {
  await stopCodexDaemon(home)
  await model.stop()
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
}, 30_000)

test("a closed session is refused while fenced, also after this process has begun anew, and goes on after the lift", async () => {
  const before = await lines()
  expect(await agent.foresee(request())).toEqual([{ id, strength: "enforced" }])
  expect(await agent.fence(request())).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  expect(await agent.fenced(request())).toEqual(new Map([[id, "enforced"]]))
  expect(await readFile(join(folder, "marks", id), "utf8")).toBe(request().words)
  expect((await codexRun({ home, cwd: place, session: id, prompt: "while away" })).exitCode).not.toBe(0)
  expect(asked("while away")).toBe(0)
  expect(await lines()).toBe(before)
  const another = codexAgent()
  expect(await another.fenced(request())).toEqual(new Map([[id, "advisory"]]))
  expect(await agent.sessions(scope())).toMatchObject([{ id, state: "idle" }])
  expect(await agent.lift(request())).toEqual([])
  expect(existsSync(placesOf(home.env).fenced)).toBe(false)
  expect(await readdir(join(folder, "marks"))).toEqual([])
  expect((await rollout()).archived).toBe("no")
  await codexPrompt({ home, cwd: place, session: id, prompt: "after the return" })
  expect(asked("after the return")).toBe(1)
}, 60_000)

test("a window that was open before sends nothing while fenced, and goes on after /resume", async () => {
  await using window = await openTerminal(folder, [home.codex, "resume", id], { cwd: place, env: home.env })
  await window.until(/Ask Codex|gpt-5/)
  await Bun.sleep(1500)
  await window.submit("typed before")
  await window.until(/REPLY#\d+ to: typed before/)
  await Bun.sleep(1000)
  expect(await agent.sessions(scope())).toMatchObject([{ id, state: "open" }])
  expect(await agent.fence(request())).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  const before = await lines()
  await window.submit("typed while away")
  await Bun.sleep(3000)
  expect(asked("typed while away")).toBe(0)
  expect(await lines()).toBe(before)
  const told = await agent.lift(request())
  expect(told.join()).toContain("/resume")
  await codexPrompt({ home, cwd: place, session: id, prompt: "back by the command" })
  expect(asked("back by the command")).toBe(1)
}, 120_000)

test("a turn is left alone and told; --now ends it and its tool, and what was open is closed", async () => {
  const prompt = `work ${toolCall("exec_command", { cmd: "for i in $(seq 200); do echo $i >> steps.txt; sleep 0.2; done" })}`
  const child = startCodex({ home, cwd: place, session: id, prompt })
  try {
    while (!existsSync(join(place, "steps.txt"))) await Bun.sleep(100)
    expect(await agent.sessions(scope())).toMatchObject([{ id, state: "running" }])
    expect(await agent.processes(scope())).toMatchObject([{ command: "codex exec", state: "running" }])
    expect(await agent.fence(request())).toEqual({ sessions: [], running: [id] })
    expect((await agent.toolProcesses(scope())).length).toBeGreaterThan(0)
    expect(await agent.interrupt(scope())).toEqual({ sessions: [id], left: [] })
    const steps = await readFile(join(place, "steps.txt"), "utf8")
    await Bun.sleep(1000)
    expect(await readFile(join(place, "steps.txt"), "utf8")).toBe(steps)
    expect(await agent.toolProcesses(scope())).toEqual([])
    expect(await agent.sessions(scope())).toMatchObject([{ id, state: "idle" }])
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
}, 60_000)

test("a turn of the server is ended too, when its window has gone", async () => {
  await rm(join(place, "steps.txt"), { force: true })
  const prompt = `serve ${toolCall("exec_command", { cmd: "for i in $(seq 200); do echo $i >> steps.txt; sleep 0.2; done" })}`
  {
    await using window = await openTerminal(folder, [home.codex, "resume", id], { cwd: place, env: home.env })
    await window.until(/Ask Codex|gpt-5/)
    await Bun.sleep(1500)
    await window.submit(prompt)
    while (!existsSync(join(place, "steps.txt"))) await Bun.sleep(100)
  }
  await Bun.sleep(1000)
  expect(await agent.processes(scope())).toMatchObject([{ command: "codex app-server", state: "running" }])
  expect(await agent.interrupt(scope())).toEqual({ sessions: [id], left: [] })
  const steps = await readFile(join(place, "steps.txt"), "utf8")
  await Bun.sleep(1000)
  expect(await readFile(join(place, "steps.txt"), "utf8")).toBe(steps)
  expect(await agent.fence(request())).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  await agent.lift(request())
  expect((await rollout()).archived).toBe("no")
  expect((await rollout()).tail.isUnfinished).toBe(false)
}, 120_000)

test("a prompt from here is answered as it comes, with its text unchanged", async () => {
  const text = 'a "quoted" line\nand --another $HOME ü'
  let said = ""
  await agent.prompt(scope(), id, text, {
    onText: (piece) => (said += piece),
    signal: new AbortController().signal,
  })
  expect(said).toContain("REPLY#")
  expect(asked(text)).toBe(1)
}, 60_000)

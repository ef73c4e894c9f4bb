/** Codex through the whole product: the compiled binary, the real program on both hosts, its interface in a terminal. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { allRollouts } from "../../src/agents/codex/rollouts.ts"
import { placesOf } from "../../src/agents/codex/places.ts"
import { errorOutputSchema, moveOutputSchema, statusOutputSchema } from "../../src/protocol/output.ts"
import {
  codexPrompt,
  codexRun,
  makeCodexHome,
  startCodex,
  stopCodexDaemon,
  type CodexHome,
} from "../support/codex-home.ts"
import { requireTestAgents } from "../support/agents.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../support/fake-model.ts"
import { openTerminal } from "../support/tmux.ts"
import { makeDirtyRepository, makeWorld, type CliResult, type Machine, type World } from "../support/world.ts"

let world: World
let model: FakeModel
let laptop: Machine
let here: CodexHome
let there: CodexHome

beforeAll(async () => {
  const { bin } = await requireTestAgents()
  world = await makeWorld(bin)
  model = startFakeModel()
  laptop = await world.machine("laptop")
  here = await makeCodexHome(laptop.home, model.baseUrl, [join(laptop.home, "src/away")])
  const root = join(world.root, "box")
  const added = await laptop.decamp(["hosts", "add", "local", "box", "--root", root])
  if (added.exitCode !== 0) throw new Error(`hosts add: ${added.stdout}${added.stderr}`)
  there = await makeCodexHome(join(root, "home"), model.baseUrl, [])
}, 120_000)
afterAll(async () => {
  await stopCodexDaemon(here)
  await stopCodexDaemon(there)
  await world[Symbol.asyncDispose]()
  await model.stop()
}, 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd })
const status = async (cwd: string): Promise<ReturnType<typeof statusOutputSchema.parse>> =>
  statusOutputSchema.parse((await decamp(cwd, "status")).json)
const outcomes = (result: ReturnType<typeof moveOutputSchema.parse>): Record<string, string> =>
  Object.fromEntries(result.sessions.map(({ id, outcome }) => [id, outcome]))

async function moved(cwd: string, ...args: string[]): Promise<ReturnType<typeof moveOutputSchema.parse>> {
  const result = await decamp(cwd, ...args)
  expect([result.exitCode, result.json.error]).toEqual([0, undefined])
  return moveOutputSchema.parse(result.json)
}

async function repository(name: string): Promise<{ readonly local: string; readonly remote: string }> {
  const local = join(laptop.home, "src", name)
  await mkdir(local, { recursive: true })
  await makeDirtyRepository(local)
  return { local, remote: join(world.root, "box/work", name) }
}

/** The whole conversation that the model was sent with a prompt, as text. */
function conversationWith(text: string): string {
  const found = model.requests.findLast(({ messages }) => messages.some((message) => textOf(message).includes(text)))
  return JSON.stringify(found?.messages ?? [])
}

const rolloutOf = async (home: CodexHome, id: string): Promise<string> =>
  (await allRollouts(placesOf(home.env), new Map())).find((rollout) => rollout.id === id)?.path ?? ""

const run = (command: string): string => toolCall("exec_command", { cmd: command })

test("a conversation with tools and a sub-agent goes on there, in the new directory, and comes home twice", async () => {
  const { local, remote } = await repository("whole")
  const spawn = toolCall("multi_agent_v1/spawn_agent", { message: "sub work" })
  const { id } = await codexPrompt({ home: here, cwd: local, prompt: `first ${run("pwd > first.txt")} ${spawn}` })
  const pushed = await moved(local, "push", "--migrate")
  expect(outcomes(pushed)[id]).toBe("moved")
  expect(pushed.sessions.length).toBeGreaterThanOrEqual(1)
  await codexPrompt({ home: there, cwd: remote, session: id, prompt: `second ${run("pwd > second.txt")}` })
  expect(await readFile(join(remote, "second.txt"), "utf8")).toBe(`${remote}\n`)
  const there1 = conversationWith("second")
  expect(there1).toContain("first")
  expect(there1).not.toContain(`${laptop.home}/`)
  const before = await readFile(await rolloutOf(here, id), "utf8")
  const pulled = await moved(local, "pull", "--migrate")
  expect(outcomes(pulled)[id]).toBe("moved")
  expect((await readFile(await rolloutOf(here, id), "utf8")).startsWith(before)).toBe(true)
  await codexPrompt({ home: here, cwd: local, session: id, prompt: `third ${run("pwd > third.txt")}` })
  expect(await readFile(join(local, "third.txt"), "utf8")).toBe(`${local}\n`)
  expect(conversationWith("third")).toContain("second")
  await moved(local, "push", "--migrate")
  await codexPrompt({ home: there, cwd: remote, session: id, prompt: "fourth" })
  await moved(local, "pull", "--migrate")
  await codexPrompt({ home: here, cwd: local, session: id, prompt: "fifth" })
  for (const word of ["first", "second", "third", "fourth"]) expect(conversationWith("fifth")).toContain(word)
}, 180_000)

test("while it is away nothing goes on at home, by command or in a window that was open; after the return it does", async () => {
  const { local } = await repository("away")
  const { id } = await codexPrompt({ home: here, cwd: local, prompt: "begun" })
  const env = { ...here.env, TERM: "xterm-256color" }
  await using window = await openTerminal(world.root, [here.codex, "resume", id], { cwd: local, env })
  await window.until(/Ask Codex/, 60_000)
  await window.submit("typed before")
  await window.until(/REPLY#\d+ to: typed before/, 60_000)
  await Bun.sleep(1500)
  await moved(local, "push", "--migrate")
  expect((await status(local)).sessions).toMatchObject([{ agent: "codex", id, fence: "enforced" }])
  const lines = await readFile(await rolloutOf(here, id), "utf8")
  expect((await codexRun({ home: here, cwd: local, session: id, prompt: "by command" })).exitCode).not.toBe(0)
  await window.submit("typed while away")
  await Bun.sleep(3000)
  expect(conversationWith("typed while away")).toBe("[]")
  expect(conversationWith("by command")).toBe("[]")
  expect(await readFile(await rolloutOf(here, id), "utf8")).toBe(lines)
  const pulled = await moved(local, "pull", "--migrate")
  expect(pulled.notices.join("\n")).toContain("/resume")
  expect((await status(local)).sessions).toMatchObject([{ id, fence: "none" }])
  await codexPrompt({ home: here, cwd: local, session: id, prompt: "after the return" })
  expect(conversationWith("after the return")).toContain("begun")
}, 180_000)

test("a turn in a tool makes the move wait or be interrupted; a broken session stays, the other goes", async () => {
  const { local, remote } = await repository("busy")
  const { id: whole } = await codexPrompt({ home: here, cwd: local, prompt: "whole" })
  const { id: busy } = await codexPrompt({ home: here, cwd: local, prompt: "busy" })
  const child = startCodex({
    home: here,
    cwd: local,
    session: busy,
    prompt: `work ${run("for i in $(seq 100); do echo $i >> steps.txt; sleep 0.2; done")}`,
  })
  try {
    while (!existsSync(join(local, "steps.txt"))) await Bun.sleep(100)
    expect(errorOutputSchema.parse((await decamp(local, "push", "--migrate")).json).error.code).toBe("session_busy")
    const pushed = await moved(local, "push", "--migrate", "--now")
    expect(outcomes(pushed)).toMatchObject({ [whole]: "moved", [busy]: "moved" })
    const steps = await readFile(join(local, "steps.txt"), "utf8")
    await Bun.sleep(1000)
    expect(await readFile(join(local, "steps.txt"), "utf8")).toBe(steps)
    expect(await readFile(join(remote, "steps.txt"), "utf8")).toBe(steps)
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
  await codexPrompt({ home: there, cwd: remote, session: busy, prompt: "goes on there" })
  expect(conversationWith("goes on there")).toContain("busy")
  // A last line that was cut off, and one of a kind that nobody knows yet.
  const path = await rolloutOf(there, whole)
  await appendFile(
    path,
    '{"timestamp":"2026-11-23T00:00:00.000Z","ordinal":900,"type":"from_the_future","payload":{}}\n{"timestamp":"2026',
  )
  await moved(local, "pull", "--migrate")
  const home = await readFile(await rolloutOf(here, whole), "utf8")
  expect(home).toContain("from_the_future")
  expect(home.endsWith("\n")).toBe(true)
  await codexPrompt({ home: here, cwd: local, session: whole, prompt: "still whole" })
  expect(conversationWith("still whole")).toContain("whole")
}, 180_000)

test("when both sides went on both are there, and both open in the agent", async () => {
  const { local, remote } = await repository("both")
  const { id } = await codexPrompt({ home: here, cwd: local, prompt: "begun here" })
  await moved(local, "push", "--migrate")
  await codexPrompt({ home: there, cwd: remote, session: id, prompt: "went on there" })
  // Without its daemon decamp holds no lock, and a person can take the session out of the archive.
  await laptop.plain(["stop", "--force"])
  const unarchived = Bun.spawnSync([here.codex, "unarchive", id], { cwd: local, env: { ...here.env } })
  expect(unarchived.exitCode).toBe(0)
  await codexPrompt({ home: here, cwd: local, session: id, prompt: "went on here" })
  const pulled = await moved(local, "pull", "--migrate")
  expect(outcomes(pulled)[id]).toBe("forked")
  const fork = (await status(local)).sessions.find((session) => session.id !== id)
  expect(fork?.title).toMatch(/both sides/)
  await codexPrompt({ home: here, cwd: local, session: id, prompt: "the one from there" })
  expect(conversationWith("the one from there")).toContain("went on there")
  await codexPrompt({ home: here, cwd: local, session: fork?.id ?? "", prompt: "the one from here" })
  expect(conversationWith("the one from here")).toContain("went on here")
}, 120_000)

/** Claude Code through the whole product: the compiled binary, the real program on both hosts, its interface in a terminal. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { errorOutputSchema, moveOutputSchema, statusOutputSchema } from "../../src/protocol/output.ts"
import { requireTestAgents } from "../support/agents.ts"
import { claudePrompt, claudeRun, makeClaudeHome, startClaude, type ClaudeHome } from "../support/claude-home.ts"
import { startFakeModel, toolCall, type FakeModel } from "../support/fake-model.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, makeDirtyRepository, makeWorld, type CliResult, type Machine, type World } from "../support/world.ts"

const NAMES = ["whole", "away", "busy", "both", "weak", "far"]

let world: World
let model: FakeModel
let laptop: Machine
let here: ClaudeHome
let there: ClaudeHome

const localOf = (name: string): string => join(laptop.home, "src", name)
const remoteOf = (name: string): string => join(world.root, "box/work", name)

beforeAll(async () => {
  const { bin } = await requireTestAgents()
  world = await makeWorld(bin)
  model = startFakeModel()
  laptop = await world.machine("laptop")
  here = await makeClaudeHome(laptop.home, model.baseUrl, NAMES.map(localOf))
  const root = join(world.root, "box")
  const added = await laptop.decamp(["hosts", "add", "local", "box", "--root", root])
  if (added.exitCode !== 0) throw new Error(`hosts add: ${added.stdout}${added.stderr}`)
  there = await makeClaudeHome(join(root, "home"), model.baseUrl, NAMES.map(remoteOf))
}, 120_000)
afterAll(async () => {
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
  await mkdir(localOf(name), { recursive: true })
  await makeDirtyRepository(localOf(name))
  return { local: localOf(name), remote: remoteOf(name) }
}

/** The whole conversation that the model was sent with a prompt, as text. */
function conversationWith(text: string): string {
  const found = model.requests.findLast(
    ({ messages, tools }) => tools.length > 0 && JSON.stringify(messages).includes(text),
  )
  return JSON.stringify(found?.messages ?? [])
}

const transcript = (home: ClaudeHome, directory: string, id: string): string =>
  join(home.configDir, "projects", directory.replaceAll(/[^A-Za-z0-9]/g, "-"), `${id}.jsonl`)

const run = (command: string): string => toolCall("Bash", { command, description: "a command" })

test("a conversation with tools and a sub-agent goes on there, in the new directory, and comes home twice", async () => {
  const { local, remote } = await repository("whole")
  const agent = toolCall("Agent", { description: "sub", prompt: "sub work", subagent_type: "general-purpose" })
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: `first ${run("pwd > first.txt")} ${agent}` })
  const pushed = await moved(local, "push", "--migrate")
  expect(outcomes(pushed)[id]).toBe("moved")
  await claudePrompt({ home: there, cwd: remote, session: id, prompt: `second ${run("pwd > second.txt")}` })
  expect(await readFile(join(remote, "second.txt"), "utf8")).toBe(`${remote}\n`)
  const sent = conversationWith("second")
  expect(sent).toContain("first")
  expect(sent).not.toContain(`${laptop.home}/`)
  const before = await readFile(transcript(here, local, id), "utf8")
  const pulled = await moved(local, "pull", "--migrate")
  expect(outcomes(pulled)[id]).toBe("moved")
  expect((await readFile(transcript(here, local, id), "utf8")).startsWith(before)).toBe(true)
  await claudePrompt({ home: here, cwd: local, session: id, prompt: `third ${run("pwd > third.txt")}` })
  expect(await readFile(join(local, "third.txt"), "utf8")).toBe(`${local}\n`)
  expect(conversationWith("third")).toContain("second")
  await moved(local, "push", "--migrate")
  await claudePrompt({ home: there, cwd: remote, session: id, prompt: "fourth" })
  await moved(local, "pull", "--migrate")
  await claudePrompt({ home: here, cwd: local, session: id, prompt: "fifth" })
  for (const word of ["first", "second", "third", "fourth"]) expect(conversationWith("fifth")).toContain(word)
}, 180_000)

test("while it is away nothing goes on at home, in a window that was open or by command; after the return it does", async () => {
  const { local } = await repository("away")
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "begun" })
  const argv = [here.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(world.root, argv, { cwd: local, env: here.env })
  await window.until(/❯/, 60_000)
  await window.submit("typed before")
  await window.until(/REPLY#\d+ to: typed before/, 60_000)
  await Bun.sleep(1500)
  await moved(local, "push", "--migrate")
  expect((await status(local)).sessions).toMatchObject([{ agent: "claude", id, fence: "enforced" }])
  await window.submit("typed while away")
  await window.until(/decamp pull --migrate/, 30_000)
  await claudeRun({ home: here, cwd: local, session: id, prompt: "by command" })
  expect(conversationWith("typed while away")).toBe("[]")
  expect(conversationWith("by command")).toBe("[]")
  await moved(local, "pull", "--migrate")
  expect((await status(local)).sessions).toMatchObject([{ id, fence: "none" }])
  // With the program its terminal ends.
  await window.submit("/exit").catch(() => "")
  await Bun.sleep(3000)
  await claudePrompt({ home: here, cwd: local, session: id, prompt: "after the return" })
  expect(conversationWith("after the return")).toContain("typed before")
}, 180_000)

test("a turn in a tool makes the move wait or be interrupted; odd lines travel, and the session goes on", async () => {
  const { local, remote } = await repository("busy")
  const { id: whole } = await claudePrompt({ home: here, cwd: local, prompt: "whole" })
  const { id: busy } = await claudePrompt({ home: here, cwd: local, prompt: "busy" })
  const child = startClaude({
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
  await claudePrompt({ home: there, cwd: remote, session: busy, prompt: "goes on there" })
  expect(conversationWith("goes on there")).toContain("busy")
  // A last line that was cut off, and one of a kind that nobody knows yet.
  await appendFile(
    transcript(there, remote, whole),
    `{"type":"from-the-future","sessionId":"${whole}","payload":{}}\n{"type":"user","uu`,
  )
  await moved(local, "pull", "--migrate")
  const home = await readFile(transcript(here, local, whole), "utf8")
  expect(home).toContain("from-the-future")
  expect(home.endsWith("\n")).toBe(true)
  await claudePrompt({ home: here, cwd: local, session: whole, prompt: "still whole" })
  expect(conversationWith("still whole")).toContain("whole")
}, 180_000)

test("when both sides went on both are there, and both open in the agent", async () => {
  const { local, remote } = await repository("both")
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "begun here" })
  await moved(local, "push", "--migrate")
  await claudePrompt({ home: there, cwd: remote, session: id, prompt: "went on there" })
  // With the fence in force nobody could: the hooks are switched off by hand.
  await claudePrompt({ home: here, cwd: local, session: id, prompt: "went on here", bare: true })
  const pulled = await moved(local, "pull", "--migrate")
  expect(outcomes(pulled)[id]).toBe("forked")
  const fork = (await status(local)).sessions.find((session) => session.id !== id)
  expect(fork?.title).toMatch(/both sides/)
  await claudePrompt({ home: here, cwd: local, session: id, prompt: "the one from there" })
  expect(conversationWith("the one from there")).toContain("went on there")
  await claudePrompt({ home: here, cwd: local, session: fork?.id ?? "", prompt: "the one from here" })
  expect(conversationWith("the one from here")).toContain("went on here")
}, 180_000)

test("a window at the other host takes no prompt once the workspace is home again", async () => {
  const { local, remote } = await repository("far")
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "begun at home" })
  await moved(local, "push", "--migrate")
  const argv = [there.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(world.root, argv, { cwd: remote, env: there.env })
  await window.until(/❯/, 60_000)
  await window.submit("typed there")
  await window.until(/REPLY#\d+ to: typed there/, 60_000)
  await Bun.sleep(1500)
  await moved(local, "pull", "--migrate")
  await window.submit("typed there too late")
  await window.until(/decamp pull --migrate|is on /, 30_000)
  expect(conversationWith("typed there too late")).toBe("[]")
  await claudePrompt({ home: here, cwd: local, session: id, prompt: "on at home" })
  expect(conversationWith("on at home")).toContain("typed there")
}, 120_000)

test("where nothing can be proved a script is refused before anything moves, unless it says --allow-advisory", async () => {
  const { local, remote } = await repository("weak")
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "weakly held" })
  await mkdir(join(local, ".claude"))
  await writeFile(join(local, ".claude/settings.local.json"), JSON.stringify({ disableAllHooks: true }))
  const refused = await decamp(local, "push", "--migrate")
  const { error } = errorOutputSchema.parse(refused.json)
  expect([refused.exitCode, error.code]).toEqual([5, "fence_advisory"])
  expect(error.message).toContain(`fence: advisory for claude ${id}`)
  expect(error.hint).toContain("--allow-advisory")
  expect(existsSync(remote)).toBe(false)
  const pushed = await moved(local, "push", "--migrate", "--allow-advisory")
  expect(outcomes(pushed)).toEqual({ [id]: "moved" })
  expect(pushed.notices.join("\n")).toContain("fence: advisory")
  await moved(local, "pull", "--migrate", "--allow-advisory", "--backup")
  // A person is asked; what is not agreed to changes nothing.
  const env = { ...laptop.env, TERM: "xterm-256color" }
  for (const [answer, ends] of [
    ["n", /nothing was changed/i],
    ["y", /box owns weak now/],
  ] as const) {
    await using terminal = await openTerminal(world.root, ["sh", "-c", `'${BINARY}' push --migrate; sleep 60`], {
      cwd: local,
      env,
    })
    await terminal.until(/Go on\?/, 30_000)
    await terminal.keys(answer, "Enter")
    await terminal.until(ends, 30_000)
  }
}, 120_000)

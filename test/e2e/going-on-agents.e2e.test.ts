/** send, attach and --prompt with the real Codex and the real Claude Code, whose keys are in the environment of the shell. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { attachOutputSchema, moveOutputSchema, sendOutputSchema } from "../../src/protocol/output.ts"
import { requireTestAgents } from "../support/agents.ts"
import { claudePrompt, makeClaudeHome } from "../support/claude-home.ts"
import { codexConfig, codexPrompt, makeCodexHome, stopCodexDaemon, type CodexHome } from "../support/codex-home.ts"
import { startFakeModel, textOf, toolCall, type FakeModel } from "../support/fake-model.ts"
import { makeDirtyRepository, makeWorld, type CliResult, type Machine, type World } from "../support/world.ts"

let world: World
let model: FakeModel
let laptop: Machine
let box: string
const codexHomes: CodexHome[] = []

beforeAll(async () => {
  const { bin } = await requireTestAgents()
  world = await makeWorld(bin)
  model = startFakeModel()
  box = join(world.root, "box")
  const home = join(world.root, "laptop")
  const claude = await makeClaudeHome(
    home,
    model.baseUrl,
    ["codex", "claude"].map((name) => join(home, "src", name)),
  )
  const codex = await makeCodexHome(home, model.baseUrl, [])
  laptop = await world.machine("laptop", { ...claude.env, ...codex.env, HOME: home })
  const added = await laptop.decamp(["hosts", "add", "local", "box", "--root", box])
  if (added.exitCode !== 0) throw new Error(`hosts add: ${added.stdout}${added.stderr}`)
  const there = await makeClaudeHome(join(box, "home"), model.baseUrl, [join(box, "work/claude")])
  // No shell there: keys lie in the agents' own files, as after logging in.
  const { ANTHROPIC_BASE_URL = "", ANTHROPIC_API_KEY = "" } = there.env
  const settings = {
    skipDangerousModePermissionPrompt: true,
    env: { ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY, IS_SANDBOX: "1" },
  }
  await writeFile(join(there.configDir, "settings.json"), JSON.stringify(settings))
  const codexThere = await makeCodexHome(join(box, "home"), model.baseUrl, [])
  const config = codexConfig(model.baseUrl, []).replace('env_key = "FAKE_KEY"\n', "")
  await writeFile(join(codexThere.codexHome, "config.toml"), config)
  codexHomes.push(codex, codexThere)
}, 120_000)
afterAll(async () => {
  for (const home of codexHomes) await stopCodexDaemon(home)
  await world[Symbol.asyncDispose]()
  await model.stop()
}, 60_000)

const decamp = async (cwd: string, ...args: string[]): Promise<CliResult> => await laptop.decamp(args, { cwd })
const conversation = (text: string): string =>
  JSON.stringify(model.requests.findLast(({ messages }) => messages.some((each) => textOf(each).includes(text))))

async function repository(name: string): Promise<{ readonly here: string; readonly there: string }> {
  const here = join(laptop.home, "src", name)
  await mkdir(here, { recursive: true })
  await makeDirtyRepository(here)
  return { here, there: join(box, "work", name) }
}

async function goesOn(cwd: string, there: string, id: string): Promise<void> {
  const sent = await decamp(cwd, "send", id, "a question from here")
  expect([sent.exitCode, sent.json.error]).toEqual([0, undefined])
  expect(sendOutputSchema.parse(sent.json)).toMatchObject({ session: { id }, directory: cwd })
  expect(sendOutputSchema.parse(sent.json).text).toContain("a question from here")
  expect(conversation("a question from here")).toContain("begin the work")
  const pushed = await decamp(cwd, "push", "--migrate", "--allow-advisory")
  expect([pushed.exitCode, pushed.json.error]).toEqual([0, undefined])
  expect(moveOutputSchema.parse(pushed.json).owner.directory).toBe(there)
  const asked = await decamp(cwd, "send", id, "a question for there")
  expect([asked.exitCode, asked.json.error]).toEqual([0, undefined])
  expect(sendOutputSchema.parse(asked.json)).toMatchObject({ host: "box", directory: there })
  expect(conversation("a question for there")).toContain("a question from here")
  const window = attachOutputSchema.parse((await decamp(cwd, "attach", id)).json)
  expect(window).toMatchObject({ host: "box", directory: there, env: { HOME: join(box, "home") } })
  expect(window.command.join(" ")).toContain(id)
}

test("Codex is prompted here and there", async () => {
  const { here, there } = await repository("codex")
  const [home] = codexHomes
  if (home === undefined) throw new Error("no home")
  const tool = toolCall("exec_command", { cmd: "echo begun > begun.txt" })
  const { id } = await codexPrompt({ home, cwd: here, prompt: `begin the work ${tool}` })
  expect(await readFile(join(here, "begun.txt"), "utf8")).toBe("begun\n")
  await goesOn(here, there, id)
}, 180_000)

test("Claude Code is prompted here and there", async () => {
  const { here, there } = await repository("claude")
  const { claude } = await requireTestAgents()
  const home = { path: laptop.home, env: laptop.env, claude, configDir: join(laptop.home, ".claude") }
  const tool = toolCall("Bash", { command: "echo begun > begun.txt", description: "begin" })
  const { id } = await claudePrompt({ home, cwd: here, prompt: `begin the work ${tool}` })
  await goesOn(here, there, id)
}, 180_000)

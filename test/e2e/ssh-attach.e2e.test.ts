/** The agent's own window on a session that is on a box, on the terminal of the laptop: `decamp attach` over SSH, with the real Claude Code. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { attachOutputSchema, sendOutputSchema } from "../../src/protocol/output.ts"
import { requireTestAgents } from "../support/agents.ts"
import { claudePrompt, makeClaudeHome, type ClaudeHome } from "../support/claude-home.ts"
import { startFakeModel, textOf, type FakeModel } from "../support/fake-model.ts"
import { NO_SSHD, startSshd, type Sshd } from "../support/sshd.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, makeDirtyRepository, makeWorld, type Machine, type World } from "../support/world.ts"

let world: World
let sshd: Sshd
let model: FakeModel
let laptop: Machine
let here: ClaudeHome
let local: string
let remote: string

beforeAll(async () => {
  if (NO_SSHD !== null) throw new Error(NO_SSHD)
  const { bin } = await requireTestAgents()
  world = await makeWorld(bin)
  model = startFakeModel()
  sshd = await startSshd()
  laptop = await world.machine("laptop", { PATH: `${sshd.bin}:${world.bin}:${bin}:${process.env["PATH"]}` })
  local = join(laptop.home, "src/shop")
  remote = join(sshd.home, "decamp/shop")
  here = await makeClaudeHome(laptop.home, model.baseUrl, [local])
  const there = await makeClaudeHome(sshd.home, model.baseUrl, [remote])
  // As its user would have set it up there: only a login knows the key and where the agent is.
  const exported = Object.entries(there.env).filter(([name]) => name !== "HOME" && name !== "TERM")
  const lines = exported.map(([name, value]) => `export ${name}='${value}'`)
  await writeFile(join(sshd.home, ".profile"), `echo a banner\n${lines.join("\n")}\n`)
  await mkdir(local, { recursive: true })
  await makeDirtyRepository(local)
}, 120_000)
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
  await model?.stop()
}, 60_000)

test("a session on the box is prompted from here, and its window opens on this terminal in the directory there", async () => {
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "begun at home" })
  expect(await laptop.decamp(["push", "--migrate"], { cwd: local })).toMatchObject({ exitCode: 0 })

  const sent = await laptop.decamp(["send", id, "a question for there"], { cwd: local })
  expect([sent.exitCode, sent.json.error]).toEqual([0, undefined])
  expect(sendOutputSchema.parse(sent.json)).toMatchObject({ session: { id }, host: "box", directory: remote })

  const said = attachOutputSchema.parse((await laptop.decamp(["attach", id], { cwd: local })).json)
  expect(said).toMatchObject({ host: "box", directory: remote, over: "box", env: null })

  await using terminal = await openTerminal(world.root, [BINARY, "attach", id], {
    cwd: local,
    env: { ...laptop.env, TERM: "xterm-256color" },
  })
  await terminal.until(/a question for there/, 60_000)
  await terminal.submit("typed in the window there")
  await terminal.until(/REPLY#\d+ to: .*typed in the window there/, 60_000)
  const asked = model.requests.filter(({ messages }) =>
    messages.some((each) => textOf(each).includes("typed in the window there")),
  )
  expect(JSON.stringify(asked)).toContain("begun at home")
}, 240_000)

/** The agent's own window on a session that is on a box, on the terminal of the laptop: `decamp attach` over SSH, with the real Claude Code. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { attachOutputSchema, sendOutputSchema } from "../../src/protocol/output.ts"
import { claudePrompt, type ClaudeHome } from "../support/claude-home.ts"
import { startFakeModel, textOf, type FakeModel } from "../support/fake-model.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeClaudeSshWorld } from "../support/ssh-world.ts"
import { openTerminal } from "../support/tmux.ts"
import { BINARY, type Machine, type World } from "../support/world.ts"

let world: World
let sshd: Sshd
let model: FakeModel
let laptop: Machine
let here: ClaudeHome
let local: string
let remote: string

beforeAll(async () => {
  model = startFakeModel()
  ;({ world, sshd, laptop, here, local, remote } = await makeClaudeSshWorld(model))
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

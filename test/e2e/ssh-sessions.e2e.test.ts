/** The real Claude Code on a host over SSH: seen in the list while it works, held while it is away, and let go when the host is removed. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { hostsOutputSchema, moveOutputSchema } from "../../src/protocol/output.ts"
import { claudePrompt, claudeRun, startClaude, type ClaudeHome } from "../support/claude-home.ts"
import { startFakeModel, toolCall, type FakeModel } from "../support/fake-model.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeClaudeSshWorld } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

let world: World
let sshd: Sshd
let model: FakeModel
let laptop: Machine
let here: ClaudeHome
let there: ClaudeHome
let local: string
let remote: string

beforeAll(async () => {
  model = startFakeModel()
  ;({ world, sshd, laptop, here, there, local, remote } = await makeClaudeSshWorld(model))
}, 120_000)
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
  await model?.stop()
}, 60_000)

async function moved(...args: string[]): Promise<ReturnType<typeof moveOutputSchema.parse>> {
  const result = await laptop.decamp(args, { cwd: local })
  expect([result.exitCode, result.json.error]).toEqual([0, undefined])
  return moveOutputSchema.parse(result.json)
}

async function runningOnBox(): Promise<object | undefined> {
  const { hosts } = hostsOutputSchema.parse((await laptop.decamp(["hosts"])).json)
  return hosts.find(({ name }) => name === "box")?.state?.workspaces[0]
}

const settings = async (): Promise<string> => await readFile(join(there.configDir, "settings.json"), "utf8")

test("a session works on the box and is counted; back home the box's copy is held, until the box is removed", async () => {
  const added = await laptop.plain(["hosts", "add", "ssh", "box", "box"])
  expect(added).toMatchObject({ exitCode: 0 })
  expect(added.stdout).toContain("claude 2.1.197 ✔")
  expect(added.stdout).not.toContain("claude auth login")
  const untouched = await settings()
  const { id } = await claudePrompt({ home: here, cwd: local, prompt: "begun at home" })
  await moved("push", "--migrate")
  expect(await runningOnBox()).toMatchObject({ name: "shop", isOwner: true, running: [] })
  const wait = toolCall("Bash", { command: "touch begun; while [ ! -e go ]; do sleep 0.1; done", description: "wait" })
  const child = startClaude({ home: there, cwd: remote, session: id, prompt: `work ${wait}` })
  try {
    while (!existsSync(join(remote, "begun"))) await Bun.sleep(100)
    expect(await runningOnBox()).toMatchObject({ running: [{ agent: "claude", count: 1 }] })
    expect((await laptop.plain(["hosts"])).stdout).toContain("running: 1 claude")
    await writeFile(join(remote, "go"), "")
    await child.exited
  } finally {
    child.kill("SIGKILL")
  }

  await moved("pull", "--migrate")
  expect(await settings()).not.toBe(untouched)
  const held = await claudeRun({ home: there, cwd: remote, session: id, prompt: "typed while away" })
  expect(new TextDecoder().decode(held.stdout)).not.toContain("REPLY")

  const removed = await laptop.decamp(["hosts", "remove", "box"])
  expect(removed).toMatchObject({ exitCode: 0, json: { left: [] } })
  expect(await settings()).toBe(untouched)
  const { text } = await claudePrompt({ home: there, cwd: remote, session: id, prompt: "typed afterwards" })
  expect(text).toContain("typed afterwards")
  expect((await readdir(sshd.home)).filter((name) => !name.startsWith(".claude") && name !== ".cache")).toEqual(
    expect.arrayContaining([".profile", "decamp"]),
  )
  expect(existsSync(join(sshd.home, ".local/share/decamp"))).toBe(false)
}, 240_000)

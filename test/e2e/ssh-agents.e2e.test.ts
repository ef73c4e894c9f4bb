/** The agents of a host over SSH: what is there, what is put there when asked, and that all of it goes with the host. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { chown, readdir, readlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { hostOutputSchema, hostsOutputSchema } from "../../src/protocol/output.ts"
import { startRegistry, type Registry } from "../support/npm-registry.ts"
import type { Sshd } from "../support/sshd.ts"
import { makeSshWorld } from "../support/ssh-world.ts"
import type { Machine, World } from "../support/world.ts"

const TESTED = [
  { name: "opencode-ai", program: "opencode", version: "1.18.33" },
  { name: "@anthropic-ai/claude-code", program: "claude", version: "2.1.197" },
  { name: "@openai/codex", program: "codex", version: "0.169.0" },
]

let world: World
let sshd: Sshd
let registry: Registry
let laptop: Machine

beforeAll(async () => {
  registry = await startRegistry()
  for (const each of TESTED) await registry.publish({ ...each, script: `echo ${each.version}` })
  ;({ world, sshd, laptop } = await makeSshWorld({ asOtherUser: process.getuid?.() === 0 }))
  await ofUser(".npmrc", `registry=${registry.url}/\n`)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await sshd?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})

async function ofUser(name: string, text: string): Promise<void> {
  await writeFile(join(sshd.home, name), text)
  await chown(join(sshd.home, name), sshd.user.uid, sshd.user.gid)
}

async function homeOfBox(): Promise<string[]> {
  return (await readdir(sshd.home, { recursive: true })).toSorted()
}

test("a host is added without its agents, gets the tested ones when asked, shows its state, and keeps nothing when removed", async () => {
  const before = await homeOfBox()
  const added = await laptop.plain(["hosts", "add", "ssh", "box", "box"])
  expect(added.stdout).toContain("opencode not installed   claude not installed   codex not installed")
  expect(added.exitCode).toBe(0)

  const installed = await laptop.decamp(["hosts", "add", "ssh", "box", "box", "--install-agents"])
  expect(installed).toMatchObject({ exitCode: 0 })
  const { agents, installed: done } = hostOutputSchema.parse(installed.json)
  expect(done?.map(({ result }) => result)).toEqual(["installed", "installed", "installed"])
  expect(agents?.map(({ version, isTested }) => ({ version, isTested }))).toEqual(
    TESTED.map(({ version }) => ({ version, isTested: true })),
  )
  expect(agents?.map(({ missingLogin }) => missingLogin?.command?.join(" "))).toEqual([
    "opencode auth login",
    "claude auth login",
    "codex login --device-auth",
  ])

  const again = await laptop.plain(["hosts", "add", "ssh", "box", "box", "--install-agents"])
  expect(again.stderr).not.toContain("installing")
  expect(again.stdout).toContain("opencode: no model provider is set up: decamp hosts exec box -- opencode auth login")
  const ran = await laptop.plain(["hosts", "exec", "box", "--", "claude", "--version"])
  expect(ran).toMatchObject({ exitCode: 0, stdout: "2.1.197\n" })

  const { hosts } = hostsOutputSchema.parse((await laptop.decamp(["hosts"])).json)
  const state = hosts.find(({ name }) => name === "box")?.state
  expect(state).toMatchObject({ version: expect.any(String), workspaces: [] })
  expect(state?.cores).toBeGreaterThan(0)
  expect(state?.diskFreeBytes).toBeGreaterThan(0)

  expect(await readlink(join(sshd.home, ".local/bin/claude"))).toContain("/installed/claude-2.1.197/")
  expect(await laptop.decamp(["hosts", "remove", "box"])).toMatchObject({ exitCode: 0, json: { left: [] } })
  expect(await homeOfBox()).toEqual(before)
}, 120_000)

test("the list says within seconds why a host does not answer and when it last did", async () => {
  expect(await laptop.plain(["hosts", "add", "ssh", "box", "box"])).toMatchObject({ exitCode: 0 })
  await sshd.stop()
  await sshd.reboot()
  try {
    const startedAt = performance.now()
    const listed = await laptop.plain(["hosts"])
    expect(performance.now() - startedAt).toBeLessThan(8000)
    expect(listed.stdout).toMatch(/^box .*does not answer, last heard of \d\d:\d\d .*box/m)
  } finally {
    await sshd.start()
  }
}, 60_000)

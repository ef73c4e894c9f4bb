/** Hooks that stay, beside the fence's own coming and going; and what is missing before Claude Code can go on. */
import { afterEach, beforeEach, expect, test } from "bun:test"
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { writeTranscript } from "../../../test/support/claude-transcripts.ts"
import type { AgentScope, FenceRequest, WordsInstall } from "../agent.ts"
import { claudeAgent } from "./agent.ts"

const agent = claudeAgent()
let folder: string
let settings: string
let request: WordsInstall
let fence: FenceRequest

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-clwords-")))
  settings = join(folder, ".claude/settings.json")
  await mkdir(join(folder, ".claude"))
  const topLevel = join(folder, "proj")
  await writeTranscript({ home: join(folder, ".claude"), n: 1, directory: topLevel, turns: 1 })
  const marks = join(folder, "marks")
  const scope: AgentScope = { env: { HOME: folder }, topLevel, excluded: [], rootCommit: null, originUrl: null }
  request = { env: scope.env, folder: join(folder, "words"), marks, hook: ["decamp", "hook"] }
  fence = { scope, folder: join(folder, "journal"), marks, words: "away", hook: request.hook }
})
afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

const states = async (): Promise<string[]> => (await agent.inspect(request)).map(({ state }) => state)
const text = async (): Promise<string | null> => await readFile(settings, "utf8").catch(() => null)

test("installed hooks outlive fences, and uninstalling leaves the file as it was, byte for byte", async () => {
  const before = '{"model": "opus"}'
  await writeFile(settings, before)
  expect(await states()).toEqual(["absent"])
  expect(await agent.install(request)).toMatchObject([{ what: "hooks", path: settings, state: "installed" }])
  const installed = await text()
  expect(await agent.install(request)).toMatchObject([{ state: "installed" }])
  await agent.fence(fence)
  await agent.lift(fence)
  expect(await text()).toBe(installed)
  expect(await agent.uninstall(request)).toMatchObject([{ state: "absent" }])
  expect(await text()).toBe(before)
})

test("uninstalling while a session is away leaves the fence, and its lift the file as it was", async () => {
  await agent.fence(fence)
  expect(await agent.inspect(request)).toMatchObject([{ state: "absent", note: expect.any(String) }])
  await agent.install(request)
  expect(await agent.uninstall(request)).toMatchObject([{ note: expect.stringContaining("away") }])
  expect((await agent.fenced(fence)).size).toBe(1)
  await agent.lift(fence)
  expect(await text()).toBeNull()
})

test("what the user took out or broke is said, and settings that can't be read are not written to", async () => {
  await agent.install(request)
  await writeFile(settings, "{}")
  expect(await states()).toEqual(["changed"])
  await agent.uninstall(request)
  expect(await text()).toBe("{}")
  await writeFile(settings, "{nonsense")
  expect(await states()).toEqual(["foreign"])
  await expect(agent.install(request)).rejects.toMatchObject({ code: "not_allowed" })
  expect(await text()).toBe("{nonsense")
})

test("what has to be typed first: program, login, first start, trust", async () => {
  const missing = async (env: Record<string, string> = {}): Promise<readonly string[]> =>
    await agent.missing({ ...fence.scope, env: { HOME: folder, PATH: join(folder, "bin"), ...env } })
  expect(await missing()).toEqual([expect.stringContaining("npm install -g @anthropic-ai/claude-code")])
  await mkdir(join(folder, "bin"))
  await writeFile(join(folder, "bin/claude"), "#!/bin/sh\n")
  await chmod(join(folder, "bin/claude"), 0o755)
  expect(await missing()).toEqual([expect.stringContaining("/login"), expect.stringContaining("trust")])
  expect(await missing({ ANTHROPIC_API_KEY: "x" })).toEqual([
    expect.stringContaining("asks some questions"),
    expect.stringContaining("trust"),
  ])
  const projects = { [folder]: { hasTrustDialogAccepted: true } }
  await writeFile(join(folder, ".claude.json"), JSON.stringify({ hasCompletedOnboarding: true, projects }))
  expect(await missing({ ANTHROPIC_API_KEY: "x" })).toEqual([])
  await writeFile(join(folder, ".claude/.credentials.json"), "a secret that is not read")
  expect(await missing()).toEqual([])
})

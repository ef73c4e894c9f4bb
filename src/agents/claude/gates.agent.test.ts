/** Turns that begin without a prompt, in a window of the real Claude Code whose session is fenced. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { claudePrompt, makeClaudeHome, type ClaudeHome } from "../../../test/support/claude-home.ts"
import { startFakeModel, toolCall, type FakeModel } from "../../../test/support/fake-model.ts"
import { openTerminal } from "../../../test/support/tmux.ts"
import { claudeAgent } from "./agent.ts"
import type { AgentScope, FenceRequest } from "../agent.ts"

const WORDS = "This session is on devbox. Bring it back: decamp pull --migrate"
const agent = claudeAgent()
let folder: string
let model: FakeModel
let home: ClaudeHome
let place: string
let request: FenceRequest

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-clgates-")))
  model = startFakeModel()
  place = join(folder, "home/proj")
  await mkdir(place, { recursive: true })
  home = await makeClaudeHome(join(folder, "home"), model.baseUrl, [place])
  const scope: AgentScope = { env: home.env, topLevel: place, excluded: [], rootCommit: null, originUrl: null }
  const hook = [process.execPath, join(import.meta.dir, "../../main.ts"), "hook"]
  request = { scope, folder: join(folder, "journal"), marks: join(folder, "marks"), words: WORDS, hook }
}, 60_000)

afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true })
})

test("in a fenced window nothing is compacted, and a turn that `!` begins runs no tool and ends after one request", async () => {
  const { id } = await claudePrompt({ home, cwd: place, prompt: "first" })
  const argv = [home.claude, "--resume", id, "--permission-mode", "bypassPermissions"]
  await using window = await openTerminal(folder, argv, { cwd: place, env: home.env })
  await window.until(/bypass permissions on/)
  expect(await agent.fence(request)).toEqual({ sessions: [{ id, strength: "enforced" }], running: [] })
  const asked = model.requests.length
  await window.submit("/compact")
  await window.until(/Compaction blocked[^]*This session is on devbox/)
  expect(model.requests.length).toBe(asked)
  const project = join(home.configDir, "projects", place.replaceAll(/[^A-Za-z0-9]/g, "-"))
  expect(await readFile(join(project, `${id}.jsonl`), "utf8")).not.toContain("compact_boundary")
  await window.submit(`!echo ${toolCall("Bash", { command: "touch by-the-model", description: "x" })}`)
  await window.until(/stopped continuation/)
  await Bun.sleep(1_000)
  expect(model.requests.length).toBe(asked + 1)
  expect(await readdir(place)).not.toContain("by-the-model")
  await agent.lift(request)
}, 120_000)

/** Sessions between versions of the real Claude Code and Codex: there, on, back and on again. The tables of tested pairs come from here. */
import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdir, mkdtemp, realpath, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Agent, AgentScope, SessionExport, VersionPolicy } from "../../src/agents/agent.ts"
import { claudeAgent } from "../../src/agents/claude/agent.ts"
import { codexAgent } from "../../src/agents/codex/agent.ts"
import { requireTestAgents } from "../support/agents.ts"
import { claudePrompt, makeClaudeHome } from "../support/claude-home.ts"
import { codexPrompt, makeCodexHome } from "../support/codex-home.ts"
import { startFakeModel, type FakeModel } from "../support/fake-model.ts"
import { memoryBlobs } from "../support/memory-blobs.ts"
import { newestAgent, otherAgent, type OtherAgent } from "../support/other-agents.ts"

const PINNED = { claude: "2.1.197", codex: "0.169.0" } as const
type Name = keyof typeof PINNED

const blobs = memoryBlobs()
let folder: string
let model: FakeModel
let count = 0

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "decamp-versions-")))
  model = startFakeModel()
})
afterAll(async () => {
  await model.stop()
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
})

interface Place {
  readonly agent: Agent & VersionPolicy
  readonly scope: AgentScope
  /** One prompt; answers the session's id. */
  ask(prompt: string, session?: string): Promise<string>
}

async function place(name: Name, { bin }: OtherAgent): Promise<Place> {
  count += 1
  const path = join(folder, String(count))
  const cwd = join(path, "proj")
  await mkdir(cwd, { recursive: true })
  const of = (env: Readonly<Record<string, string>>): Readonly<Record<string, string>> => ({
    ...env,
    PATH: `${bin}:${env["PATH"]}`,
  })
  const scopeOf = (env: Readonly<Record<string, string>>): AgentScope => ({
    env,
    topLevel: cwd,
    excluded: [],
    rootCommit: null,
    originUrl: null,
  })
  if (name === "claude") {
    const made = await makeClaudeHome(path, model.baseUrl, [cwd])
    const home = { ...made, env: of(made.env), claude: join(bin, name) }
    const ask = async (prompt: string, session?: string): Promise<string> =>
      (await claudePrompt({ home, cwd, prompt, ...(session === undefined ? {} : { session }) })).id
    return { agent: claudeAgent(), scope: scopeOf(home.env), ask }
  }
  const made = await makeCodexHome(path, model.baseUrl, [cwd])
  const home = { ...made, env: of(made.env), codex: join(bin, name) }
  const ask = async (prompt: string, session?: string): Promise<string> =>
    (await codexPrompt({ home, cwd, prompt, ...(session === undefined ? {} : { session }) })).id
  return { agent: codexAgent(), scope: scopeOf(home.env), ask }
}

const pinned = async (name: Name): Promise<OtherAgent> => ({
  version: PINNED[name],
  bin: (await requireTestAgents()).bin,
})

async function take({ agent, scope }: Place, known?: SessionExport): Promise<SessionExport> {
  const sessions = new Map(known?.sessions.map((entry) => [entry.id, entry]))
  return await agent.export(scope, blobs.sink, { part: known?.part ?? null, sessions })
}

async function bring({ agent, scope }: Place, taken: SessionExport, base: SessionExport | null): Promise<string[]> {
  count += 1
  const { part, sessions } = taken
  const digests = new Map(base?.sessions.map((entry) => [entry.id, entry.digest]))
  const undoDirectory = join(folder, `undo-${count}`)
  const imported = await agent.import({ scope, part, sessions, source: blobs.source, base: digests, undoDirectory })
  return imported.sessions.map(({ outcome, reason }) => (reason === undefined ? outcome : `${outcome}: ${reason}`))
}

/** The verdict of the target about what the source wrote. */
async function verdict(source: Place, target: Place): Promise<string> {
  const from = await source.agent.detect(source.scope.env)
  const to = await target.agent.detect(target.scope.env)
  if (from === null || to === null) throw new Error("an agent was not found")
  return target.agent.compareVersions(from, to).verdict
}

const sent = (prompt: string): string =>
  JSON.stringify(model.requests.findLast(({ messages }) => JSON.stringify(messages).includes(prompt))?.messages ?? [])

/** From the older one to the newer, which goes on; home again only where that is allowed. */
async function there(name: Name, older: OtherAgent, newer: OtherAgent): Promise<void> {
  const [a, b] = [await place(name, older), await place(name, newer)]
  const words = `${name} ${older.version} to ${newer.version}`
  const id = await a.ask(`begun: ${words}`)
  expect(await verdict(a, b)).toBe("go")
  const first = await take(a)
  expect(await bring(b, first, null)).toEqual(["moved"])
  await b.ask(`went on: ${words}`, id)
  expect(sent(`went on: ${words}`)).toContain(`begun: ${words}`)
  // What a newer one has written in is not given to an older one.
  expect(await verdict(b, a)).toBe("refuse")
}

test.each([
  ["claude", "2.1.150"],
  ["codex", "0.166.0"],
] as const)(
  "sessions of an older %s (%s) go to the pinned one, and not back",
  async (name, version) => {
    const older = await otherAgent(name, version)
    if (older === null) return
    await there(name, older, await pinned(name))
  },
  120_000,
)

test.each([["claude"], ["codex"]] as const)(
  "sessions of the pinned %s go to npm's newest",
  async (name) => {
    const newest = await newestAgent(name)
    if (newest === null) return
    if (newest.version === PINNED[name]) {
      console.log(`npm's newest ${name} is the pinned one, ${newest.version}`)
      return
    }
    await there(name, await pinned(name), newest)
  },
  240_000,
)

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test"
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { claudeAgent } from "../agents/claude/agent.ts"
import { codexAgent } from "../agents/codex/agent.ts"
import { opencodeAgent } from "../agents/opencode/agent.ts"
import type { StepEvent } from "../lib/steps.ts"
import { startRegistry, type Registry } from "../../test/support/npm-registry.ts"
import { agentRegistry } from "./agents.ts"
import { installAgents, uninstallAgents, type InstallPlace } from "./install-agents.ts"

const NEVER = new AbortController().signal
/** Where node and npm are, and what their scripts need. */
const SYSTEM = [...new Set([dirname(Bun.which("npm") ?? ""), dirname(Bun.which("node") ?? ""), "/usr/bin", "/bin"])]

let registry: Registry
let home: string
let place: InstallPlace
let told: StepEvent[]

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(async () => {
  await registry[Symbol.asyncDispose]()
})

beforeEach(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "decamp-install-")))
  told = []
  place = {
    stateFolder: join(home, ".local/share/decamp/host/state"),
    agents: agentRegistry([opencodeAgent(), claudeAgent(), codexAgent()]),
    env: environment(registry.url),
    log: () => {},
  }
  await mkdir(place.stateFolder, { recursive: true })
  await Promise.all(
    place.agents.all.map(async ({ pinned: { npm, program, version } }) => {
      await registry.publish({ name: npm, program, version, script: `echo ${version}` })
    }),
  )
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

function environment(url: string, first: readonly string[] = []): Record<string, string> {
  const path = [...first, join(home, ".local/bin"), ...SYSTEM].join(":")
  return { HOME: home, PATH: path, npm_config_registry: url }
}

async function install(...names: Parameters<typeof installAgents>[1]) {
  return await installAgents(place, names, (event) => told.push(event), NEVER)
}

const inBin = (name: string): string => join(home, ".local/bin", name)

async function program(path: string, version: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, `#!/bin/sh\necho ${version}\n`)
  await chmod(path, 0o755)
}

/** Everything below HOME but the state folder's own tree. */
async function everything(): Promise<string[]> {
  const names = await readdir(home, { recursive: true })
  return names.filter((name) => !".local/share/decamp/host/state".startsWith(name)).toSorted()
}

test("every agent is there in its tested version afterwards, and again nothing is done", async () => {
  const done = await install()
  expect(done.map(({ result }) => result)).toEqual(["installed", "installed", "installed"])
  for (const agent of place.agents.all) {
    const found = await place.agents.installation(agent, place.env)
    expect(found).toMatchObject({ binary: inBin(agent.pinned.program), version: agent.pinned.version })
  }
  // Nothing in the user's own npm cache, nothing half made.
  expect(await readdir(home)).toEqual([".local"])
  expect((await readdir(join(place.stateFolder, "installed"))).filter((name) => name.endsWith(".partial"))).toEqual([])
  registry.asked.length = 0
  expect((await install()).map(({ result }) => result)).toEqual(["same", "same", "same"])
  expect(registry.asked).toEqual([])
})

test("uninstalling takes away exactly what was put there", async () => {
  const before = await everything()
  await install()
  expect(await uninstallAgents(place)).toEqual([])
  expect(await everything()).toEqual(before)
  expect(await uninstallAgents(place)).toEqual([])
})

test("a program of another version in its place is kept and comes back", async () => {
  await program(join(home, "own/claude-2.1.150"), "2.1.150")
  await mkdir(join(home, ".local/bin"))
  await symlink(join(home, "own/claude-2.1.150"), inBin("claude"))
  await program(inBin("codex"), "0.166.0")
  expect((await install("claude", "codex")).map(({ result }) => result)).toEqual(["installed", "installed"])
  expect((await place.agents.installation(codexAgent(), place.env))?.version).toBe("0.169.0")
  expect(await uninstallAgents(place)).toEqual([])
  expect(await readlink(inBin("claude"))).toBe(join(home, "own/claude-2.1.150"))
  expect(await readFile(inBin("codex"), "utf8")).toContain("0.166.0")
  expect((await readdir(join(home, ".local/bin"))).toSorted()).toEqual(["claude", "codex"])
})

test("what somebody has put in the place of an installed agent since is left alone, and said", async () => {
  await program(inBin("codex"), "0.166.0")
  await install("codex")
  await rm(inBin("codex"))
  await program(inBin("codex"), "0.170.0")
  expect(await uninstallAgents(place)).toEqual([expect.stringContaining(`${inBin("codex")}.before-decamp`)])
  expect(await readFile(inBin("codex"), "utf8")).toContain("0.170.0")
})

test("one agent that the registry does not have is named, and the others are installed", async () => {
  const { npm, program: name } = codexAgent().pinned
  await registry.publish({ name: npm, program: name, version: "0.999.0", script: "echo 0.999.0" })
  const done = await install()
  expect(done.map(({ agent, result }) => `${agent} ${result}`)).toEqual([
    "opencode installed",
    "claude installed",
    "codex failed",
  ])
  expect(done[2]?.problem).toBe(`the registry of npm has no ${npm}@0.169.0`)
  expect(told).toContainEqual({
    type: "warning",
    text: expect.stringContaining("codex 0.169.0 could not be installed"),
  })
})

test("one that does not run on this machine is not put in anybody's way", async () => {
  const { npm, program: name, version } = codexAgent().pinned
  await program(inBin("codex"), "0.166.0")
  await registry.publish({ name: npm, program: name, version, script: "echo no such library >&2; exit 127" })
  const [done] = await install("codex")
  expect(done).toMatchObject({ result: "failed", problem: expect.stringContaining("no such library") })
  expect(await readFile(inBin("codex"), "utf8")).toContain("0.166.0")
  await registry.publish({ name: npm, program: name, version, script: "echo 0.168.0" })
  expect((await install("codex"))[0]?.problem).toContain("0.168.0")
  await registry.publish({ name: npm, program: name, version, script: "true", os: ["aix"] })
  expect((await install("codex"))[0]?.problem).toBe(`there is no ${npm}@${version} for this machine`)
  expect(await readdir(join(place.stateFolder, "installed"))).toEqual([])
})

test("without npm, and without its registry, it is said which is missing", async () => {
  place = { ...place, env: { HOME: home, PATH: `${join(home, ".local/bin")}:${join(home, "empty")}` } }
  expect((await install("claude"))[0]?.problem).toContain("npm is not installed there")
  place = { ...place, env: environment("http://127.0.0.1:9") }
  expect((await install("claude"))[0]?.problem).toContain("the registry of npm can't be reached")
}, 60_000)

test("a copy that comes first in PATH is named before anything is fetched", async () => {
  await program(join(home, "nvm/claude"), "2.1.150")
  place = { ...place, env: environment(registry.url, [join(home, "nvm")]) }
  registry.asked.length = 0
  expect((await install("claude"))[0]?.problem).toContain(`${join(home, "nvm/claude")} comes first in PATH`)
  expect(registry.asked).toEqual([])
})

test("a newer release's version takes the place of the one before, which stays for windows that are open", async () => {
  await install("codex")
  const before = dirname(dirname(await readlink(inBin("codex"))))
  const agent = codexAgent()
  const { npm, program: name } = agent.pinned
  const pinned = { ...agent.pinned, version: "0.170.0" }
  place = { ...place, agents: agentRegistry([{ ...agent, pinned }]) }
  await registry.publish({ name: npm, program: name, version: "0.170.0", script: "echo 0.170.0" })
  expect((await install("codex"))[0]?.result).toBe("installed")
  expect(await readlink(inBin("codex"))).toContain("codex-0.170.0")
  expect((await lstat(before)).isDirectory()).toBe(true)
  expect(await uninstallAgents(place)).toEqual([])
  expect(await lstat(inBin("codex")).catch(() => null)).toBe(null)
})

test("what an installation that was killed has left is cleared away by the next", async () => {
  await mkdir(join(place.stateFolder, "installed/codex-0.169.0.abc.partial/lib"), { recursive: true })
  await install("codex")
  expect(await readdir(join(place.stateFolder, "installed"))).toEqual(["codex-0.169.0", "record.json"])
})

import { lstat, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { addClaudeTurn, claudeId, transcriptPath, writeTranscript } from "../../../test/support/claude-transcripts.ts"
import { run } from "../../lib/process.ts"
import { agentContract, fenceContract, type FenceWorld } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { claudeAgent } from "./agent.ts"
import { placesOf } from "./places.ts"
import { transcriptsOfScope } from "./transcripts.ts"

async function filesBelow(folder: string): Promise<[string, string][]> {
  const found: [string, string][] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    if ((await lstat(path)).isDirectory()) found.push(...(await filesBelow(path)))
    else found.push([path, await readFile(path, "utf8")])
  }
  return found.toSorted(([a], [b]) => (a < b ? -1 : 1))
}

/** The command that the settings name for a prompt, if they do. */
async function promptHook(home: string): Promise<string | null> {
  const text = await readFile(join(home, "settings.json"), "utf8").catch(() => "{}")
  const settings = JSON.parse(text) as { hooks?: Record<string, { hooks: { command: string }[] }[]> }
  return settings.hooks?.["UserPromptSubmit"]?.[0]?.hooks[0]?.command ?? null
}

async function makeWorld(folder: string): Promise<FenceWorld> {
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "my proj_x")
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  let count = 0
  let turns = 2
  const goOn = async (scope: AgentScope, id: string): Promise<void> => {
    const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => claudeId(each) === id) ?? 0
    const { transcripts } = await transcriptsOfScope(placesOf(scope.env), new Map(), { ...scope, topLevel: folder })
    const path = transcripts.find((each) => each.id === id)?.path ?? transcriptPath("", n, "")
    await addClaudeTurn(path, { n, directory: scope.topLevel, turn: turns++ })
  }
  return {
    agent: claudeAgent(),
    source,
    target,
    strength: "enforced",
    goOn,
    /** As the program does it: the hook that the settings name is asked first. */
    async tryToGoOn(scope, id) {
      const command = await promptHook(placesOf(scope.env).home)
      if (command !== null) {
        const stdin = JSON.stringify({ session_id: id, hook_event_name: "UserPromptSubmit", prompt: "go on" })
        const env = { PATH: process.env["PATH"] ?? "", HOME: scope.env["HOME"] ?? "" }
        const { stdout } = await run(["/bin/sh", "-c", command], { env, stdin })
        if (new TextDecoder().decode(stdout).includes('"block"')) return "refused"
      }
      await goOn(scope, id)
      return "accepted"
    },
    /** A program that sleeps stands for the process, and says that it is at work. */
    async beginTurn(scope, id) {
      const child = Bun.spawn(["sleep", "60"])
      const live = placesOf(scope.env).live
      await mkdir(live, { recursive: true })
      const file = join(live, `${child.pid}.json`)
      const facts = { pid: child.pid, sessionId: id, cwd: scope.topLevel, status: "busy" }
      await writeFile(file, JSON.stringify(facts))
      return {
        async [Symbol.asyncDispose]() {
          await rm(file)
          child.kill("SIGKILL")
          await child.exited
        },
      }
    },
    async traces(scope) {
      const { home, projects } = placesOf(scope.env)
      return (await filesBelow(home)).filter(([path]) => !path.startsWith(projects))
    },
    async addSession(directory = source.topLevel) {
      count += 1
      await writeTranscript({ home: placesOf(source.env).home, n: count, directory, turns: 2 })
      return claudeId(count)
    },
    snapshot: async (scope) => await filesBelow(placesOf(scope.env).home),
  }
}

agentContract("claude", makeWorld)
fenceContract("claude", makeWorld)

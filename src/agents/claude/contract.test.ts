import { lstat, mkdir, readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { addClaudeTurn, claudeId, transcriptPath, writeTranscript } from "../../../test/support/claude-transcripts.ts"
import { agentContract } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { claudeAgent } from "./agent.ts"
import { placesOf } from "./places.ts"

async function filesBelow(folder: string): Promise<[string, string][]> {
  const found: [string, string][] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    if ((await lstat(path)).isDirectory()) found.push(...(await filesBelow(path)))
    else found.push([path, await readFile(path, "utf8")])
  }
  return found.toSorted(([a], [b]) => (a < b ? -1 : 1))
}

agentContract("claude", async (folder) => {
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "my proj_x")
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  let count = 0
  let turns = 2
  return {
    agent: claudeAgent(),
    source,
    target,
    async addSession(directory = source.topLevel) {
      count += 1
      await writeTranscript({ home: placesOf(source.env).home, n: count, directory, turns: 2 })
      return claudeId(count)
    },
    async goOn(scope, id) {
      const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => claudeId(each) === id) ?? 0
      const path = transcriptPath(placesOf(scope.env).home, n, scope.topLevel)
      await addClaudeTurn(path, { n, directory: scope.topLevel, turn: turns++ })
    },
    snapshot: async (scope) => await filesBelow(placesOf(scope.env).home),
  }
})

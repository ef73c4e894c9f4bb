import { mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { addTurn, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import { agentContract } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { codexAgent } from "./agent.ts"
import { placesOf } from "./places.ts"
import { allRollouts } from "./rollouts.ts"

agentContract("codex", async (folder) => {
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  let count = 0
  let turns = 2
  return {
    agent: codexAgent(),
    source,
    target,
    async addSession(directory = source.topLevel) {
      count += 1
      await writeRollout({ home: placesOf(source.env).home, n: count, directory, turns: 2 })
      return threadId(count)
    },
    async goOn(scope, id) {
      const found = (await allRollouts(placesOf(scope.env), new Map())).find((rollout) => rollout.id === id)
      const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => threadId(each) === id) ?? 0
      await addTurn(found?.path ?? "", { n, directory: scope.topLevel, turn: turns++ })
    },
    async snapshot(scope) {
      const found = await allRollouts(placesOf(scope.env), new Map())
      return await Promise.all(found.map(async ({ path }) => [path, await readFile(path, "utf8")] as const)).then(
        (files) => files.toSorted(([a], [b]) => (a < b ? -1 : 1)),
      )
    },
  }
})

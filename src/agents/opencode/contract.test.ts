import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { sessionRows } from "../../../test/support/opencode-home.ts"
import { addSession, addTurns, makeOpencodeStore, sessionId } from "../../../test/support/opencode-store.ts"
import { agentContract } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { placesOf } from "./places.ts"

agentContract("opencode", async (folder) => {
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    await makeOpencodeStore(join(folder, name))
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  const storeOf = (scope: AgentScope): string => placesOf(scope.env).database ?? ""
  let count = 0
  let turns = 2
  return {
    agent: opencodeAgent(),
    source,
    target,
    async addSession(directory = source.topLevel) {
      count += 1
      return addSession(storeOf(source), { n: count, directory, turns: 2 })
    },
    async goOn(scope, id) {
      const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => sessionId(each) === id) ?? 0
      addTurns(storeOf(scope), { n, directory: scope.topLevel, turns: 1, from: turns++ })
    },
    snapshot: async (scope) => sessionRows(storeOf(scope)),
  }
})

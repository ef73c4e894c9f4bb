/** The contract of fences, with the real Codex archiving sessions that were made without it. */
import { mkdir, readFile, truncate, stat, appendFile } from "node:fs/promises"
import { join } from "node:path"
import { requireTestAgents } from "../../../test/support/agents.ts"
import { addTurn, threadId, writeRollout } from "../../../test/support/codex-rollouts.ts"
import { fenceContract, type FenceWorld } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { codexAgent } from "./agent.ts"
import { placesOf } from "./places.ts"
import { allRollouts, fencedIds, type Rollout } from "./rollouts.ts"
import { threadLocks } from "./thread-locks.ts"

async function makeWorld(folder: string): Promise<FenceWorld> {
  const { bin } = await requireTestAgents()
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    await mkdir(join(folder, name, ".codex"))
    const env = { HOME: join(folder, name), PATH: `${bin}:${process.env["PATH"] ?? ""}` }
    return { env, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  let count = 0
  let turns = 2
  const rollouts = async (scope: AgentScope): Promise<readonly Rollout[]> =>
    await allRollouts(placesOf(scope.env), new Map())
  const pathOf = async (scope: AgentScope, id: string): Promise<string> =>
    (await rollouts(scope)).find((rollout) => rollout.id === id)?.path ?? ""
  const goOn = async (scope: AgentScope, id: string): Promise<void> => {
    const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => threadId(each) === id) ?? 0
    await addTurn(await pathOf(scope, id), { n, directory: scope.topLevel, turn: turns++ })
  }
  const contents = async (scope: AgentScope): Promise<(readonly [string, string])[]> => {
    const files = (await rollouts(scope)).map(async ({ path }) => [path, await readFile(path, "utf8")] as const)
    return (await Promise.all(files)).toSorted(([a], [b]) => (a < b ? -1 : 1))
  }
  return {
    agent: codexAgent(),
    source,
    target,
    strength: "enforced",
    goOn,
    async addSession(directory = source.topLevel) {
      count += 1
      await writeRollout({ home: placesOf(source.env).home, n: count, directory, turns: 2 })
      return threadId(count)
    },
    snapshot: contents,
    /** As the program does it: it takes its own lock of the session first. */
    async tryToGoOn(scope, id) {
      if (threadLocks().isElsewhere(placesOf(scope.env), id)) return "refused"
      await goOn(scope, id)
      return "accepted"
    },
    /** Another process has the lock, and the rollout ends with the beginning of a turn. */
    async beginTurn(scope, id) {
      const path = await pathOf(scope, id)
      const { size } = await stat(path)
      const line = {
        timestamp: new Date().toISOString(),
        ordinal: 1000,
        type: "event_msg",
        payload: { type: "task_started" },
      }
      await appendFile(path, `${JSON.stringify(line)}\n`)
      const script = `import { threadLocks } from ${JSON.stringify(join(import.meta.dir, "thread-locks.ts"))}
await threadLocks().hold(${JSON.stringify(placesOf(scope.env))}, ${JSON.stringify(id)})
console.log("held"); await Bun.sleep(60_000)`
      const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" })
      for await (const piece of child.stdout) if (piece.byteLength > 0) break
      return {
        async [Symbol.asyncDispose]() {
          child.kill("SIGKILL")
          await child.exited
          await truncate(path, size)
        },
      }
    },
    async traces(scope) {
      const places = placesOf(scope.env)
      const paths = (await rollouts(scope)).map(({ path }) => path).toSorted()
      return { paths, marks: [...(await fencedIds(places))].toSorted() }
    },
  }
}

fenceContract("codex", makeWorld)

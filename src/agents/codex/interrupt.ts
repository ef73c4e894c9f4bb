/** Ending Codex's turns: `codex exec` by SIGINT, which closes the turn; a turn of its server by archiving the session, which does too (0.169.0). */
import { run } from "../../lib/process.ts"
import { endProcesses, signalProcess, stillThere } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope, Interrupter } from "../agent.ts"
import { familiesOf } from "./fence.ts"
import { markFenced } from "./fence-arrival.ts"
import { execsIn, toolsOf } from "./in-use.ts"
import { placesOf } from "./places.ts"
import { rolloutsOfScope, type Rollout, type RolloutMemory } from "./rollouts.ts"
import type { ThreadLocks } from "./thread-locks.ts"

const SIGNAL_LIMIT_MS = 5_000
const ARCHIVE_LIMIT_MS = 20_000
const TOOL_GRACE_MS = 2_000

/** Interrupts Codex's turns. */
export function codexInterrupter(memory: RolloutMemory, locks: ThreadLocks): Interrupter {
  const look = async (scope: AgentScope): Promise<readonly Rollout[]> =>
    (await rolloutsOfScope(placesOf(scope.env), memory, scope)).rollouts
  const runningIn = async (scope: AgentScope): Promise<readonly Rollout[]> => {
    const places = placesOf(scope.env)
    return (await look(scope)).filter(({ id, tail }) => tail.isUnfinished && locks.isElsewhere(places, id))
  }
  return {
    async interrupt(scope) {
      const running = await runningIn(scope)
      const tools = await toolsOf(new Set((await look(scope)).map(({ id }) => id)))
      const execs = await execsIn(scope)
      for (const each of execs) await signalProcess(each, "SIGINT")
      const until = performance.now() + SIGNAL_LIMIT_MS
      while ((await stillThere(execs)).length > 0 && performance.now() < until) await Bun.sleep(100)
      const execsLeft = await endProcesses(execs, { graceMs: 1_000 })
      await closeServed(scope, await look(scope), await runningIn(scope))
      const toolsLeft = await endProcesses(tools, { graceMs: TOOL_GRACE_MS })
      const left = await runningIn(scope)
      return {
        sessions: running.map(({ id }) => id),
        left: [
          ...execsLeft.map(({ pid }): AgentProcess => ({ pid, command: "codex exec", state: "running" })),
          ...toolsLeft.map(({ pid, argv }) => described(pid, argv)),
          ...left.map((): AgentProcess => ({ pid: 0, command: "codex app-server", state: "running" })),
        ],
      }
    },
    async toolProcesses(scope) {
      const tools = await toolsOf(new Set((await look(scope)).map(({ id }) => id)))
      return tools.map(({ pid, argv }) => described(pid, argv))
    },
  }
}

function described(pid: number, argv: readonly string[]): AgentProcess {
  return { pid, command: argv[0] ?? "", state: "running" }
}

/** What its server runs: archived as the fence archives it a moment later, so that lifting that brings it back. */
async function closeServed(scope: AgentScope, all: readonly Rollout[], running: readonly Rollout[]): Promise<void> {
  const binary = Bun.which("codex", { PATH: scope.env["PATH"] ?? "" })
  if (binary === null) return
  // With a session its sub-agents go into the archive.
  const family = familiesOf(all, running)
  for (const { id, archived } of all) if (family.has(id) && archived === "no") await markFenced(placesOf(scope.env), id)
  for (const { id } of running) {
    await run([binary, "archive", id], { cwd: scope.topLevel, env: scope.env, timeoutMs: ARCHIVE_LIMIT_MS })
  }
}

/** Which sessions a live Codex may be working on, from the process table. */
import { liveProcesses, programName } from "../../lib/live-processes.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import type { Rollout } from "./rollouts.ts"

/** A turn that was recorded this long before a process began can't be that process's, ms; clocks of both are this machine's. */
const START_SLACK_MS = 2_000

/** Live Codex processes whose working directory lies in the scope. One that may be driving an unfinished turn is `running`. */
export async function processesOf(scope: AgentScope, rollouts: readonly Rollout[]): Promise<readonly AgentProcess[]> {
  const found = await liveProcesses((argv) => /^codex(\.js)?$/.test(programName(argv)))
  const newest = Math.max(0, ...rollouts.filter(({ tail }) => tail.isUnfinished).map(({ tail }) => tail.lastAtMs))
  return found
    .filter(({ cwd }) => cwd === null || cwd === scope.topLevel || cwd.startsWith(`${scope.topLevel}/`))
    .map(({ pid, argv, cwd, startedAtMs }) => {
      const mayDrive = newest > 0 && (startedAtMs === null || newest >= startedAtMs - START_SLACK_MS)
      const isRunning = cwd === null || mayDrive || argv.includes("exec")
      return { pid, command: argv.includes("exec") ? "codex exec" : "codex", state: isRunning ? "running" : "idle" }
    })
}

/** Processes that have, or may have, each session open; a session that nobody has open is absent. */
export async function openThreads(
  scope: AgentScope,
  rollouts: readonly Rollout[],
): Promise<ReadonlyMap<string, readonly number[]>> {
  const processes = await processesOf(scope, rollouts)
  if (processes.length === 0) return new Map()
  return new Map(rollouts.map(({ id }) => [id, processes.map(({ pid }) => pid)]))
}

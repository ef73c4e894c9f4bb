/**
 * Ending Claude Code's turns. 2.1.197 takes no word from outside: SIGINT ends the process, a window too, within half a second, and
 * leaves its tools and an open transcript behind, which are ended and closed here.
 */
import { endProcesses, processTree, signalProcess, stillThere, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope, Interrupter } from "../agent.ts"
import { liveSessions } from "./in-use.ts"
import { closeTranscript } from "./interrupted-turn.ts"
import { listSessions } from "./listing.ts"
import { placesOf } from "./places.ts"
import type { ClaudeMemory } from "./store.ts"
import { described, toolsOf } from "./tool-processes.ts"
import { transcriptsOfScope } from "./transcripts.ts"

const SIGNAL_LIMIT_MS = 4_000
const TOOL_GRACE_MS = 2_000
const POLL_MS = 100
/** A tool that is ended may just have started another. */
const MAX_ROUNDS = 3

/** Interrupts Claude Code's turns. */
export function claudeInterrupter(memory: ClaudeMemory): Interrupter {
  const idsOf = async (scope: AgentScope): Promise<ReadonlySet<string>> =>
    new Set((await listSessions(memory, scope)).map(({ id }) => id))
  return {
    interrupt: async (scope) => await interrupt(memory, scope),
    toolProcesses: async (scope) => (await toolsOf(scope, await idsOf(scope))).map(described),
  }
}

async function interrupt(
  memory: ClaudeMemory,
  scope: AgentScope,
): Promise<{ readonly sessions: readonly string[]; readonly left: readonly AgentProcess[] }> {
  const sessions = await listSessions(memory, scope)
  const ids = new Set(sessions.map(({ id }) => id))
  const drivers = await busyProcesses(scope, ids)
  const tools = await toolsOf(scope, ids)
  const running = sessions.filter(({ state }) => state === "running").map(({ id }) => id)
  const left = await endDrivers(drivers)
  const toolsLeft = await endTools(scope, ids, tools)
  const closed = await closeLeftOpen(memory, scope)
  return {
    sessions: [...new Set([...running, ...closed])],
    left: [
      ...left.map(({ pid }) => ({ pid, command: "claude", state: "running" as const })),
      ...toolsLeft.map(described),
    ],
  }
}

/** Processes in the middle of a turn, of the scope's sessions or in its directory. */
async function busyProcesses(scope: AgentScope, ids: ReadonlySet<string>): Promise<readonly TreeProcess[]> {
  const busy = (await liveSessions(placesOf(scope.env))).filter(
    ({ isIdle, sessionId, cwd }) =>
      !isIdle && (ids.has(sessionId) || cwd === scope.topLevel || cwd.startsWith(`${scope.topLevel}/`)),
  )
  const pids = new Set(busy.map(({ pid }) => pid))
  return (await processTree(() => false)).filter(({ pid }) => pids.has(pid))
}

async function endDrivers(drivers: readonly TreeProcess[]): Promise<readonly TreeProcess[]> {
  for (const each of drivers) await signalProcess(each, "SIGINT")
  const until = performance.now() + SIGNAL_LIMIT_MS
  let left = await stillThere(drivers)
  while (left.length > 0 && performance.now() < until) {
    await Bun.sleep(POLL_MS)
    left = await stillThere(left)
  }
  return await endProcesses(left, { graceMs: TOOL_GRACE_MS })
}

async function endTools(
  scope: AgentScope,
  ids: ReadonlySet<string>,
  tools: readonly TreeProcess[],
): Promise<readonly TreeProcess[]> {
  let left = await stillThere(tools)
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const targets = new Map([...left, ...(await toolsOf(scope, ids))].map((each) => [each.pid, each]))
    if (targets.size === 0) return []
    left = await endProcesses([...targets.values()], { graceMs: TOOL_GRACE_MS })
  }
  return left
}

/** Closes the turns that no process is at work in. @returns ids of the sessions */
async function closeLeftOpen(memory: ClaudeMemory, scope: AgentScope): Promise<readonly string[]> {
  const open = new Set(
    (await listSessions(memory, scope)).filter(({ state }) => state === "interrupted").map(({ id }) => id),
  )
  if (open.size === 0) return []
  const { transcripts } = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
  const closed: string[] = []
  for (const { id, path } of transcripts.filter((each) => open.has(each.id))) {
    if (await closeTranscript(path)) closed.push(id)
  }
  return closed
}

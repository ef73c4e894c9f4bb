/**
 * What Claude Code's tools have started. Seen in 2.1.197: a tool's shell leads a process group of its own and is told the session in
 * CLAUDE_CODE_SESSION_ID; it outlives a Claude Code that is ended.
 */
import { descendantsOf, environmentOf, processTree, programName, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import { isInScope } from "../scope.ts"
import { liveSessions } from "./in-use.ts"
import { placesOf } from "./places.ts"

/** Processes that tools started and that may still change files of the scope. `sessions`: ids of the scope's sessions. */
export async function toolsOf(scope: AgentScope, sessions: ReadonlySet<string>): Promise<readonly TreeProcess[]> {
  const tree = await processTree()
  const isHere = (cwd: string | null): boolean => cwd !== null && isInScope(cwd, scope)
  const live = (await liveSessions(placesOf(scope.env))).filter(
    (each) => isHere(each.cwd) || sessions.has(each.sessionId),
  )
  const spared = ownProcesses(tree, new Set(live.map(({ pid }) => pid)))
  const found = new Map<number, TreeProcess>()
  for (const { pid } of live) {
    const group = tree.find((each) => each.pid === pid)?.pgid
    const shells = tree.filter((each) => each.ppid === pid && each.pgid !== group)
    for (const each of [...shells, ...below(tree, shells)]) found.set(each.pid, each)
  }
  const known = new Set(
    below(
      tree,
      tree.filter(({ pid }) => live.some((each) => each.pid === pid)),
    ).map(({ pid }) => pid),
  )
  // Whatever such a shell has left in the background is told the same.
  const strays = tree.filter(({ pid, cwd }) => isHere(cwd) && !known.has(pid) && !spared.has(pid))
  const orphans = await Promise.all(strays.map(async (each) => ((await isTool(each)) ? [each] : [])))
  for (const each of orphans.flat()) found.set(each.pid, each)
  const agents = new Set(live.map(({ pid }) => pid))
  return [...found.values()].filter(({ pid }) => !spared.has(pid) && !agents.has(pid))
}

/** For {@link Interrupter.toolProcesses}: the program alone, what it was told is nobody's business. */
export function described({ pid, argv }: TreeProcess): AgentProcess {
  return { pid, command: programName(argv), state: "running" }
}

async function isTool({ pid, argv }: TreeProcess): Promise<boolean> {
  if (programName(argv) === "claude") return false
  const env = await environmentOf(pid, ["CLAUDECODE", "CLAUDE_CODE_SESSION_ID"])
  return env?.get("CLAUDECODE") === "1" && env.has("CLAUDE_CODE_SESSION_ID")
}

function below(tree: readonly TreeProcess[], processes: readonly TreeProcess[]): TreeProcess[] {
  return descendantsOf(
    tree,
    processes.map(({ pid }) => pid),
  )
}

/** This process, those that started it and what it runs itself, but not what an agent that it runs has started. */
function ownProcesses(tree: readonly TreeProcess[], agents: ReadonlySet<number>): ReadonlySet<number> {
  const byPid = new Map(tree.map((each) => [each.pid, each]))
  const others = tree.filter(({ pid }) => !agents.has(pid))
  const own = new Set(descendantsOf(others, [process.pid]).map(({ pid }) => pid))
  for (let pid = process.pid; pid > 1 && !own.has(pid); pid = byPid.get(pid)?.ppid ?? 0) own.add(pid)
  return own
}

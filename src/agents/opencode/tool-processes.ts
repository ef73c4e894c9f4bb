/**
 * What opencode's tools have started. Seen in 1.18.33: a tool's shell begins a session and process group of its own; MCP and LSP servers
 * stay in opencode's group. All of them inherit OPENCODE=1 and OPENCODE_PID, by which one is known whose opencode has ended.
 */
import { descendantsOf, environmentOf, programName, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import { activityOf, isOpencode, type Activity } from "./processes.ts"
import { isInScope } from "../scope.ts"

/** A look at the process table in which tools can be told. */
export async function activityWithTools(scope: AgentScope): Promise<Activity> {
  return await activityOf(scope, () => true)
}

/** Processes that tools of opencode started and that may still change files of the scope, parents before children. */
export async function toolsOf(scope: AgentScope, { tree, here }: Activity): Promise<readonly TreeProcess[]> {
  const spared = ownProcesses(tree)
  const isHere = new Set(here.map(({ pid }) => pid))
  const opencodes = tree.filter(({ argv }) => isOpencode(argv))
  const works = ({ cwd }: TreeProcess): boolean => cwd !== null && isInScope(cwd, scope)
  const children = Map.groupBy(tree, ({ ppid }) => ppid)
  const found = new Map<number, TreeProcess>()
  for (const opencode of opencodes) {
    const shells = (children.get(opencode.pid) ?? []).filter(({ pgid }) => pgid !== opencode.pgid)
    for (const each of [...shells, ...belowAll(tree, shells)]) {
      if (isHere.has(opencode.pid) || works(each)) found.set(each.pid, each)
    }
  }
  const below = new Set(belowAll(tree, opencodes).map(({ pid }) => pid))
  const strays = tree.filter((each) => works(each) && !below.has(each.pid) && !spared.has(each.pid))
  const orphans = await Promise.all(strays.map(async (each) => ((await isOrphan(each, opencodes)) ? [each] : [])))
  for (const each of orphans.flat()) found.set(each.pid, each)
  for (const each of belowAll(tree, orphans.flat())) found.set(each.pid, each)
  return [...found.values()].filter(({ pid, argv }) => !spared.has(pid) && !isOpencode(argv))
}

/** The same for {@link Interrupter.toolProcesses}. */
export async function toolProcesses(scope: AgentScope): Promise<readonly AgentProcess[]> {
  return (await toolsOf(scope, await activityWithTools(scope))).map(described)
}

/** The program alone: what it was told is nobody's business. */
export function described({ pid, argv }: TreeProcess): AgentProcess {
  return { pid, command: programName(argv), state: "running" }
}

function belowAll(tree: readonly TreeProcess[], processes: readonly TreeProcess[]): TreeProcess[] {
  return descendantsOf(
    tree,
    processes.map(({ pid }) => pid),
  )
}

/** Whether a process whose parents have ended was started by a tool, and not as a server that opencode keeps for itself. */
async function isOrphan({ pid, pgid, argv }: TreeProcess, opencodes: readonly TreeProcess[]): Promise<boolean> {
  if (isOpencode(argv)) return false
  const env = await environmentOf(pid, ["OPENCODE", "OPENCODE_PID"])
  if (env?.get("OPENCODE") !== "1") return false
  const parent = Number(env.get("OPENCODE_PID") ?? 0)
  const alive = opencodes.find((each) => each.pid === parent)
  // opencode's own group is led by itself or by who started it, both older; a tool's by its shell, which is younger.
  return alive === undefined ? pgid === pid || pgid > parent : pgid !== alive.pgid
}

/**
 * This process, those that started it and what it runs itself, also when a tool of opencode started it: but not what an opencode that
 * it runs has started.
 */
function ownProcesses(tree: readonly TreeProcess[]): ReadonlySet<number> {
  const byPid = new Map(tree.map((each) => [each.pid, each]))
  const others = tree.filter(({ argv }) => !isOpencode(argv))
  const own = new Set(descendantsOf(others, [process.pid]).map(({ pid }) => pid))
  for (let pid = process.pid; pid > 1 && !own.has(pid); pid = byPid.get(pid)?.ppid ?? 0) own.add(pid)
  return own
}

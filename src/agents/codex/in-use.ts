/** Which sessions a live Codex has open, by its own locks, and its processes in a directory. Facts seen in 0.169.0. */
import { readTextIfExists } from "../../lib/files.ts"
import { join } from "node:path"
import { environmentOf, processTree, programName, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope, SessionState } from "../agent.ts"
import { placesOf } from "./places.ts"
import { isInScope } from "../scope.ts"
import type { Rollout } from "./rollouts.ts"
import type { ThreadLocks } from "./thread-locks.ts"

const isCodex = (argv: readonly string[]): boolean => /^codex(\.js)?$/.test(programName(argv))
/** Serves the interfaces of all directories; where it was started says nothing. */
const isServer = ({ argv }: TreeProcess): boolean => argv.includes("app-server")
/** `codex exec` (`codex e`) and `codex review` end with their turn. A word after the first prompt-like one is text. */
const isExec = ({ argv }: TreeProcess): boolean => {
  const prompt = argv.findIndex((word, index) => index > 0 && /\s/.test(word))
  const words = argv.slice(1, prompt === -1 ? argv.length : prompt)
  return words.some((word) => word === "exec" || word === "e" || word === "review")
}

export function stateOf(rollout: Rollout, isElsewhere: boolean): SessionState {
  if (rollout.tail.isUnfinished) return isElsewhere ? "running" : "interrupted"
  return isElsewhere ? "open" : "idle"
}

/** Codex's programs whose working directory lies in the scope, its server left out; an interpreter and what it starts are one. */
export async function programsIn(scope: AgentScope): Promise<readonly TreeProcess[]> {
  const tree = (await processTree(isCodex)).filter(({ argv }) => isCodex(argv))
  const pids = new Set(tree.map(({ pid }) => pid))
  const isHere = ({ cwd }: TreeProcess): boolean => cwd === null || isInScope(cwd, scope)
  return tree.filter((each) => !isServer(each) && !pids.has(each.ppid) && isHere(each))
}

/** Live Codex processes that may write to sessions of the scope. One that drives an unfinished turn, or may, is `running`. */
export async function processesOf(
  scope: AgentScope,
  rollouts: readonly Rollout[],
  locks: ThreadLocks,
): Promise<readonly AgentProcess[]> {
  const places = placesOf(scope.env)
  const isTurnOpen = rollouts.some(({ id, tail }) => tail.isUnfinished && locks.isElsewhere(places, id))
  const found = (await programsIn(scope)).map((each): AgentProcess => {
    const isRunning = each.cwd === null || isExec(each) || isTurnOpen
    return { pid: each.pid, command: isExec(each) ? "codex exec" : "codex", state: isRunning ? "running" : "idle" }
  })
  if (!isTurnOpen || found.some(({ state }) => state === "running")) return found
  // The interface is gone; its server goes on with the turn.
  return [...found, { pid: (await serverPid(scope)) ?? 0, command: "codex app-server", state: "running" }]
}

/** The `codex exec` programs of the scope. */
export async function execsIn(scope: AgentScope): Promise<readonly TreeProcess[]> {
  return (await programsIn(scope)).filter(isExec)
}

async function serverPid(scope: AgentScope): Promise<number | null> {
  const text = await readTextIfExists(join(placesOf(scope.env).home, "app-server-daemon/daemon.pid"))
  const pid = /"pid"\s*:\s*(\d{1,9})/.exec(text ?? "")?.[1]
  return pid === undefined ? null : Number(pid)
}

/** Programs that tools of these sessions started, and what those started: Codex gives each the session's id. */
export async function toolsOf(ids: ReadonlySet<string>): Promise<readonly TreeProcess[]> {
  if (ids.size === 0) return []
  const tree = (await processTree(() => false)).filter(({ argv }) => !isCodex(argv))
  const threads = await Promise.all(
    tree.map(async ({ pid }) => (await environmentOf(pid, ["CODEX_THREAD_ID"]))?.get("CODEX_THREAD_ID")),
  )
  return tree.filter((_, index) => ids.has(threads[index] ?? ""))
}

/** Which opencode processes are at work in a directory: process table, working directory, and what the store says about turns. */
import { realpath } from "node:fs/promises"
import { havingOpen, processTree, programName, type TreeProcess } from "../../lib/process-tree.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import { placesOf } from "./places.ts"
import { isInScope } from "../scope.ts"
import type { StoredSession } from "./store.ts"

/** A turn that was recorded this long before a process began can't be that process's, ms; clocks of both are this machine's. */
const START_SLACK_MS = 2_000

export interface Activity {
  /** The whole process table. */
  readonly tree: readonly TreeProcess[]
  /** opencode processes whose working directory lies in the scope, or can't be told. */
  readonly here: readonly TreeProcess[]
  /** Others that have this store open and go on with sessions of any directory: servers, and those that name a session. */
  readonly elsewhere: readonly TreeProcess[]
}

/** One look at the process table, for all sessions of a scope; working directories of opencode's processes, or of all. */
export async function activityOf(scope: AgentScope, wantsCwd = isOpencode): Promise<Activity> {
  const tree = await processTree(wantsCwd)
  const all = tree.filter(({ argv }) => isOpencode(argv))
  const here = all.filter(({ cwd }) => cwd === null || isInScope(cwd, scope))
  const others = all.filter((each) => !here.includes(each) && worksAnywhere(each.argv))
  const { database } = placesOf(scope.env)
  if (others.length === 0 || database === null) return { tree, here, elsewhere: [] }
  const real = await realpath(database).catch(() => database)
  const open = await havingOpen(
    others.map(({ pid }) => pid),
    real,
  )
  return { tree, here, elsewhere: others.filter(({ pid }) => open.has(pid)) }
}

/** The processes that may be in the middle of a session's unfinished turn. */
export function driversOf({ here, elsewhere }: Activity, session: StoredSession): readonly TreeProcess[] {
  if (!session.isUnfinished) return []
  return [...here, ...elsewhere.filter(({ argv }) => !namesSession(argv) || argv.includes(session.id))].filter(
    ({ startedAtMs }) => startedAtMs === null || session.newestMessageAtMs >= startedAtMs - START_SLACK_MS,
  )
}

/**
 * Live opencode processes whose working directory lies in the scope. One that may be driving an unfinished turn is `running`:
 * so is every `opencode run`, which ends with its turn, and a process of which nothing more can be told.
 */
export async function processesOf(
  scope: AgentScope,
  unfinished: readonly StoredSession[],
): Promise<readonly AgentProcess[]> {
  return agentProcesses(await activityOf(scope), unfinished)
}

/** The same from a look that was taken already. */
export function agentProcesses(activity: Activity, unfinished: readonly StoredSession[]): readonly AgentProcess[] {
  const drivers = new Set(unfinished.flatMap((session) => driversOf(activity, session)))
  const elsewhere = activity.elsewhere.filter((each) => drivers.has(each))
  return [...activity.here, ...elsewhere].map((each) => {
    const isRunning = drivers.has(each) || each.cwd === null || isRun(each.argv)
    return { pid: each.pid, command: describe(each.argv), state: isRunning ? "running" : "idle" }
  })
}

/** Whether a command line is opencode's: the program itself, its npm launcher, the desktop app's. */
export function isOpencode(argv: readonly string[]): boolean {
  return /^\.?opencode(-cli)?(\.exe|\.m?js)?$/.test(programName(argv))
}

/** `opencode run` ends with its turn. */
export function isRun(argv: readonly string[]): boolean {
  return argv.slice(1, 4).includes("run")
}

/** A server goes on with sessions of any directory, for many at once. */
export function isServer(argv: readonly string[]): boolean {
  return argv.slice(1, 6).some((word) => ["serve", "web", "acp"].includes(word))
}

function worksAnywhere(argv: readonly string[]): boolean {
  return isServer(argv) || namesSession(argv)
}

function namesSession(argv: readonly string[]): boolean {
  return argv.some((word) => /^(--session=)?ses_[0-9A-Za-z]+$/.test(word))
}

/** The program and its subcommand: prompts and other arguments are nobody's business. */
export function describe(argv: readonly string[]): string {
  const subcommand = argv.slice(1).find((word) => /^[a-z]{2,12}$/.test(word))
  return subcommand === undefined ? "opencode" : `opencode ${subcommand}`
}

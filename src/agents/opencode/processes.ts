/** Which opencode processes are at work in a directory: process table, working directory, and what the store says about turns. */
import { liveProcesses, programName } from "../../lib/live-processes.ts"
import type { AgentProcess, AgentScope } from "../agent.ts"
import { isInScope, type StoredSession } from "./store.ts"

/** A turn that was recorded this long before a process began can't be that process's, ms; clocks of both are this machine's. */
const START_SLACK_MS = 2_000

/**
 * Live opencode processes whose working directory lies in the scope. One that may be driving an unfinished turn is `running`:
 * so is every `opencode run`, which ends with its turn, and a process of which nothing more can be told.
 */
export async function processesOf(
  scope: AgentScope,
  unfinished: readonly StoredSession[],
): Promise<readonly AgentProcess[]> {
  const found = await liveProcesses((argv) => /^\.?opencode(\.exe|\.m?js)?$/.test(programName(argv)))
  const newest = Math.max(0, ...unfinished.map(({ newestMessageAtMs }) => newestMessageAtMs))
  return found
    .filter(({ cwd }) => cwd === null || isInScope(cwd, scope))
    .map(({ pid, argv, cwd, startedAtMs }) => {
      const mayDrive = unfinished.length > 0 && (startedAtMs === null || newest >= startedAtMs - START_SLACK_MS)
      const isRunning = cwd === null || mayDrive || argv.slice(1, 4).includes("run")
      return { pid, command: describe(argv), state: isRunning ? "running" : "idle" }
    })
}

/** The program and its subcommand: prompts and other arguments are nobody's business. */
function describe(argv: readonly string[]): string {
  const subcommand = argv.slice(1).find((word) => /^[a-z]{2,12}$/.test(word))
  return subcommand === undefined ? "opencode" : `opencode ${subcommand}`
}

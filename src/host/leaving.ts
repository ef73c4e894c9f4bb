/** A host is being removed: what decamp has put outside of its own folder there goes first, while there is still a program that knows how. */
import { toAppError } from "../protocol/errors.ts"
import { agentWords } from "./agent-words.ts"
import type { Daemon } from "./daemon.ts"
import { uninstallAgents, type InstallPlace } from "./install-agents.ts"
import type { Runtime } from "./runtime.ts"

/**
 * Lifts the fences, takes the readable words out of the agents' settings, and the agents away that decamp installed. Idempotent.
 * @returns what could not be taken away, or what a person has to know, a line each
 */
export async function leave(daemon: Daemon, runtime: Runtime, place: InstallPlace): Promise<string[]> {
  const left = await runtime.leave()
  const env = daemon.ownEnvironment ?? {}
  for (const { agent, pieces, problem } of await agentWords(daemon, env, { action: "uninstall", agents: [] })) {
    if (problem !== null) left.push(`${agent}: ${problem}`)
    for (const { state, what, path, note } of pieces) {
      if (state === "installed" || state === "changed") left.push(`${agent}: ${what} in ${path} stay${noteOf(note)}`)
    }
  }
  const installed = await uninstallAgents(place).catch((error: unknown) => [
    `agents that decamp installed: ${toAppError(error).message}`,
  ])
  return [...left, ...installed]
}

function noteOf(note: string | undefined): string {
  return note === undefined ? "" : ` (${note})`
}

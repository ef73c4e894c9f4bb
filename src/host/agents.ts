/** The agents of this host: found once per binary, asked for the sessions of one directory. */
import type {
  Agent,
  AgentEnvironment,
  AgentInstallation,
  AgentProcess,
  AgentScope,
  Fencer,
  Installable,
  Interrupter,
  Prompter,
  Quiescer,
  Readiness,
  SessionPortability,
  VersionPolicy,
  WordsInstaller,
} from "../agents/agent.ts"
import type { Repository } from "../checkpoint/code.ts"
import { AppError } from "../protocol/errors.ts"

export type HostAgent = Agent &
  Quiescer &
  VersionPolicy &
  SessionPortability &
  Interrupter &
  Fencer &
  Prompter &
  Readiness &
  WordsInstaller &
  Installable

export interface AgentRegistry {
  readonly all: readonly HostAgent[]
  /** Installation under this environment. Agents remember the version of a binary; the stamp of the store is read anew. */
  installation(agent: HostAgent, env: AgentEnvironment): Promise<AgentInstallation | null>
}

export function agentRegistry(all: readonly HostAgent[]): AgentRegistry {
  return { all, installation: async (agent, env) => await agent.detect(env) }
}

/** What the agents are asked about: this directory, without the repositories nested in it. */
export async function scopeOf(repository: Repository, env: AgentEnvironment): Promise<AgentScope> {
  const { nested, rootCommit } = await repository.survey()
  return {
    env,
    topLevel: repository.topLevel,
    excluded: nested,
    rootCommit,
    originUrl: repository.originUrl,
  }
}

export interface Waiting {
  /** How long to wait, ms; null: until it ends. */
  readonly waitMs: number | null
  readonly signal: AbortSignal
  readonly notice: (text: string) => void
}

const SETTLE_MS = 2000

/**
 * Waits until no agent process of the directory is in a turn.
 * @throws {AppError} session_busy naming the processes, interrupted on abort
 */
export async function waitForQuiet(registry: AgentRegistry, scope: AgentScope, waiting: Waiting): Promise<void> {
  let wasBusy = false
  await waitUntilNone(waiting, scope, "turn", async () => {
    const running = (await processesOf(registry, scope)).filter(({ state }) => state === "running")
    if (running.length > 0) wasBusy = true
    return running
  })
  // Seen running: an agent may write once more just after its turn (opencode 1.18.33 does, about 1 s later).
  if (!wasBusy) return
  await Bun.sleep(SETTLE_MS)
  await waitForQuiet(registry, scope, waiting)
}

/**
 * Waits until no program that a tool of an agent started is left: it would go on changing files after they were captured.
 * @throws {AppError} session_busy naming them, interrupted on abort
 */
export async function waitForTools(registry: AgentRegistry, scope: AgentScope, waiting: Waiting): Promise<void> {
  await waitUntilNone(waiting, scope, "tool", async () => {
    const found = await Promise.all(registry.all.map(async (agent) => named(agent, await agent.toolProcesses(scope))))
    return found.flat()
  })
}

/**
 * Ends the running turns of a directory.
 * @returns what was interrupted: `agent session-id`
 * @throws {AppError} session_busy naming what could not be ended
 */
export async function interruptTurns(registry: AgentRegistry, scope: AgentScope): Promise<string[]> {
  const done = await Promise.all(
    registry.all.map(async (agent) => {
      const { sessions, left } = await agent.interrupt(scope)
      return { sessions: sessions.map((id) => `${agent.name} ${id}`), left: named(agent, left) }
    }),
  )
  const left = done.flatMap((each) => each.left)
  if (left.length > 0) throw busy(scope, "turn", left, "end them by hand and try again")
  return done.flatMap(({ sessions }) => sessions)
}

type Named = AgentProcess & { readonly agent: string }

async function processesOf(registry: AgentRegistry, scope: AgentScope): Promise<Named[]> {
  const found = await Promise.all(registry.all.map(async (agent) => named(agent, await agent.processes(scope))))
  return found.flat()
}

function named(agent: HostAgent, processes: readonly AgentProcess[]): Named[] {
  return processes.map((process) => ({ ...process, agent: agent.name }))
}

async function waitUntilNone(
  { waitMs, signal, notice }: Waiting,
  scope: AgentScope,
  what: "turn" | "tool",
  look: () => Promise<readonly Named[]>,
): Promise<void> {
  const startedAt = performance.now()
  let told = ""
  for (;;) {
    const found = await look()
    if (found.length === 0) return
    const words = wordsFor(found)
    if (waitMs !== null && performance.now() - startedAt >= waitMs) {
      throw busy(scope, what, found, "wait for it to end, say --wait=SECONDS, or interrupt it with --now")
    }
    if (signal.aborted) throw new AppError("interrupted", `waiting for ${words} was interrupted`)
    if (told !== words) notice(`waiting for the ${what} to end: ${words} (^C: cancel; --now interrupts it)`)
    told = words
    await Bun.sleep(500)
  }
}

function wordsFor(processes: readonly Named[]): string {
  return processes.map(({ agent, pid }) => `${agent} (pid ${pid})`).join(", ")
}

function busy(scope: AgentScope, what: "turn" | "tool", processes: readonly Named[], hint: string): AppError {
  return new AppError("session_busy", `a ${what} is running in ${scope.topLevel}: ${wordsFor(processes)}`, {
    hint: `nothing was changed; ${hint}`,
    details: { pids: processes.map(({ pid }) => pid) },
  })
}

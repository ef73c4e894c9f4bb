/** The agents of this host: found once per binary, asked for the sessions of one directory. */
import type {
  Agent,
  AgentEnvironment,
  AgentInstallation,
  AgentProcess,
  AgentScope,
  Quiescer,
  SessionPortability,
  VersionPolicy,
} from "../agents/agent.ts"
import type { Repository } from "../checkpoint/code.ts"
import { AppError } from "../protocol/errors.ts"

export type HostAgent = Agent & Quiescer & VersionPolicy & SessionPortability

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

export interface Quiet {
  /** Idle processes that are open in this directory: nothing stops them from writing (docs/limits.md). */
  readonly idle: readonly (AgentProcess & { readonly agent: string })[]
}

const SETTLE_MS = 2000

/**
 * Waits until no agent process of the directory is in a turn.
 * @param waitMs how long to wait; null: until they end
 * @throws {AppError} session_busy naming the processes, interrupted on abort
 */
export async function waitForQuiet(
  registry: AgentRegistry,
  scope: AgentScope,
  options: { readonly waitMs: number | null; readonly signal: AbortSignal; readonly notice: (text: string) => void },
): Promise<Quiet> {
  const startedAt = performance.now()
  let told = ""
  for (;;) {
    const found = await Promise.all(
      registry.all.map(async (agent) =>
        (await agent.processes(scope)).map((process) => ({ ...process, agent: agent.name })),
      ),
    )
    const processes = found.flat()
    const running = processes.filter((process) => process.state === "running")
    if (running.length === 0) {
      if (told === "") return { idle: processes }
      // Seen running: an agent may write once more just after its turn (opencode 1.18.33 does, about 1 s later).
      told = ""
      await Bun.sleep(SETTLE_MS)
      continue
    }
    const names = running.map((process) => `${process.agent} (pid ${process.pid})`).join(", ")
    if (options.waitMs !== null && performance.now() - startedAt >= options.waitMs) {
      throw new AppError("session_busy", `a turn is running in ${scope.topLevel}: ${names}`, {
        hint: "nothing was changed; wait for the turn to end, or say --wait=SECONDS",
        details: { pids: running.map((process) => process.pid) },
      })
    }
    if (options.signal.aborted) throw new AppError("interrupted", `waiting for ${names} was interrupted`)
    if (told !== names) options.notice(`waiting for the turn to end: ${names}`)
    told = names
    await Bun.sleep(500)
  }
}

/** Lines about open agent programs that could still write: until issue C nothing stops them. */
export function idleNotices(quiet: Quiet): string[] {
  return quiet.idle.map(
    (process) =>
      `${process.agent} (pid ${process.pid}) is open here and idle: nothing stops it from writing, so leave it alone until the workspace is back`,
  )
}

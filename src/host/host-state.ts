/** What this host says of itself when its gateway looks: the machine, the agents, the workspaces and who works in them. Changes nothing. */
import { statfs } from "node:fs/promises"
import { availableParallelism, freemem, loadavg } from "node:os"
import { dirname } from "node:path"
import type { AgentScope } from "../agents/agent.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { isLiveOwner, unknownJournal } from "../handoff/host.ts"
import { toAppError } from "../protocol/errors.ts"
import type { AgentState, HostState } from "../protocol/host-state.ts"
import { DECAMP_VERSION } from "../protocol/version.ts"
import { scopeOf, type HostAgent } from "./agents.ts"
import type { Daemon } from "./daemon.ts"
import { isPinned } from "./install-agents.ts"
import type { Place } from "./store/host-store.ts"

type WorkspaceState = HostState["workspaces"][number]

/** What is nested in a directory and which is its first commit is read again after this time. */
const SCOPE_LASTS_MS = 5 * 60_000
/** A large repository must not keep the rest from being told. */
const SESSIONS_MS = 1500

interface Known {
  readonly scope: AgentScope
  readonly atMs: number
}

/** Makes the function that looks; it remembers the scopes of the workspaces for some minutes. */
export function hostStates(daemon: Daemon): () => Promise<HostState> {
  const scopes = new Map<string, Known>()
  return async () => {
    const env = daemon.ownEnvironment ?? {}
    const [agents, workspaces, diskFreeBytes] = await Promise.all([
      Promise.all(daemon.agents.all.map(async (agent) => await agentState(daemon, agent, env))),
      Promise.all(daemon.store.places().map(async (place) => await workspaceState(daemon, scopes, place))),
      freeBytes(daemon.workFolder ?? daemon.stateFolder),
    ])
    return {
      version: DECAMP_VERSION,
      load1: loadavg()[0] ?? 0,
      cores: availableParallelism(),
      diskFreeBytes,
      memoryFreeBytes: freemem(),
      agents,
      workspaces,
    }
  }
}

async function agentState(
  daemon: Daemon,
  agent: HostAgent,
  env: Readonly<Record<string, string>>,
): Promise<AgentState> {
  const [installation, missingLogin] = await Promise.all([
    daemon.agents.installation(agent, env),
    agent.missingLogin(env).catch((error: unknown) => {
      daemon.log("the logins of an agent could not be looked at", {
        agent: agent.name,
        message: toAppError(error).message,
      })
      return null
    }),
  ])
  const version = installation?.version ?? null
  return {
    agent: agent.name,
    version,
    tested: agent.pinned.version,
    isTested: version !== null && isPinned(agent, version),
    missingLogin,
  }
}

async function workspaceState(daemon: Daemon, scopes: Map<string, Known>, place: Place): Promise<WorkspaceState> {
  const { workspace, name, directory } = place
  const isOwner = isLiveOwner(daemon.store.journal(workspace) ?? unknownJournal(workspace))
  if (!isOwner) return { name, directory, isOwner, running: [] }
  const counted = runningIn(daemon, scopes, place).catch((error: unknown) => {
    daemon.log("sessions could not be looked at", { workspace, message: toAppError(error).message })
    return null
  })
  return { name, directory, isOwner, running: await within(SESSIONS_MS, counted) }
}

async function runningIn(
  daemon: Daemon,
  scopes: Map<string, Known>,
  place: Place,
): Promise<{ agent: HostAgent["name"]; count: number }[]> {
  const scope = await scopeAt(daemon, scopes, place)
  const counts = await Promise.all(
    daemon.agents.all.map(async (agent) => {
      const sessions = await agent.sessions(scope)
      // A child runs for its parent.
      const running = sessions.filter(({ state, parentId }) => state === "running" && parentId === null)
      return { agent: agent.name, count: running.length }
    }),
  )
  return counts.filter(({ count }) => count > 0)
}

async function scopeAt(daemon: Daemon, scopes: Map<string, Known>, place: Place): Promise<AgentScope> {
  const known = scopes.get(place.workspace)
  const isFresh = known !== undefined && daemon.nowMs() - known.atMs < SCOPE_LASTS_MS
  if (isFresh && known.scope.topLevel === place.directory) return { ...known.scope, env: place.env }
  const scope = await scopeOf(await openRepository(place.directory), place.env)
  scopes.set(place.workspace, { scope, atMs: daemon.nowMs() })
  return scope
}

/** Of the file system that a folder is on, or will be. */
async function freeBytes(folder: string): Promise<number | null> {
  for (let path = folder; ; path = dirname(path)) {
    const facts = await statfs(path).catch(() => null)
    if (facts !== null) return facts.bavail * facts.bsize
    if (path === dirname(path)) return null
  }
}

async function within<T>(ms: number, work: Promise<T | null>): Promise<T | null> {
  const late = Promise.withResolvers<null>()
  const timer = setTimeout(() => late.resolve(null), ms)
  try {
    return await Promise.race([work, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

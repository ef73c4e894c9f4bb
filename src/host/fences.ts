/** The fences of one directory: set while this host does not own the workspace, lifted when it does; what they are made of is each agent's. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import type { AgentScope, FencedSession, FenceRequest, FenceStrength } from "../agents/agent.ts"
import { isThere, privateFolder } from "../lib/files.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { AgentName } from "../protocol/manifest.ts"
import type { HandoffId, WorkspaceId } from "../protocol/ids.ts"
import type { HostAgent } from "./agents.ts"
import { workspaceFolder, type Daemon } from "./daemon.ts"

/** What one agent is told, for setting a fence. Makes the folders. */
export async function fenceRequest(
  daemon: Daemon,
  agent: HostAgent,
  workspace: WorkspaceId,
  scope: AgentScope,
  words: string,
): Promise<FenceRequest> {
  const request = requestOf(daemon, agent, workspace, scope, words)
  await privateFolder(request.folder)
  await privateFolder(request.marks)
  return request
}

function requestOf(
  daemon: Daemon,
  agent: HostAgent,
  workspace: WorkspaceId,
  scope: AgentScope,
  words: string,
): FenceRequest {
  return {
    scope: { ...scope, withArchived: true },
    folder: fenceRecord(daemon, workspace, agent.name),
    marks: marksFolder(daemon, agent.name),
    words,
    hook: daemon.hookArgv,
  }
}

function fenceFolder(daemon: Daemon, workspace: WorkspaceId): string {
  return join(workspaceFolder(daemon, workspace), "fence")
}

/** Folder with the record of one agent's fence of a workspace, there while it stands. */
export function fenceRecord(daemon: Daemon, workspace: WorkspaceId, agent: AgentName): string {
  return join(fenceFolder(daemon, workspace), agent)
}

/** Where hooks and plugins of an agent look for the sessions that are not this host's. */
export function marksFolder(daemon: Daemon, agent: AgentName): string {
  return join(daemon.stateFolder, "away", agent)
}

/** Whether fences may stand for this workspace here. */
export async function mayBeFenced(daemon: Daemon, workspace: WorkspaceId): Promise<boolean> {
  return await isThere(fenceFolder(daemon, workspace))
}

export interface Fences {
  readonly sessions: readonly (FencedSession & { readonly agent: AgentName })[]
  /** Sessions in the middle of a turn: a fence is never set on those. */
  readonly running: readonly { readonly agent: AgentName; readonly id: string }[]
}

/** Sets what can be set now on every session of the directory. */
export async function setFences(
  daemon: Daemon,
  workspace: WorkspaceId,
  scope: AgentScope,
  words: string,
): Promise<Fences> {
  const reports = await Promise.all(
    daemon.agents.all.map(async (agent) => {
      const report = await agent.fence(await fenceRequest(daemon, agent, workspace, scope, words))
      return { agent: agent.name, ...report }
    }),
  )
  return {
    sessions: reports.flatMap(({ agent, sessions }) => sessions.map((session) => ({ ...session, agent }))),
    running: reports.flatMap(({ agent, running }) => running.map((id) => ({ agent, id }))),
  }
}

/** What {@link setFences} would reach. */
export async function foreseeFences(
  daemon: Daemon,
  workspace: WorkspaceId,
  scope: AgentScope,
): Promise<Fences["sessions"]> {
  const found = await Promise.all(
    daemon.agents.all.map(async (agent) => {
      const seen = await agent.foresee(requestOf(daemon, agent, workspace, scope, ""))
      return seen.map((session) => ({ ...session, agent: agent.name }))
    }),
  )
  return found.flat()
}

/**
 * Refuses to go on where a fence can't be proved, unless the user allowed it.
 * @returns what to say about the weak ones, a line each
 * @throws {AppError} fence_advisory naming each session and the reason
 */
export function refuseAdvisory(sessions: Fences["sessions"], isAllowed: boolean): string[] {
  const weak = sessions.filter(({ strength }) => strength !== "enforced")
  const lines = weak.map(
    ({ agent, id, reason }) => `fence: advisory for ${agent} ${id}${reason === undefined ? "" : `: ${reason}`}`,
  )
  const [first] = lines
  if (first === undefined || isAllowed) return lines
  throw new AppError("fence_advisory", lines.length === 1 ? first : `${first} (and ${lines.length - 1} more)`, {
    hint: "nothing was changed; close what has it open, or say --allow-advisory: prompts typed there may then be lost",
    details: { sessions: weak.map(({ agent, id, reason }) => ({ agent, id, reason: reason ?? null })) },
  })
}

/** What is in force now; a session that is not in it has no fence. */
export async function fencesInForce(
  daemon: Daemon,
  workspace: WorkspaceId,
  scope: AgentScope,
): Promise<ReadonlyMap<AgentName, ReadonlyMap<string, FenceStrength>>> {
  if (!(await mayBeFenced(daemon, workspace))) return new Map()
  return new Map(
    await Promise.all(
      daemon.agents.all.map(async (agent) => {
        const request = requestOf(daemon, agent, workspace, scope, "")
        return [agent.name, await agent.fenced(request)] as const
      }),
    ),
  )
}

/**
 * Lifts what was set, every agent's; the record of it goes when nothing is left to lift.
 * @returns what a person has to do before open windows go on
 */
export async function liftFences(daemon: Daemon, workspace: WorkspaceId, scope: AgentScope): Promise<string[]> {
  if (!(await mayBeFenced(daemon, workspace))) return []
  const lines = await Promise.all(
    daemon.agents.all.map(async (agent) => await agent.lift(requestOf(daemon, agent, workspace, scope, ""))),
  )
  await rm(fenceFolder(daemon, workspace), { recursive: true, force: true })
  return lines.flat()
}

/** What is said to who types a prompt in a session that is not this host's; the name is asked for, and left out when nobody answers. */
export async function awayWords(daemon: Daemon, workspace: WorkspaceId, id: HandoffId | null): Promise<string> {
  const where = await whereItIs(daemon, workspace, id).catch((error: unknown) => {
    daemon.log("where a workspace is could not be asked", { workspace, message: toAppError(error).message })
    return null
  })
  const since = new Date(where?.sinceMs ?? daemon.nowMs()).toTimeString().slice(0, 5)
  if (id !== null)
    return `This session is moving to ${where?.name ?? "another host"} since ${since}. See: decamp status`
  return `This session is on ${where?.name ?? "another host"} since ${since}. Bring it back: decamp pull --migrate`
}

interface Where {
  readonly name: string
  readonly sinceMs: number
}

/** Neither changes while a hand-off lasts, and each step of it asks, over a line that may be slow. */
const newestMove = new WeakMap<Daemon, { readonly id: HandoffId; readonly where: Where }>()

async function whereItIs(daemon: Daemon, workspace: WorkspaceId, id: HandoffId | null): Promise<Where | null> {
  const known = newestMove.get(daemon)
  if (id !== null && known?.id === id) return known.where
  const { items, workspaces } = await daemon.gateway.record(workspace)
  if (id !== null) {
    const item = items.find(({ handoff }) => handoff.id === id)
    if (item === undefined) return null
    const where = { name: item.targetName, sinceMs: item.handoff.startedAtMs }
    newestMove.set(daemon, { id, where })
    return where
  }
  const row = workspaces.find((each) => each.id === workspace)
  if (row === undefined) return null
  const item = items.find(({ handoff }) => handoff.target === row.ownerHost)
  const name = item?.targetName ?? (await daemon.user?.workspace(workspace))?.ownerName
  return name === undefined ? null : { name, sinceMs: row.ownerSinceMs }
}

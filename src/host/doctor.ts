/** `doctor`: what is installed, set and in force on this machine, looked at now; changes nothing. */
import { readdir, stat } from "node:fs/promises"
import type { AgentScope, FencedSession } from "../agents/agent.ts"
import { isLiveOwner, unknownJournal } from "../handoff/host.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { AgentWords, DoctorRequest } from "../protocol/going-on.ts"
import type { DoctorOutput } from "../protocol/output.ts"
import { newWorkspaceId } from "../protocol/ids.ts"
import { DECAMP_VERSION, OUTPUT_SCHEMA } from "../protocol/version.ts"
import { agentWords } from "./agent-words.ts"
import { scopeOf, type HostAgent } from "./agents.ts"
import type { Daemon } from "./daemon.ts"
import { findingsOf } from "./doctor-findings.ts"
import { fenceRecord, fencesInForce, foreseeFences, marksFolder } from "./fences.ts"
import { NOTE_PREFIX } from "./move-notes.ts"
import type { Place } from "./store/host-store.ts"
import { locate, userGateway, type Located } from "./workspace.ts"

/** Never fails because something is wrong: that is what it tells. */
export async function doctor(
  daemon: Daemon,
  gatewaySocket: string | null,
  request: DoctorRequest,
): Promise<DoctorOutput> {
  const troubles: DoctorOutput["findings"] = []
  const located = await locate(daemon, request).catch((error: unknown) => asNowhere(error, troubles))
  const place = located?.place ?? null
  const scope = located === null ? null : await scopeOf(located.repository, place?.env ?? request.env)
  const [gateway, words] = await Promise.all([
    gatewayFacts(daemon, place),
    agentWords(daemon, request.env, { action: "inspect", agents: [] }),
  ])
  const facts: Omit<DoctorOutput, "findings"> = {
    schema: OUTPUT_SCHEMA,
    host: daemon.identity.name,
    daemon: { version: DECAMP_VERSION, pid: process.pid },
    gateway: { socket: gatewaySocket, problem: gateway.problem },
    hosts: gateway.hosts,
    workspace: place === null ? null : workspaceFacts(daemon, place, gateway.view),
    agents: await Promise.all(
      words.map(async (found) => ({ ...found, ...(await agentFacts(daemon, found, place, scope, request.env)) })),
    ),
    sessions: scope === null ? [] : await sessionFacts(daemon, place, scope).catch(noted),
  }
  return { ...facts, findings: [...troubles, ...findingsOf(facts)] }

  function noted(error: unknown): [] {
    troubles.push({ text: `sessions could not be looked at: ${toAppError(error).message}`, command: null })
    return []
  }
}

/** Outside of a repository, or in one that is a copy, there is still something to tell. */
function asNowhere(error: unknown, troubles: DoctorOutput["findings"]): Located | null {
  if (error instanceof AppError && error.code === "other_gateway") {
    troubles.push({ text: error.message, command: null })
    return null
  }
  if (error instanceof AppError && (error.code === "not_a_repository" || error.code === "workspace_copy")) return null
  throw error
}

interface GatewayFacts {
  readonly problem: string | null
  readonly hosts: DoctorOutput["hosts"]
  readonly view: WorkspaceView | null
}

async function gatewayFacts(daemon: Daemon, place: Place | null): Promise<GatewayFacts> {
  const user = userGateway(daemon)
  try {
    const [hosts, view] = await Promise.all([
      user.hosts(),
      place === null ? null : user.workspace(place.workspace).catch(() => null),
    ])
    // Nobody can call a laptop: that it does not answer says nothing.
    const callable = hosts.filter(({ kind }) => kind !== "laptop")
    return {
      problem: null,
      hosts: callable.map(({ name, reachable, problem }) => ({ name, reachable, problem })),
      view,
    }
  } catch (error) {
    return { problem: toAppError(error).message, hosts: [], view: null }
  }
}

function workspaceFacts(daemon: Daemon, place: Place, view: WorkspaceView | null): DoctorOutput["workspace"] {
  return {
    id: place.workspace,
    name: view?.workspace.name ?? place.name,
    directory: place.directory,
    owner: view?.ownerName ?? (isOwner(daemon, place) ? daemon.identity.name : "unknown"),
    isHere: isOwner(daemon, place),
    autosync: daemon.store.isAutosynced(place.workspace),
  }
}

function isOwner(daemon: Daemon, place: Place): boolean {
  return isLiveOwner(daemon.store.journal(place.workspace) ?? unknownJournal(place.workspace))
}

type Facts = Pick<DoctorOutput["agents"][number], "untested" | "missing" | "fenceRecord" | "marks">

async function agentFacts(
  daemon: Daemon,
  words: AgentWords,
  place: Place | null,
  scope: AgentScope | null,
  env: Readonly<Record<string, string>>,
): Promise<Facts> {
  const agent = daemon.agents.all.find(({ name }) => name === words.agent)
  const record = place === null ? null : fenceRecord(daemon, place.workspace, words.agent)
  const isThere = record !== null && (await stat(record).catch(() => null)) !== null
  const marks = await readdir(marksFolder(daemon, words.agent)).catch(() => [])
  const none = { untested: null, missing: [] }
  return {
    ...(agent === undefined || words.binary === null ? none : await readiness(daemon, agent, scope, env)),
    fenceRecord: isThere ? record : null,
    marks: marks.filter((name) => !name.startsWith(NOTE_PREFIX)).toSorted((a, b) => a.localeCompare(b)),
  }
}

async function readiness(
  daemon: Daemon,
  agent: HostAgent,
  scope: AgentScope | null,
  env: Readonly<Record<string, string>>,
): Promise<Pick<Facts, "untested" | "missing">> {
  const installed = await daemon.agents.installation(agent, env)
  // What it writes itself must be something that it could take in.
  const verdict = installed === null ? null : agent.compareVersions(installed, installed)
  const untested = verdict?.verdict === "refuse" ? `${verdict.message}; ${verdict.hint}` : null
  if (scope === null) return { untested, missing: [] }
  try {
    return { untested, missing: [...(await agent.missing(scope))] }
  } catch (error) {
    return { untested, missing: [`could not be looked at: ${toAppError(error).message}`] }
  }
}

async function sessionFacts(daemon: Daemon, place: Place | null, scope: AgentScope): Promise<DoctorOutput["sessions"]> {
  const [fences, foreseen, lists] = await Promise.all([
    place === null ? new Map<string, ReadonlyMap<string, never>>() : fencesInForce(daemon, place.workspace, scope),
    // Asked for a directory that is no workspace yet too: a person wants to know before the first move.
    foreseeFences(daemon, place?.workspace ?? newWorkspaceId(), scope),
    Promise.all(
      daemon.agents.all.map(async (agent) =>
        (await agent.sessions(scope)).map(({ id, title, state }) => ({ agent: agent.name, id, title, state })),
      ),
    ),
  ])
  const seen = new Map<string, FencedSession>(foreseen.map((session) => [`${session.agent} ${session.id}`, session]))
  const isAway = place !== null && !isOwner(daemon, place)
  return lists.flat().map((session) => {
    const { strength, reason } = seen.get(`${session.agent} ${session.id}`) ?? { strength: "none" as const }
    return {
      ...session,
      fence: fences.get(session.agent)?.get(session.id) ?? ("none" as const),
      isAway,
      foreseen: strength,
      ...(reason === undefined ? {} : { reason }),
    }
  })
}

/** Going on with a session where it lives: `send` and `attach`, asked by the user here or through the gateway. */
import type { AgentScope, AgentSession } from "../agents/agent.ts"
import type { Repository } from "../checkpoint/code.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { isLiveOwner, unknownJournal } from "../handoff/host.ts"
import type { StepListener } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { AttachAnswer, LocalAttachRequest, PromptAnswer, SendRequest } from "../protocol/going-on.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import { scopeOf, type HostAgent } from "./agents.ts"
import type { Daemon } from "./daemon.ts"
import type { Place } from "./store/host-store.ts"
import { locate, refuseOpenHandoff, userGateway, type Caller } from "./workspace.ts"

/** Where a session is looked for: in a directory here, or at the workspace's owner. */
type Whereabouts =
  | { readonly at: "here"; readonly repository: Repository; readonly env: Place["env"] }
  | { readonly at: "owner"; readonly view: WorkspaceView }

/**
 * Prompts a session of the directory's (or the named) workspace at its owner, and streams the answer as `text` events.
 * @throws {AppError} handoff_open, unknown_session, session_busy, agent_missing, unreachable, interrupted, usage
 */
export async function send(
  daemon: Daemon,
  request: SendRequest,
  listener: StepListener,
  signal: AbortSignal,
): Promise<PromptAnswer> {
  const where = await whereaboutsOf(daemon, request, request.workspace)
  const { id, text, shell = {} } = request
  if (where.at === "here") {
    const env = { ...shell, ...where.env }
    return await promptIn(daemon, { repository: where.repository, env }, { id, text }, listener, signal)
  }
  const { workspace, ownerName } = where.view
  listener({ type: "notice", text: `${workspace.name} is on ${ownerName}: asking there` })
  return await userGateway(daemon).promptSession(workspace.id, { id, text }, listener, signal)
}

/**
 * How to open the agent's own interface on a session.
 * @throws {AppError} handoff_open, unknown_session, agent_missing, unreachable, usage
 */
export async function attach(daemon: Daemon, request: LocalAttachRequest): Promise<AttachAnswer> {
  const where = await whereaboutsOf(daemon, request, request.workspace)
  if (where.at === "here") return { ...(await attachIn(daemon, where, request.id)), env: null, over: null }
  const { workspace, ownerName } = where.view
  const user = userGateway(daemon)
  const answer = await user.attachSession(workspace.id, { id: request.id })
  const plan = await user.execPlan(ownerName)
  if (plan.kind === "ssh") return { ...answer, env: null, over: plan.destination }
  return { ...answer, env: { ...plan.env, ...answer.env }, over: null }
}

/** As {@link send}, on the host that a gateway asked. @throws {AppError} also not_owner, unknown_workspace */
export async function promptOwned(
  daemon: Daemon,
  workspace: WorkspaceId,
  prompt: { readonly id: string; readonly text: string },
  listener: StepListener,
  signal: AbortSignal,
): Promise<PromptAnswer> {
  return await promptIn(daemon, await ownedHere(daemon, workspace), prompt, listener, signal)
}

/** As {@link attach}, on the host that a gateway asked. @throws {AppError} also not_owner, unknown_workspace */
export async function attachOwned(daemon: Daemon, workspace: WorkspaceId, id: string): Promise<AttachAnswer> {
  const where = await ownedHere(daemon, workspace)
  return { ...(await attachIn(daemon, where, id)), env: { ...where.env }, over: null }
}

/** The owner as the gateway knows it: a name that nobody but the user may act for. */
async function whereaboutsOf(daemon: Daemon, caller: Caller, named: string | null): Promise<Whereabouts> {
  if (named !== null) return await whereaboutsOfView(daemon, await userGateway(daemon).workspace(named))
  const { repository, place } = await locate(daemon, caller)
  // Sessions of a directory that was never pushed are nobody else's.
  if (place === null) return { at: "here", repository, env: { ...caller.env } }
  return await whereaboutsOfView(daemon, await userGateway(daemon).workspace(place.workspace))
}

async function whereaboutsOfView(daemon: Daemon, view: WorkspaceView): Promise<Whereabouts> {
  refuseOpenHandoff(view)
  if (view.workspace.ownerHost !== daemon.identity.host) return { at: "owner", view }
  return { at: "here", ...(await ownedHere(daemon, view.workspace.id)) }
}

/** @throws {AppError} unknown_workspace, not_owner, handoff_open by what this host itself has recorded */
async function ownedHere(
  daemon: Daemon,
  workspace: WorkspaceId,
): Promise<{ readonly repository: Repository; readonly env: Place["env"] }> {
  const place = daemon.store.place(workspace)
  const { name } = daemon.identity
  if (place === null) throw new AppError("unknown_workspace", `workspace ${workspace} does not lie on ${name}`)
  const journal = daemon.store.journal(workspace) ?? unknownJournal(workspace)
  if (!isLiveOwner(journal)) {
    const isOpen = journal.entries.some(({ phase }) => phase !== "closed")
    throw new AppError(
      isOpen ? "handoff_open" : "not_owner",
      isOpen ? `a hand-off of ${place.name} is under way on ${name}` : `${name} does not own ${place.name}`,
      { hint: "decamp status says where it is and what to type" },
    )
  }
  return { repository: await openRepository(place.directory), env: place.env }
}

interface Here {
  readonly repository: Repository
  readonly env: Place["env"]
}

async function promptIn(
  daemon: Daemon,
  { repository, env }: Here,
  { id, text }: { readonly id: string; readonly text: string },
  listener: StepListener,
  signal: AbortSignal,
): Promise<PromptAnswer> {
  const scope = await scopeOf(repository, env)
  const { agent, session } = await findSession(daemon, scope, id)
  refuseBusy(session)
  const onText = (piece: string): void => listener({ type: "text", text: piece })
  await agent.prompt(scope, session.id, text, { onText, signal })
  return answerOf(daemon, scope, agent, session)
}

async function attachIn(
  daemon: Daemon,
  { repository, env }: Here,
  id: string,
): Promise<Omit<AttachAnswer, "env" | "over">> {
  const scope = await scopeOf(repository, env)
  const { agent, session } = await findSession(daemon, scope, id)
  const command = [...(await agent.attachCommand(scope, session.id))]
  const answer = answerOf(daemon, scope, agent, session)
  return { ...answer, directory: session.directory ?? answer.directory, command }
}

function answerOf(daemon: Daemon, scope: AgentScope, agent: HostAgent, { id, title }: AgentSession): PromptAnswer {
  return { session: { agent: agent.name, id, title }, host: daemon.identity.name, directory: scope.topLevel }
}

function refuseBusy({ id, state, pids }: AgentSession): void {
  if (state !== "running") return
  throw new AppError("session_busy", `session ${id} is in a turn (pid ${pids.join(", ")})`, {
    hint: "wait until it has ended, then try again",
    details: { pids },
  })
}

/**
 * The session with this id, or the only one whose id begins so.
 * @throws {AppError} unknown_session, usage naming those that begin so
 */
export async function findSession(
  daemon: Daemon,
  scope: AgentScope,
  id: string,
): Promise<{ readonly agent: HostAgent; readonly session: AgentSession }> {
  const lists = await Promise.all(
    daemon.agents.all.map(async (agent) => (await agent.sessions(scope)).map((session) => ({ agent, session }))),
  )
  const all = lists.flat()
  const exact = all.find(({ session }) => session.id === id)
  if (exact !== undefined) return exact
  const [first, ...others] = all.filter(({ session }) => session.id.startsWith(id))
  if (first !== undefined && others.length === 0) return first
  if (first !== undefined) {
    const names = [first, ...others].slice(0, 5).map(({ session }) => session.id)
    throw new AppError("usage", `${others.length + 1} sessions begin with ${id}: ${names.join(", ")}`, {
      hint: "say more of the id; decamp sessions lists them",
    })
  }
  throw new AppError("unknown_session", `no session ${id} belongs to ${scope.topLevel} on ${daemon.identity.name}`, {
    hint:
      all.length === 0
        ? "there is no session there at all"
        : `there are: ${all
            .slice(0, 5)
            .map(({ session }) => session.id)
            .join(", ")}`,
  })
}

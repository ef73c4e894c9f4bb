/**
 * `autosync`: when a session of a workspace comes to rest, a live checkpoint goes into the store, so that a hand-off has little left to
 * move. Ownership never changes by it. It keeps off while a hand-off is open or somebody else owns the workspace.
 */
import type { AgentScope, AgentSession } from "../agents/agent.ts"
import type { Repository } from "../checkpoint/code.ts"
import { openRepository, unsupportedState } from "../checkpoint/repository.ts"
import { isLiveOwner } from "../handoff/host.ts"
import { BLOCKING_STATES } from "../handoff/record.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { LocalAutosyncRequest } from "../protocol/going-on.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import type { autosyncOutputSchema } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import type { z } from "zod"
import { scopeOf } from "./agents.ts"
import type { Daemon } from "./daemon.ts"
import { placeToLock } from "./directory-locks.ts"
import { pushLiveCheckpoint } from "./publish.ts"
import type { Runtime } from "./runtime.ts"
import { alone } from "./states.ts"
import { undoUnfinished } from "./unfinished.ts"
import { elsewhere, locateWorkspace, userGateway } from "./workspace.ts"
import type { Place } from "./store/host-store.ts"

export interface Autosync {
  /** A command needs the directory: what is being sent in the background is broken off and taken up again later. */
  giveWay(): void
  /** One look at every workspace; a second call while one runs does nothing. */
  round(): Promise<void>
  stop(): Promise<void>
}

const LOOK_EVERY_MS = 10_000
const SCOPE_LASTS_MS = 5 * 60_000
const FIRST_PAUSE_MS = 20_000
const LONGEST_PAUSE_MS = 10 * 60_000

/**
 * Turns it on or off on this host.
 * @throws {AppError} unknown_workspace
 */
export function setAutosync(
  daemon: Daemon,
  workspace: WorkspaceId,
  isOn: boolean,
): { readonly isOn: boolean; readonly wasOn: boolean } {
  if (daemon.store.place(workspace) === null) {
    throw new AppError("unknown_workspace", `workspace ${workspace} does not lie on ${daemon.identity.name}`)
  }
  const wasOn = daemon.store.isAutosynced(workspace)
  if (wasOn !== isOn) {
    daemon.store.saveAutosync(workspace, isOn)
    daemon.log("autosync", { workspace, isOn })
  }
  return { isOn, wasOn }
}

/** `decamp autosync on|off`: here, and at the owner when that is another host that can be called. */
export async function autosync(
  daemon: Daemon,
  request: LocalAutosyncRequest,
): Promise<z.infer<typeof autosyncOutputSchema>> {
  const user = userGateway(daemon)
  const view =
    request.workspace === null
      ? await user.workspace((await locateWorkspace(daemon, request)).place.workspace)
      : await user.workspace(request.workspace)
  const { id, name, ownerHost } = view.workspace
  const { isOn } = request
  const notices: string[] = []
  const changed: boolean[] = []
  if (daemon.store.place(id) !== null) changed.push(setAutosync(daemon, id, isOn).wasOn !== isOn)
  if (ownerHost !== daemon.identity.host) {
    try {
      changed.push((await user.setAutosync(id, { isOn })).wasOn !== isOn)
    } catch (error) {
      const failure = toAppError(error)
      if (changed.length === 0) throw failure
      notices.push(`${view.ownerName} could not be told: ${failure.message}`)
    }
  }
  const result = changed.includes(true) ? "done" : "nothing_to_do"
  return { schema: OUTPUT_SCHEMA, result, workspace: { id, name }, isOn, notices }
}

/** The new owner goes on with what was asked for here. Best effort: a hand-off is over by now. */
export async function passAutosyncOn(daemon: Daemon, workspace: WorkspaceId): Promise<void> {
  const journal = daemon.store.journal(workspace)
  const isMine = journal !== null && isLiveOwner(journal)
  if (daemon.user === null || isMine || !daemon.store.isAutosynced(workspace)) return
  await daemon.user.setAutosync(workspace, { isOn: true }).catch((error: unknown) => {
    daemon.log("autosync could not be passed on", { workspace, message: toAppError(error).message })
  })
}

/** What the last looks at one workspace found. */
interface Watched {
  /** State and time of each session, null before the first look. */
  seen: ReadonlyMap<string, Look> | null
  /** Something came to rest and is not in the store yet. */
  isDue: boolean
  failures: number
  notBeforeMs: number
  /** What was logged last, so that a lasting state is one line. */
  said: string
  opened: { readonly place: Place; readonly repository: Repository; readonly scope: AgentScope; atMs: number } | null
}

type Look = Pick<AgentSession, "state" | "updatedAtMs">

export function startAutosync(daemon: Daemon, runtime: Runtime): Autosync {
  const watched = new Map<WorkspaceId, Watched>()
  let sending = new AbortController()
  let running: Promise<void> | null = null
  let isOver = false

  async function lookAtAll(): Promise<void> {
    const chosen = daemon.store.autosynced()
    for (const known of watched.keys()) if (!chosen.includes(known)) watched.delete(known)
    for (const workspace of chosen) {
      if (isOver) return
      const state = watched.get(workspace) ?? newWatched()
      if (!mayPush(daemon, workspace)) {
        watched.delete(workspace)
        continue
      }
      watched.set(workspace, state)
      sending = new AbortController()
      await lookAndPush(daemon, runtime, workspace, state, sending.signal)
    }
  }
  async function round(): Promise<void> {
    running ??= lookAtAll()
      .catch((error: unknown) => daemon.log("autosync failed", { message: toAppError(error).message }))
      .finally(() => (running = null))
    await running
  }
  const timer = setInterval(() => void round(), LOOK_EVERY_MS)
  return {
    giveWay: () => sending.abort(),
    round,
    async stop() {
      isOver = true
      clearInterval(timer)
      sending.abort()
      await running
    },
  }
}

function newWatched(): Watched {
  return { seen: null, isDue: false, failures: 0, notBeforeMs: 0, said: "", opened: null }
}

/** By this host's own record; the gateway is asked before anything is sent. */
function mayPush(daemon: Daemon, workspace: WorkspaceId): boolean {
  const journal = daemon.store.journal(workspace)
  if (elsewhere(daemon, workspace) !== null) return false
  return journal !== null && isLiveOwner(journal) && journal.entries.every(({ phase }) => phase === "closed")
}

async function lookAndPush(
  daemon: Daemon,
  runtime: Runtime,
  workspace: WorkspaceId,
  state: Watched,
  signal: AbortSignal,
): Promise<void> {
  const nowMs = daemon.nowMs()
  if (nowMs < state.notBeforeMs) return
  try {
    const { repository, scope, place } = await open(daemon, workspace, state, nowMs)
    const now = await look(daemon, scope)
    state.isDue ||= hasComeToRest(state.seen, now)
    state.seen = now
    if (!state.isDue) return
    const outcome = await push(daemon, runtime, { repository, place, signal })
    if (outcome === "later") return
    state.isDue = false
    state.failures = 0
    say(daemon, workspace, state, "works")
  } catch (error) {
    const { code, message } = toAppError(error)
    // Another command is at work, or broke this off: the next look tries again.
    if (code === "busy" || code === "interrupted" || signal.aborted) return
    state.notBeforeMs = nowMs + Math.min(FIRST_PAUSE_MS * 2 ** state.failures, LONGEST_PAUSE_MS)
    state.failures += 1
    state.opened = null
    say(daemon, workspace, state, message)
  }
}

function say(daemon: Daemon, workspace: WorkspaceId, state: Watched, text: string): void {
  if (state.said === text) return
  state.said = text
  daemon.log("autosync", { workspace, state: text })
}

/** What is asked of git about a directory changes seldom. */
async function open(
  daemon: Daemon,
  workspace: WorkspaceId,
  state: Watched,
  nowMs: number,
): Promise<NonNullable<Watched["opened"]>> {
  const place = daemon.store.place(workspace)
  if (place === null) throw new AppError("unknown_workspace", `workspace ${workspace} lies nowhere on this host`)
  const known = state.opened
  const isSame = known !== null && JSON.stringify(known.place) === JSON.stringify(place)
  if (known !== null && isSame && nowMs - known.atMs < SCOPE_LASTS_MS) return known
  const repository = await openRepository(place.directory)
  state.opened = { place, repository, scope: await scopeOf(repository, place.env), atMs: nowMs }
  return state.opened
}

async function look(daemon: Daemon, scope: AgentScope): Promise<ReadonlyMap<string, Look>> {
  const lists = await Promise.all(
    daemon.agents.all.map(async (agent) =>
      (await agent.sessions(scope)).map(
        ({ id, state, updatedAtMs }) => [`${agent.name} ${id}`, { state, updatedAtMs }] as const,
      ),
    ),
  )
  return new Map(lists.flat())
}

/** Whether a session that is not running now was, or has changed, since the look before; the first look has to find out by a push. */
export function hasComeToRest(before: ReadonlyMap<string, Look> | null, now: ReadonlyMap<string, Look>): boolean {
  if (before === null) return now.size > 0
  return [...now].some(([key, { state, updatedAtMs }]) => {
    if (state === "running" || state === "unknown") return false
    const known = before.get(key)
    return known === undefined || known.state === "running" || known.updatedAtMs !== updatedAtMs
  })
}

async function push(
  daemon: Daemon,
  runtime: Runtime,
  {
    repository,
    place,
    signal,
  }: { readonly repository: Repository; readonly place: Place; readonly signal: AbortSignal },
): Promise<"done" | "later"> {
  const { workspace } = place
  const record = await daemon.gateway.record(workspace)
  const row = record.workspaces.find(({ id }) => id === workspace)
  const isOpen = record.items.some(({ handoff }) => BLOCKING_STATES.includes(handoff.state))
  if (row === undefined || row.ownerHost !== daemon.identity.host || isOpen) return "later"
  const { directory, gitDir } = await placeToLock(place.directory)
  const lock = { directory, gitDir, command: "decamp autosync", waitMs: 0, signal, notice: () => {} }
  await daemon.locks.hold(lock, async () => {
    await undoUnfinished(daemon, directory, async (id, work) => await alone(runtime, id, work))
    const unsupported = await unsupportedState(repository)
    if (unsupported !== null) throw unsupported
    const { epoch, headCheckpoint: head } = row
    const take = { place, repository, epoch, head, kind: "live", leaveSessions: false } as const
    const live = { repository, take, context: { steps: () => {}, signal }, handoff: null, check }
    const { taken, bytesSent } = await pushLiveCheckpoint(daemon, runtime, live)
    if (!taken.isNothingNew) {
      daemon.log("autosync pushed", { workspace, checkpoint: taken.manifest.checkpoint, bytes: bytesSent })
    }
  })
  return "done"

  /** While this waited for its turn a hand-off may have begun, or a command that needs the directory. */
  function check(): void {
    if (signal.aborted || !mayPush(daemon, workspace)) throw new AppError("busy", "another command is at work")
  }
}

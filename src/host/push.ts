/** `push` and `push --migrate`, as the daemon of the user's own machine carries them out. */
import { basename } from "node:path"
import type { Repository } from "../checkpoint/code.ts"
import { openRepository, unsupportedState } from "../checkpoint/repository.ts"
import { isLiveOwner, unknownJournal } from "../handoff/host.ts"
import { FIRST_GENERATION } from "../handoff/record.ts"
import { AppError } from "../protocol/errors.ts"
import type { HostInfo, WorkspaceView } from "../protocol/gateway-api.ts"
import { newWorkspaceId } from "../protocol/ids.ts"
import type { PushRequest } from "../protocol/local-api.ts"
import type { MoveOutput } from "../protocol/output.ts"
import { advance } from "./advance.ts"
import { takeCheckpoint } from "./checkpointing.ts"
import type { Daemon } from "./daemon.ts"
import { moveOutput, type Tally } from "./move-output.ts"
import { pushLiveCheckpoint, register, takeRequest, tallyTaken, unencrypted } from "./publish.ts"
import { pushAway } from "./push-away.ts"
import { hear, type Runtime } from "./runtime.ts"
import type { Place } from "./store/host-store.ts"
import { locate, refuseOpenHandoff, userGateway } from "./workspace.ts"

/**
 * Carries out a push.
 * @throws {AppError} not_owner, unsupported_state, session_busy, unknown_host, handoff_open, diverged, and the preflight codes
 */
export async function push(
  daemon: Daemon,
  runtime: Runtime,
  request: PushRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<MoveOutput> {
  const located = await locate(daemon, request).catch((error: unknown) => asNewWorkspace(error, request))
  const repository = located.repository
  const unsupported = await unsupportedState(repository)
  if (unsupported !== null) throw unsupported
  const isNew = located.place === null || request.newWorkspace
  const target = request.migrate ? await targetHost(daemon, request.to) : null
  tally.notices.push(...located.notices)
  const place = isNew ? plannedPlace(repository, request) : located.place
  if (place === null) throw new AppError("internal", "no place for this directory")
  const view = isNew ? null : await userGateway(daemon).workspace(place.workspace)
  if (view !== null) {
    await hear(runtime, view)
    if (request.migrate) refuseOpenHandoff(view)
    await refuseOnHold(daemon, runtime, view, tally, signal)
    const settled = ownedAlready(daemon, view, target, repository, tally)
    if (settled !== null) return settled
  }
  if (request.dryRun) return await plan(daemon, repository, place, view, request, tally)
  if (target === null) return await pushLive(daemon, runtime, { repository, place, view, request, tally, signal })
  return await pushAway(daemon, runtime, { repository, place, view, target, request, tally, signal })
}

/** A copy, or a workspace of another gateway. */
const NEW_DESPITE: ReadonlySet<string> = new Set(["workspace_copy", "other_gateway"])

async function asNewWorkspace(error: unknown, request: PushRequest): Promise<Awaited<ReturnType<typeof locate>>> {
  if (!request.newWorkspace || !(error instanceof AppError) || !NEW_DESPITE.has(error.code)) throw error
  return { repository: await openRepository(request.directory), place: null, notices: [] }
}

/** The host to push to: the named one, or the only other one. */
async function targetHost(daemon: Daemon, name: string | null): Promise<HostInfo> {
  const hosts = (await userGateway(daemon).hosts()).filter((host) => host.id !== daemon.identity.host)
  const callable = hosts.filter((host) => host.kind !== "laptop")
  if (name !== null) {
    const named = hosts.find((host) => host.name === name)
    if (named !== undefined) return named
    const isSelf = name === daemon.identity.name
    throw new AppError(
      isSelf ? "usage" : "unknown_host",
      isSelf ? `${name} is this machine` : `there is no host ${name}`,
      {
        hint:
          hosts.length === 0
            ? "add one: decamp hosts add local NAME --root DIR"
            : `hosts: ${hosts.map((host) => host.name).join(", ")}`,
      },
    )
  }
  const [only, ...others] = callable
  if (only === undefined) {
    throw new AppError("unknown_host", "there is no other host to push to", {
      hint: "add one: decamp hosts add local NAME --root DIR",
    })
  }
  if (others.length > 0) {
    throw new AppError("usage", "there is more than one other host", {
      hint: `say which: decamp push --migrate --to ${callable.map((host) => host.name).join(" | ")}`,
    })
  }
  return only
}

function plannedPlace(repository: Repository, request: PushRequest): Place {
  return {
    workspace: newWorkspaceId(),
    name: nameFor(repository.topLevel),
    directory: repository.topLevel,
    env: { ...request.env },
    wasOwner: true,
  }
}

/** The outcome when this host does not own the workspace: already where it should be, or a refusal. Null: go on. */
function ownedAlready(
  daemon: Daemon,
  view: WorkspaceView,
  target: HostInfo | null,
  repository: Repository,
  tally: Tally,
): MoveOutput | null {
  const owner = view.workspace.ownerHost
  if (owner === daemon.identity.host) {
    if (target?.id === owner)
      return moveOutput({ result: "already_owner", view, directory: repository.topLevel }, tally)
    return null
  }
  if (target !== null && owner === target.id)
    return moveOutput({ result: "already_owner", view, directory: repository.topLevel }, tally)
  throw notOwner(view)
}

/** An owner whose last hand-off was undone but not released here asks for the release first; a sealed one holds every push. */
async function refuseOnHold(
  daemon: Daemon,
  runtime: Runtime,
  view: WorkspaceView,
  tally: Tally,
  signal: AbortSignal,
): Promise<void> {
  const { workspace, handoff } = view
  const isHeld = (): boolean => !isLiveOwner(daemon.store.journal(workspace.id) ?? unknownJournal(workspace.id))
  if (workspace.ownerHost !== daemon.identity.host || !isHeld()) return
  if (handoff?.state === "abandoned") await advance(daemon, runtime, handoff.id, tally.steps, signal)
  if (!isHeld()) return
  refuseOpenHandoff(view)
  throw new AppError("busy", `${workspace.name} is on hold here until the gateway releases it`, {
    hint: "decamp continue asks it to",
  })
}

/** The refusal that names the owner and the way back. */
export function notOwner(view: WorkspaceView): AppError {
  const since = new Date(view.workspace.ownerSinceMs).toISOString()
  return new AppError(
    "not_owner",
    `${view.ownerName} owns workspace ${view.workspace.name} since ${since} (epoch ${view.workspace.epoch})`,
    {
      hint: "bring it here first: decamp pull --migrate",
      details: { owner: view.ownerName, sinceMs: view.workspace.ownerSinceMs, epoch: view.workspace.epoch },
    },
  )
}

/** `--dry-run`: everything is computed in scratch folders; neither the repository nor the store nor the gateway changes. */
async function plan(
  daemon: Daemon,
  repository: Repository,
  place: Place,
  view: WorkspaceView | null,
  request: PushRequest,
  tally: Tally,
): Promise<MoveOutput> {
  const taken = await takeCheckpoint(daemon, takeRequest(repository, place, view, "live", request, true), tally.steps)
  tallyTaken(tally, taken)
  if (view === null) tally.notices.push(unencrypted(daemon))
  const shown = view ?? viewOfNew(daemon, place)
  return {
    ...moveOutput({ result: "planned", view: shown, directory: repository.topLevel }, tally),
    plannedBytes: taken.newBytes,
  }
}

function viewOfNew(daemon: Daemon, place: Place): WorkspaceView {
  return {
    workspace: {
      id: place.workspace,
      name: place.name,
      ownerHost: daemon.identity.host,
      ownerIncarnation: daemon.identity.incarnation,
      epoch: 1,
      headCheckpoint: null,
      handoffSeq: 0,
      generation: FIRST_GENERATION,
      ownerSinceMs: daemon.nowMs(),
      behind: null,
    },
    ownerName: daemon.identity.name,
    ownerKind: "laptop",
    handoff: null,
    sourceName: null,
    targetName: null,
    checkpoint: null,
    ownerDirectory: place.directory,
    sessionCount: null,
  }
}

interface Live {
  readonly repository: Repository
  readonly place: Place
  readonly view: WorkspaceView | null
  readonly request: PushRequest
  readonly tally: Tally
  readonly signal: AbortSignal
}

async function pushLive(daemon: Daemon, runtime: Runtime, live: Live): Promise<MoveOutput> {
  const { repository, request, tally, signal } = live
  const { place, view } =
    live.view === null ? await register(daemon, repository, live.place, tally) : { place: live.place, view: live.view }
  const { taken, bytesSent } = await pushLiveCheckpoint(daemon, runtime, {
    repository,
    take: takeRequest(repository, place, view, "live", request, false),
    context: { steps: tally.steps, signal },
    handoff: null,
  })
  tallyTaken(tally, taken)
  const directory = repository.topLevel
  if (taken.isNothingNew) return moveOutput({ result: "nothing_new", view, directory }, tally)
  tally.bytesSent += bytesSent
  const after = await userGateway(daemon).workspace(place.workspace)
  return moveOutput({ result: "done", view: after, directory }, tally)
}

/** The folder's name, as far as it can be one of a workspace (protocol/ids.ts). */
function nameFor(directory: string): string {
  const name = basename(directory)
    .replace(/[\u0000-\u001f\u007f/\\]/g, "-")
    .slice(0, 100)
  return name === "" ? "workspace" : name
}

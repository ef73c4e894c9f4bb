/** `push --migrate`: opens the hand-off, runs this host's leg, lets the gateway drive the other one, and tells how it ended. */
import type { Repository } from "../checkpoint/code.ts"
import { summary } from "../checkpoint/compare.ts"
import { listStaying } from "../checkpoint/staying.ts"
import { repositorySizeBytes } from "../checkpoint/size.ts"
import { step } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HostInfo, PreflightAnswer, WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import { newHandoffId, type HandoffId } from "../protocol/ids.ts"
import type { PushRequest } from "../protocol/local-api.ts"
import type { MoveOutput } from "../protocol/output.ts"
import { advance } from "./advance.ts"
import { afterFailure } from "./after-failure.ts"
import { passAutosyncOn } from "./autosync.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { leftInTurn, type From } from "./left-in-turn.ts"
import { knownManifestOf } from "./manifests.ts"
import { handoffOutput, type Tally } from "./move-output.ts"
import { preflightSource } from "./preflight.ts"
import { pushLiveCheckpoint, register, takeRequest } from "./publish.ts"
import type { Runtime } from "./runtime.ts"
import { EMPTY_LEG, type Place } from "./store/host-store.ts"
import { userGateway } from "./workspace.ts"

export interface Away {
  readonly repository: Repository
  readonly place: Place
  /** Null: the directory is not a workspace yet. */
  readonly view: WorkspaceView | null
  readonly target: HostInfo
  readonly request: PushRequest
  readonly tally: Tally
  readonly signal: AbortSignal
}

/** Everything that can be refused is refused before the row is opened; what fails later is undone, or says how to go on. */
export async function pushAway(daemon: Daemon, runtime: Runtime, away: Away): Promise<MoveOutput> {
  const { repository, request, tally, target, signal } = away
  const { steps } = tally
  const checked = await checkHere(daemon, away)
  tally.notices.push(...checked.notices)
  const arriving = {
    bytes: await sizeOf(daemon, away),
    agents: checked.needs,
    name: away.place.name,
    nowMs: daemon.nowMs(),
    backup: request.backup,
    leaveSessions: request.leaveSessions,
  }
  const preflight = { workspace: away.place.workspace, arriving, leaving: null }
  // A workspace that does not exist yet is only made when the target can take it; otherwise opening asks the target.
  if (away.view === null && target.kind !== "laptop") {
    await step(steps, `check ${target.name}`, async () => userGateway(daemon).preflight(target.name, preflight, signal))
  }
  const { place, view } =
    away.view === null ? await register(daemon, repository, away.place, tally) : { place: away.place, view: away.view }
  const id = newHandoffId()
  daemon.store.saveLeg(id, {
    ...EMPTY_LEG,
    leaveSessions: request.leaveSessions,
    allBranches: request.allBranches,
    waitMs: request.waitMs,
    now: request.now,
    allowAdvisory: request.allowAdvisory,
    archived: request.archived,
    directory: place.directory,
  })
  const opened = await step(steps, `open, check ${target.name}`, async () =>
    userGateway(daemon).open(
      {
        id,
        workspace: place.workspace,
        kind: "push",
        source: daemon.identity.host,
        target: target.id,
        epoch: view.workspace.epoch,
        openedBy: daemon.identity.name,
        preflight: { ...preflight, arriving: { ...arriving, name: place.name } },
      },
      signal,
    ),
  )
  tally.notices.push(...(opened.targetPreflight?.notices ?? []))
  if (daemon.carriesGateway && target.kind !== "local") {
    steps({ type: "notice", text: "keep the lid open until this ends: the gateway runs on this machine" })
  }
  steps({ type: "state", handoff: id, state: opened.handoff.state })
  if (view.workspace.headCheckpoint === null) await preCopy(daemon, runtime, away, place, view, opened.handoff)
  const directory = repository.topLevel
  const from = { host: daemon.identity.name, directory }
  return await finishMove(daemon, runtime, { id, directory, from, tally, signal })
}

/** This end's checks; what will happen and what stays behind is said before anything does. */
async function checkHere(daemon: Daemon, away: Away): Promise<PreflightAnswer> {
  const { repository, request, signal } = away
  const { steps } = away.tally
  await using scratch = await scratchOf(daemon, "check")
  const [checked, words, staying] = await step(steps, "check here", async () =>
    Promise.all([
      preflightSource(daemon, away.place, {
        ...request,
        signal,
        notice: (text) => steps({ type: "notice", text }),
      }),
      summary(repository),
      listStaying(repository, scratch.path, request.allBranches),
    ]),
  )
  steps({ type: "notice", text: `workspace ${away.place.name} (${words})` })
  steps({ type: "left", items: staying.items })
  for (const text of staying.notices) steps({ type: "warning", text })
  return checked
}

/** Before the agents are stopped, what is there already goes up: the sealed checkpoint then only holds the difference. */
async function preCopy(
  daemon: Daemon,
  runtime: Runtime,
  away: Away,
  place: Place,
  view: WorkspaceView,
  row: HandoffRow,
): Promise<void> {
  try {
    const { bytesSent } = await pushLiveCheckpoint(daemon, runtime, {
      repository: away.repository,
      take: takeRequest(away.repository, place, view, "live", away.request, false),
      context: { steps: away.tally.steps, signal: away.signal },
      handoff: row,
    })
    away.tally.bytesSent += bytesSent
  } catch (error) {
    away.tally.steps({
      type: "notice",
      text: `copying ahead failed (${toAppError(error).message}); the sealed checkpoint carries everything`,
    })
  }
}

/** What will arrive, roughly, for the target's disk check: only the first time is everything new there. */
async function sizeOf(daemon: Daemon, away: Away): Promise<number> {
  const known = await knownManifestOf(daemon, away.place.workspace, away.view?.workspace.headCheckpoint ?? null)
  return known === null ? await repositorySizeBytes(away.repository) : 0
}

export interface Moving {
  readonly id: HandoffId
  readonly directory: string
  readonly tally: Tally
  readonly signal: AbortSignal
  /** Where the sessions were before. */
  readonly from?: From
  /** `continue`: a failure leaves the hand-off as it is; the user decides. */
  readonly keepOnFailure?: boolean
}

/** Drives an open hand-off to its end and describes it. A failure before `owned` that trying again can't mend is undone. */
export async function finishMove(daemon: Daemon, runtime: Runtime, moving: Moving): Promise<MoveOutput> {
  const { id, tally, signal } = moving
  try {
    const row = await advance(daemon, runtime, id, tally.steps, signal)
    if (row.state !== "live" && row.state !== "done") throw await stillWaiting(daemon, row)
    await passAutosyncOn(daemon, row.workspace)
    const output = await handoffOutput(daemon, row, moving.directory, tally)
    return { ...output, ...(await leftInTurn(daemon, row, moving.from ?? null, tally)) }
  } catch (error) {
    if (moving.keepOnFailure === true) throw toAppError(error)
    throw await afterFailure(daemon, runtime, id, toAppError(error), tally.steps)
  }
}

async function stillWaiting(daemon: Daemon, row: HandoffRow): Promise<AppError> {
  const view = await userGateway(daemon).workspace(row.workspace)
  if (row.state === "abandoned")
    return new AppError("closed", `hand-off ${row.id} was abandoned`, {
      hint: "decamp status says where everything is",
    })
  const waitsFor = row.state === "open" || row.state === "copying" ? view.sourceName : view.targetName
  return new AppError(
    "unreachable",
    `${waitsFor ?? "the other host"} is not answering; the hand-off waits in state ${row.state}`,
    {
      hint: row.state === "owned" ? "decamp continue" : "decamp continue goes on; decamp abandon undoes it",
      details: { handoff: row.id, state: row.state },
    },
  )
}

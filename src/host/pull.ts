/** `pull` and `pull --migrate`, as the daemon of the user's own machine carries them out. */
import { join } from "node:path"
import { baseOf, readBase, recordBase } from "../checkpoint/base.ts"
import { bringBranches } from "../checkpoint/apply.ts"
import { backupCode } from "../checkpoint/backup.ts"
import type { Repository } from "../checkpoint/code.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { unknownJournal } from "../handoff/host.ts"
import { step } from "../lib/steps.ts"
import { AppError } from "../protocol/errors.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import { newHandoffId } from "../protocol/ids.ts"
import type { PullRequest } from "../protocol/local-api.ts"
import type { Manifest } from "../protocol/manifest.ts"
import type { MoveOutput } from "../protocol/output.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { fetchManifest } from "./manifests.ts"
import { moveOutput, type Tally } from "./move-output.ts"
import { needsOf, preflightTarget } from "./preflight.ts"
import { finishMove } from "./push-away.ts"
import { planPull } from "./plan.ts"
import { hear, type Runtime } from "./runtime.ts"
import { alone } from "./states.ts"
import { EMPTY_LEG, type Place } from "./store/host-store.ts"
import { applyCheckpoint, isAbsentOrEmpty } from "./target-leg.ts"
import { undoable } from "./unfinished.ts"
import { locate, locateWorkspace, refuseOpenHandoff, refuseOtherWorkspace, settle, userGateway } from "./workspace.ts"

/**
 * Carries out a pull.
 * @throws {AppError} no_workspace, unknown_workspace, diverged, unrelated_repository, other_workspace, usage, and what a hand-off throws
 */
export async function pull(
  daemon: Daemon,
  runtime: Runtime,
  request: PullRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<MoveOutput> {
  const { view, directory } = await resolve(daemon, request, tally)
  await hear(runtime, view)
  const isMine = view.workspace.ownerHost === daemon.identity.host
  if (isMine) {
    const place = daemon.store.place(view.workspace.id)
    return moveOutput({ result: "already_owner", view, directory: place?.directory ?? directory }, tally)
  }
  if (request.migrate) refuseOpenHandoff(view)
  const head = view.workspace.headCheckpoint
  if (head === null && !request.migrate) {
    throw new AppError("no_checkpoint", `workspace ${view.workspace.name} has no checkpoint yet`, {
      hint: `decamp push on ${view.ownerName} makes one`,
    })
  }
  const manifest =
    head === null
      ? null
      : await fetchManifest(daemon, view.workspace.id, head, "user", (bytes) =>
          tally.steps({ type: "received", bytes }),
        )
  const place: Place = {
    workspace: view.workspace.id,
    name: view.workspace.name,
    directory,
    env: { ...request.env },
    wasOwner: daemon.store.place(view.workspace.id)?.wasOwner ?? false,
  }
  await checkDirectory(directory, manifest)
  const arriving = arrivingOf(daemon, view, manifest, request)
  const checked = await step(tally.steps, "check here", async () =>
    preflightTarget(daemon, arriving, { workspace: place.workspace, directory, env: place.env }),
  )
  tally.notices.push(...checked)
  if (request.dryRun)
    return await planPull(
      daemon,
      { view, directory, manifest, withSessions: request.migrate && !request.leaveSessions },
      tally,
    )
  if (request.migrate) return await pullHere(daemon, runtime, { view, place, request, tally, signal })
  if (manifest === null) throw new AppError("no_checkpoint", `workspace ${view.workspace.name} has no checkpoint yet`)
  return await alone(runtime, view.workspace.id, async () => await pullCode(daemon, view, place, manifest, tally))
}

/** Which workspace, and into which directory. */
async function resolve(
  daemon: Daemon,
  request: PullRequest,
  tally: Tally,
): Promise<{ view: WorkspaceView; directory: string }> {
  const user = userGateway(daemon)
  const isFresh = await isAbsentOrEmpty(request.directory)
  if (request.workspace === null) {
    if (isFresh) {
      throw new AppError("no_workspace", `${request.directory} holds no workspace`, {
        hint: "say which: decamp pull --migrate --workspace NAME DIR (decamp workspaces lists them)",
      })
    }
    const { place, notices } = await locateWorkspace(daemon, request)
    tally.notices.push(...notices)
    return { view: await user.workspace(place.workspace), directory: request.into ?? place.directory }
  }
  const view = await user.workspace(request.workspace)
  const known = daemon.store.place(view.workspace.id)
  if (request.into !== null) return { view, directory: await freshInto(request.into) }
  if (isFresh) {
    if (known !== null && known.directory !== request.directory && !(await isAbsentOrEmpty(known.directory))) {
      throw new AppError("usage", `workspace ${view.workspace.name} lies at ${known.directory} on this machine`, {
        hint: `pull there, or say --into ${request.directory} to make that its directory here`,
      })
    }
    return { view, directory: request.directory }
  }
  const { repository } = await locate(daemon, request)
  await refuseOtherWorkspace(daemon, repository, view.workspace.id)
  return { view, directory: repository.topLevel }
}

async function freshInto(into: string): Promise<string> {
  if (await isAbsentOrEmpty(into)) return into
  throw new AppError("usage", `--into ${into}: the directory exists and is not empty`, {
    hint: "name a fresh directory",
  })
}

/** A directory with files must be a repository that has something to do with the workspace. */
async function checkDirectory(directory: string, manifest: Manifest | null): Promise<void> {
  if (await isAbsentOrEmpty(directory)) return
  const repository = await openRepository(directory)
  if ((await readBase(repository)) !== null) return
  if (manifest === null || (await repository.survey()).rootCommit === manifest.code.rootCommit) return
  throw new AppError("unrelated_repository", `${directory} shares no commit with the workspace`, {
    hint: "use a clone of the same repository, an empty directory, or --into DIR",
  })
}

function arrivingOf(
  daemon: Daemon,
  view: WorkspaceView,
  manifest: Manifest | null,
  request: PullRequest,
): Parameters<typeof preflightTarget>[1] {
  return {
    bytes: manifest?.blobs.reduce((sum, blob) => sum + blob.plainSize, 0) ?? 0,
    // A plain pull brings code only: it needs no agent here.
    agents: manifest === null || !request.migrate ? [] : needsOf(manifest),
    name: view.workspace.name,
    nowMs: daemon.nowMs(),
    backup: request.backup,
    leaveSessions: request.leaveSessions || !request.migrate,
  }
}

interface Here {
  readonly view: WorkspaceView
  readonly place: Place
  readonly request: PullRequest
  readonly tally: Tally
  readonly signal: AbortSignal
}

async function pullHere(daemon: Daemon, runtime: Runtime, here: Here): Promise<MoveOutput> {
  const { view, place, request, tally, signal } = here
  const id = newHandoffId()
  daemon.store.saveLeg(id, {
    ...EMPTY_LEG,
    directory: place.directory,
    env: place.env,
    leaveSessions: request.leaveSessions,
    waitMs: request.waitMs,
  })
  const opened = await step(tally.steps, `open, check ${view.ownerName}`, async () =>
    userGateway(daemon).open(
      {
        id,
        workspace: view.workspace.id,
        kind: "pull",
        source: view.workspace.ownerHost,
        target: daemon.identity.host,
        epoch: view.workspace.epoch,
        openedBy: daemon.identity.name,
        preflight: {
          workspace: view.workspace.id,
          arriving: null,
          leaving: {
            handoff: id,
            waitMs: request.waitMs ?? WAIT_LONG_MS,
            leaveSessions: request.leaveSessions,
            now: request.now,
            allowAdvisory: request.allowAdvisory,
            archived: request.archived,
          },
        },
      },
      signal,
    ),
  )
  tally.steps({ type: "state", handoff: id, state: opened.handoff.state })
  tally.notices.push(...(opened.sourcePreflight?.notices ?? []))
  const from = { host: view.ownerName, directory: view.ownerDirectory }
  return await finishMove(daemon, runtime, { id, directory: place.directory, from, tally, signal })
}

/** "Until the turns end", as a number on the wire: a day. */
const WAIT_LONG_MS = 24 * 60 * 60_000

/**
 * The plain pull: newest code, no ownership. Whatever is overwritten was saved first, and a failure, or the end of this process, in the
 * middle of it is undone.
 */
async function pullCode(
  daemon: Daemon,
  view: WorkspaceView,
  place: Place,
  manifest: Manifest,
  tally: Tally,
): Promise<MoveOutput> {
  const { steps } = tally
  const { directory } = place
  await refuseOvertaken(daemon, view, manifest)
  const base = (await isAbsentOrEmpty(directory)) ? null : await readBase(await openRepository(directory))
  if (base?.checkpoint === manifest.checkpoint) {
    listStaying(view, manifest, tally)
    return moveOutput({ result: "nothing_new", view, directory }, tally)
  }
  await using scratch = await scratchOf(daemon, "pull")
  const { code } = manifest
  const backup = await backupCode({ directory, code, atMs: daemon.nowMs(), scratch: scratch.path, steps })
  if (backup.kind === "repository") tally.backups.push(backup.ref)
  const change = { kind: "checkpoint", backup, code } as const
  const arrived = await undoable(daemon, place.workspace, change, steps, async () => {
    const applied = await applyCheckpoint(daemon, {
      place,
      manifest,
      access: "user",
      undoDirectory: join(scratch.path, "undo"),
      backup,
      leaveSessions: true,
      words: null,
      steps,
    })
    await settleCopy(daemon, await openRepository(directory), place, manifest)
    return applied
  })
  for (const text of await bringBranches(directory, code)) steps({ type: "warning", text })
  listStaying(view, manifest, tally)
  tally.bytesReceived += arrived.bytesReceived
  return moveOutput({ result: "done", view, directory }, tally)
}

/** While this command waited for its turn another one may have brought something newer here. */
async function refuseOvertaken(daemon: Daemon, { workspace }: WorkspaceView, manifest: Manifest): Promise<void> {
  const now = (await userGateway(daemon).workspace(workspace.id)).workspace
  if (now.epoch === workspace.epoch && now.headCheckpoint === manifest.checkpoint) return
  throw new AppError("busy", `workspace ${workspace.name} went on while this pull was being prepared`, {
    hint: "nothing was changed: run the command again",
  })
}

async function settleCopy(daemon: Daemon, repository: Repository, place: Place, manifest: Manifest): Promise<void> {
  await settle(daemon, repository, { ...place, directory: repository.topLevel })
  await recordBase(repository, baseOf(manifest.checkpoint, manifest.code))
  if (daemon.store.journal(place.workspace) === null) daemon.store.saveJournal(unknownJournal(place.workspace))
}

function listStaying(view: WorkspaceView, manifest: Manifest, tally: Tally): void {
  const reason = `stays with ${view.ownerName}, who owns the workspace`
  tally.steps({
    type: "outcomes",
    sessions: manifest.sessions.map(({ agent, id, title }) => ({ agent, id, title, outcome: "kept", reason })),
  })
}

/** What both kinds of push share: registering a workspace, publishing a live checkpoint. */
import { baseOf, recordBase } from "../checkpoint/base.ts"
import type { Repository } from "../checkpoint/code.ts"
import { newOwnerJournal } from "../handoff/host.ts"
import { step } from "../lib/steps.ts"
import type { WorkspaceView } from "../protocol/gateway-api.ts"
import type { HandoffRow } from "../protocol/handoff.ts"
import type { Manifest } from "../protocol/manifest.ts"
import { takeAndUpload, workspaceSpool, type Context, type Taken, type TakeRequest } from "./checkpointing.ts"
import type { Daemon } from "./daemon.ts"
import { saveKnownManifest } from "./manifests.ts"
import type { Tally } from "./move-output.ts"
import type { Runtime } from "./runtime.ts"
import type { Place } from "./store/host-store.ts"
import { liftHere } from "./stopping.ts"
import { settle, userGateway } from "./workspace.ts"

/** What the first push of a directory says of where its contents rest. */
export function unencrypted({ home }: Pick<Daemon, "home">): string {
  const isServer = home !== null && /^https?:/.test(home.gateway)
  const place = isServer
    ? `of ${home.name}, whose operator may read them`
    : "(a folder that only you may read, on the gateway's machine)"
  return `contents rest unencrypted in the store for now ${place}; see docs/limits.md`
}

/** Notes what a capture found, for the answer. */
export function tallyTaken(tally: Tally, taken: Taken): void {
  tally.steps({ type: "outcomes", sessions: taken.outcomes })
  tally.steps({ type: "left", items: taken.notTravelling })
  for (const text of taken.notices) tally.steps({ type: "warning", text })
}

export function takeRequest(
  repository: Repository,
  place: Place,
  view: WorkspaceView | null,
  kind: "live" | "sealed",
  request: { readonly leaveSessions: boolean; readonly allBranches: boolean; readonly archived: boolean },
  dryRun: boolean,
): TakeRequest {
  const epoch = view?.workspace.epoch ?? 1
  const head = view?.workspace.headCheckpoint ?? null
  const { leaveSessions, allBranches, archived } = request
  return { place, repository, epoch, head, kind, leaveSessions, allBranches, archived, dryRun }
}

/** Makes the directory a workspace: row at the gateway, journal and record here. */
export async function register(
  daemon: Daemon,
  repository: Repository,
  place: Place,
  tally: Tally,
): Promise<{ place: Place; view: WorkspaceView }> {
  const view = await userGateway(daemon).createWorkspace({
    id: place.workspace,
    name: place.name,
    host: daemon.identity.host,
    incarnation: daemon.identity.incarnation,
  })
  const named = { ...place, name: view.workspace.name, wasOwner: true }
  daemon.store.saveJournal(newOwnerJournal(place.workspace, view.workspace.epoch, view.workspace.generation))
  await settle(daemon, repository, named)
  await leaveFormer(daemon, named, tally)
  tally.notices.push(unencrypted(daemon))
  return { place: named, view }
}

/** A directory that was another workspace's is that no more: what kept prompts out of its sessions goes (specification, 3.6). */
async function leaveFormer(daemon: Daemon, { workspace, directory }: Place, tally: Tally): Promise<void> {
  for (const former of daemon.store.places()) {
    if (former.workspace === workspace || former.directory !== directory) continue
    await liftHere(daemon, former, tally.steps)
    daemon.store.removePlace(former.workspace)
  }
}

/** After a checkpoint is in the store: the directory is at it, and the next one builds on it. */
async function remember(daemon: Daemon, repository: Repository, manifest: Manifest): Promise<void> {
  await recordBase(repository, baseOf(manifest.checkpoint, manifest.code))
  await saveKnownManifest(daemon, manifest)
  await daemon.gateway.report({
    workspace: manifest.workspace,
    incarnation: daemon.identity.incarnation,
    directory: repository.topLevel,
    sessionCount: manifest.sessions.length,
  })
}

export interface LivePush {
  readonly repository: Repository
  readonly take: TakeRequest
  readonly context: Context
  /** The open hand-off that this is the `copying` step of; its checkpoint is sent even when nothing is new. */
  readonly handoff: HandoffRow | null
  /** Asked once it is this one's turn on the workspace: throws when it is not to be done any more. */
  readonly check?: () => void
}

/** Captures and publishes a live checkpoint, alone on the workspace. Nothing new: nothing is sent. */
export async function pushLiveCheckpoint(
  daemon: Daemon,
  runtime: Runtime,
  { repository, take, context, handoff, check = () => {} }: LivePush,
): Promise<{ readonly taken: Taken; readonly bytesSent: number }> {
  return await runtime.publish(take.place.workspace, async () => {
    check()
    const { taken, bytesSent } = await takeAndUpload(daemon, take, context)
    if (taken.isNothingNew) return { taken, bytesSent, head: null }
    await commitLive(daemon, taken.manifest, context, handoff)
    await remember(daemon, repository, taken.manifest)
    await (await workspaceSpool(daemon, take.place.workspace)).prune()
    return { taken, bytesSent, head: taken.manifest.checkpoint }
  })
}

async function commitLive(
  daemon: Daemon,
  manifest: Manifest,
  { steps }: Context,
  handoff: HandoffRow | null,
): Promise<void> {
  const { workspace, checkpoint, epoch, parent } = manifest
  const common = { workspace, checkpoint, epoch, parent, incarnation: daemon.identity.incarnation }
  await step(steps, "commit", async () => {
    if (handoff === null) await daemon.gateway.commit({ ...common, kind: "live" })
    else await daemon.gateway.checkpointStep(handoff.id, "copying", common)
  })
}

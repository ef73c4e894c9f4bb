/** Each effect of the hand-off core as the I/O that it stands for. */
import { rm } from "node:fs/promises"
import { bringBranches } from "../checkpoint/apply.ts"
import { backupCode, dropBackup, isSpare } from "../checkpoint/backup.ts"
import { baseOf, recordBase } from "../checkpoint/base.ts"
import { saveLeft } from "../checkpoint/left.ts"
import { openRepository } from "../checkpoint/repository.ts"
import { heardOf, type Effect, type HostEvent, type StageWord } from "../handoff/host.ts"
import { wordFor } from "../handoff/words.ts"
import { privateFolder } from "../lib/files.ts"
import { step } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { HandoffAnswer } from "../protocol/gateway-api.ts"
import type { HostJournal, Word } from "../protocol/handoff.ts"
import { checkpointIdSchema, type HandoffId, type WorkspaceId } from "../protocol/ids.ts"
import { takeAndUpload, workspaceSpool, type Context } from "./checkpointing.ts"
import { scratchOf, handoffFolder, type Daemon } from "./daemon.ts"
import { placeToLock } from "./directory-locks.ts"
import { awayWords } from "./fences.ts"
import { noteMove } from "./move-notes.ts"
import { liftHere, setHere, stopHere } from "./stopping.ts"
import { fetchManifest, readHandoffManifest, saveHandoffManifest, saveKnownManifest } from "./manifests.ts"
import { checkDisk, isOfTheLine } from "./preflight.ts"
import type { Place } from "./store/host-store.ts"
import { applyCheckpoint, isAbsentOrEmpty, restoreTarget, targetDirectory, undoFolder } from "./target-leg.ts"
import { settle } from "./workspace.ts"

export type Completion = { readonly event: HostEvent } | { readonly word: Word }
export interface Carried {
  readonly completions: readonly Completion[]
  readonly failure: AppError | null
}

type Todo = Exclude<Effect, { effect: "answer" }>
type EffectOf<Name extends Effect["effect"]> = Extract<Effect, { effect: Name }>

/** Carries out one effect. Never throws: a failure is answered, with the completions there are. */
export async function carryOut(daemon: Daemon, journal: HostJournal, effect: Todo, context: Context): Promise<Carried> {
  try {
    return await dispatch(daemon, journal, effect, context)
  } catch (error) {
    return { completions: [], failure: toAppError(error) }
  }
}

async function dispatch(daemon: Daemon, journal: HostJournal, effect: Todo, context: Context): Promise<Carried> {
  const { workspace } = journal
  refuseInterrupted(effect, context)
  const alone = async (id: HandoffId, work: () => Promise<Carried>): Promise<Carried> =>
    await inDirectory(daemon, placeOf(daemon, workspace, id), context, work)
  switch (effect.effect) {
    case "fence":
      return await fence(daemon, workspace, effect.id)
    case "lift":
      return await lift(daemon, journal, context)
    case "drain":
      return await drain(daemon, workspace, effect, context)
    case "capture":
      return await alone(effect.id, async () => await capture(daemon, workspace, effect, journal, context))
    case "send":
      return await send(daemon, workspace, effect, context)
    case "backup":
      return await alone(effect.word.id, async () => await backup(daemon, effect.word, context))
    case "apply":
      return await alone(effect.id, async () => await apply(daemon, workspace, effect, context))
    case "restore-backup":
      return await alone(effect.id, async () => await restore(daemon, workspace, effect.id, context))
    case "save-left":
      return await saveWhatIsLeft(daemon, workspace, effect)
    case "mark-handed-off":
      return await markHandedOff(daemon, workspace, effect.id)
    case "ask":
      return await ask(daemon, workspace, effect.id)
    case "report-difference":
      context.steps({
        type: "notice",
        text: `checkpoint ${effect.sealedWith} was sealed already; this host captured ${effect.captured ?? "another one"} after it, which is not used`,
      })
      return NOTHING
  }
}

/** How long a step waits for the daemon of another HOME that works in the directory. */
const LOCK_WAIT_MS = 60_000

/** Keeps the daemons of other HOMEs out of the directory; within this one the runtime gives everybody a turn. */
async function inDirectory(
  daemon: Daemon,
  place: Place | null,
  { steps }: Context,
  work: () => Promise<Carried>,
): Promise<Carried> {
  if (place === null) return await work()
  const request = {
    ...(await placeToLock(place.directory)),
    command: "a step of decamp push --migrate or pull --migrate",
    waitMs: LOCK_WAIT_MS,
    signal: new AbortController().signal,
    notice: (text: string) => steps({ type: "waiting", text }),
  }
  return await daemon.locks.share(request, work)
}

/** Until `sealed` is sent a source leg can be broken off: the client then has it undone (advance.ts). */
function refuseInterrupted(effect: Todo, { signal }: Context): void {
  const isSourceStep = effect.effect === "capture" || (effect.effect === "send" && effect.request === "sealed")
  if (isSourceStep && signal.aborted)
    throw new AppError("interrupted", "the hand-off was interrupted before it was sealed")
}

const NOTHING: Carried = { completions: [], failure: null }
const completed = (event: HostEvent): Carried => ({ completions: [{ event }], failure: null })

/** Sets what can be set on idle sessions; the others follow when their turn has ended ({@link drain}). */
async function fence(daemon: Daemon, workspace: WorkspaceId, id: HandoffId | null): Promise<Carried> {
  await setHere(daemon, placeOf(daemon, workspace, id), id)
  return NOTHING
}

async function lift(daemon: Daemon, journal: HostJournal, context: Context): Promise<Carried> {
  const arriving = journal.entries.find(({ role, phase }) => role === "target" && phase === "live")
  const place =
    arriving === undefined
      ? daemon.store.place(journal.workspace)
      : arrivingPlace(daemon, journal.workspace, arriving.id)
  await liftHere(daemon, place, context.steps)
  return NOTHING
}

async function drain(
  daemon: Daemon,
  workspace: WorkspaceId,
  effect: EffectOf<"drain">,
  context: Context,
): Promise<Carried> {
  const place = placeOf(daemon, workspace, effect.id)
  try {
    await stopHere(daemon, place, effect.id, context)
  } catch (error) {
    // Without a hand-off there is nobody to refuse: this host has only heard that it is owner no more.
    if (effect.id !== null) throw error
    daemon.log("an agent still runs in a workspace that this host does not own", {
      workspace,
      message: toAppError(error).message,
    })
  }
  return NOTHING
}

function placeOf(daemon: Daemon, workspace: WorkspaceId, id: HandoffId | null): Place | null {
  const place = daemon.store.place(workspace)
  const directory = id === null ? null : daemon.store.leg(id).directory
  if (directory === null || place?.directory === directory) return place
  return { ...(place ?? newPlace(daemon, workspace, "")), directory }
}

function newPlace(daemon: Daemon, workspace: WorkspaceId, name: string): Place {
  return { workspace, name, directory: "", env: { ...daemon.ownEnvironment }, wasOwner: false }
}

async function capture(
  daemon: Daemon,
  workspace: WorkspaceId,
  effect: EffectOf<"capture">,
  journal: HostJournal,
  context: Context,
): Promise<Carried> {
  const place = daemon.store.place(workspace)
  if (place === null)
    throw new AppError("unknown_workspace", `workspace ${workspace} has no directory on ${daemon.identity.name}`)
  const leg = daemon.store.leg(effect.id)
  const entry = journal.entries.find((each) => each.id === effect.id)
  const request = {
    place,
    repository: await openRepository(place.directory),
    epoch: entry?.epoch ?? journal.ownEpoch ?? 0,
    head: effect.parent,
    kind: "sealed" as const,
    leaveSessions: leg.leaveSessions,
    allBranches: leg.allBranches,
    archived: leg.archived,
    interrupted: leg.interrupted,
  }
  const { taken, bytesSent } = await takeAndUpload(daemon, request, context)
  await saveHandoffManifest(daemon, effect.id, taken.manifest)
  context.steps({ type: "outcomes", sessions: taken.outcomes })
  context.steps({ type: "left", items: taken.notTravelling })
  context.steps({ type: "sent", bytes: bytesSent })
  return completed({ event: "captured", id: effect.id, checkpoint: taken.manifest.checkpoint })
}

async function send(
  daemon: Daemon,
  workspace: WorkspaceId,
  effect: EffectOf<"send">,
  context: Context,
): Promise<Carried> {
  const { id, request, epoch } = effect
  const { incarnation } = daemon.identity
  // Only the gateway's own no is a refusal: what fails here is told as it is.
  if (request === "live") await becomeLive(daemon, workspace, id, context)
  let answer: HandoffAnswer
  try {
    answer = await step(context.steps, `tell gateway: ${request}`, async () => {
      if (request === "abandon") return await abandonAsUser(daemon, id)
      if (request !== "sealed") return await daemon.gateway.plainStep(id, request, { workspace, incarnation, epoch })
      const manifest = await readHandoffManifest(daemon, id)
      const { checkpoint, parent } = manifest
      return await daemon.gateway.checkpointStep(id, "sealed", { workspace, incarnation, epoch, checkpoint, parent })
    })
  } catch (error) {
    return refusedBy(toAppError(error), effect)
  }
  if (request === "sealed") await sealedHere(daemon, workspace, id)
  if (request === "live") await forget(daemon, id)
  context.steps({ type: "state", handoff: id, state: answer.handoff.state })
  return {
    completions: [...news(daemon, answer, request === "release"), { event: { event: "acknowledged", id, request } }],
    failure: null,
  }
}

async function abandonAsUser(daemon: Daemon, id: HandoffId): Promise<HandoffAnswer> {
  if (daemon.user === null) throw new AppError("not_allowed", `this host can't abandon hand-off ${id} for the user`)
  return await daemon.user.abandon(id)
}

/** What an answer that shows row and workspace tells this host. */
function news(daemon: Daemon, answer: HandoffAnswer, withWord: boolean): Completion[] {
  const heard: Completion = { event: heardOf(answer.workspace) }
  const word = withWord ? wordFor(answer.handoff, answer.workspace, daemon.identity) : null
  // `abandoned` as the answer to `release` would only ask for the release again.
  return word === null || word.word === "abandoned" ? [heard] : [heard, { word }]
}

/** Requests whose refusal needs nobody's attention: the outcome is asked for, or the word comes again. */
const PATIENT: ReadonlySet<string> = new Set(["live", "done", "release", "undone"])

function refusedBy(error: AppError, effect: EffectOf<"send">): Carried {
  const { id, request } = effect
  if (error.code === "unreachable") return { completions: [], failure: error }
  const other = checkpointIdSchema.safeParse(error.details?.["checkpoint"])
  if (error.code === "sealed_with" && other.success)
    return completed({ event: "sealed-with", id, checkpoint: other.data })
  const completions = [{ event: { event: "refused" as const, id, request, code: error.code } }]
  return { completions, failure: PATIENT.has(request) ? null : error }
}

/** The sealed checkpoint is the head: the directory is at it, and edits made from now on are news for the next pull. */
async function sealedHere(daemon: Daemon, workspace: WorkspaceId, id: HandoffId): Promise<void> {
  const place = daemon.store.place(workspace)
  if (place === null) return
  const manifest = await readHandoffManifest(daemon, id)
  await recordBase(await openRepository(place.directory), baseOf(manifest.checkpoint, manifest.code))
  await saveKnownManifest(daemon, manifest)
}

async function backup(daemon: Daemon, word: StageWord, context: Context): Promise<Carried> {
  const { workspace, id } = word
  const manifest = await step(
    context.steps,
    "read manifest",
    async () =>
      await fetchManifest(daemon, workspace, word.checkpoint, "host", (bytes) =>
        context.steps({ type: "received", bytes }),
      ),
  )
  await saveHandoffManifest(daemon, id, manifest)
  const leg = daemon.store.leg(id)
  const name = daemon.store.place(workspace)?.name ?? (await nameOf(daemon, workspace))
  const directory = await targetDirectory(daemon, workspace, name, leg)
  await checkDisk(
    directory,
    manifest.blobs.reduce((sum, blob) => sum + blob.plainSize, 0),
  )
  await using scratch = await scratchOf(daemon, "backup")
  const saved = await backupCode({
    directory,
    code: manifest.code,
    atMs: daemon.nowMs(),
    scratch: scratch.path,
    steps: context.steps,
  })
  const base = saved.kind === "repository" ? saved.base : null
  const isBackupSpare = isSpare(saved) && (base === null || (await isOfTheLine(daemon, workspace, base.checkpoint)))
  daemon.store.saveLeg(id, { ...leg, directory, name, backup: saved, isBackupSpare })
  const backupRef = saved.kind === "repository" ? saved.ref : "none"
  return completed({ event: "backed-up", word, backupRef })
}

async function nameOf(daemon: Daemon, workspace: WorkspaceId): Promise<string> {
  const work = await daemon.gateway.record(workspace)
  return work.workspaces.find((row) => row.id === workspace)?.name ?? workspace
}

async function apply(
  daemon: Daemon,
  workspace: WorkspaceId,
  effect: EffectOf<"apply">,
  context: Context,
): Promise<Carried> {
  const leg = daemon.store.leg(effect.id)
  const manifest = await readHandoffManifest(daemon, effect.id)
  if (leg.backup === null || leg.directory === null)
    throw new AppError("internal", `hand-off ${effect.id} has no backup on record`)
  const arrived = await applyCheckpoint(daemon, {
    place: arrivingPlace(daemon, workspace, effect.id),
    manifest,
    access: "host",
    undoDirectory: await privateFolder(undoFolder(daemon, effect.id)),
    backup: leg.backup,
    leaveSessions: leg.leaveSessions,
    words: await awayWords(daemon, workspace, effect.id),
    steps: context.steps,
  })
  context.steps({ type: "outcomes", sessions: arrived.outcomes })
  context.steps({ type: "received", bytes: arrived.bytesReceived })
  return completed({ event: "applied", id: effect.id, isVerified: true })
}

/** Where an arriving workspace will lie once it is live. */
function arrivingPlace(daemon: Daemon, workspace: WorkspaceId, id: HandoffId): Place {
  const leg = daemon.store.leg(id)
  const known = daemon.store.place(workspace) ?? newPlace(daemon, workspace, leg.name)
  return { ...known, name: leg.name, directory: leg.directory ?? known.directory, env: leg.env ?? known.env }
}

/** The place is recorded, the directory is at the checkpoint, the gateway's lists know where it lies. Idempotent. */
async function becomeLive(daemon: Daemon, workspace: WorkspaceId, id: HandoffId, context: Context): Promise<void> {
  const leg = daemon.store.leg(id)
  if (leg.directory === null) return
  const manifest = await readHandoffManifest(daemon, id)
  const place = { ...arrivingPlace(daemon, workspace, id), wasOwner: true }
  const repository = await openRepository(place.directory)
  await settle(daemon, repository, { ...place, directory: repository.topLevel })
  await recordBase(repository, baseOf(manifest.checkpoint, manifest.code))
  for (const text of await bringBranches(place.directory, manifest.code)) context.steps({ type: "warning", text })
  await saveKnownManifest(daemon, manifest)
  if (leg.backup?.kind === "repository") {
    if (leg.isBackupSpare) await dropBackup(leg.backup)
    else context.steps({ type: "backup", ref: leg.backup.ref, host: daemon.identity.name })
  }
  // The effect before may have failed, and its hand-off was gone on with.
  await liftHere(daemon, place, context.steps)
  if (!leg.leaveSessions) await noteMove(daemon, id, { ...place, directory: repository.topLevel }, manifest.sessions)
  const { incarnation } = daemon.identity
  await daemon.gateway.report({
    workspace,
    incarnation,
    directory: repository.topLevel,
    sessionCount: manifest.sessions.length,
  })
  await (await workspaceSpool(daemon, workspace)).prune()
}

/** Nothing of it can be undone any more. */
async function forget(daemon: Daemon, id: HandoffId): Promise<void> {
  await rm(handoffFolder(daemon, id), { recursive: true, force: true })
  daemon.store.removeLeg(id)
}

async function restore(daemon: Daemon, workspace: WorkspaceId, id: HandoffId, context: Context): Promise<Carried> {
  const leg = daemon.store.leg(id)
  if (leg.backup !== null) {
    const { code } = await readHandoffManifest(daemon, id)
    const place = arrivingPlace(daemon, workspace, id)
    const left = await restoreTarget(daemon, { handoff: id, place, backup: leg.backup, code, steps: context.steps })
    if (left !== null) context.steps({ type: "backup", ref: left, host: daemon.identity.name })
  }
  daemon.store.removeLeg(id)
  return completed({ event: "restored", id })
}

/** After an abandoned hand-off the restore itself saves what changed since (checkpoint/backup.ts); here only the loss of ownership. */
async function saveWhatIsLeft(daemon: Daemon, workspace: WorkspaceId, effect: EffectOf<"save-left">): Promise<Carried> {
  const place = daemon.store.place(workspace)
  if (effect.id !== null || place === null || (await isAbsentOrEmpty(place.directory))) return NOTHING
  await using scratch = await scratchOf(daemon, "left")
  const ref = await saveLeft(await openRepository(place.directory), effect.epoch, scratch.path)
  daemon.log("the workspace was taken over; what was here is saved", { workspace, ref })
  return NOTHING
}

async function markHandedOff(daemon: Daemon, workspace: WorkspaceId, id: HandoffId): Promise<Carried> {
  const place = daemon.store.place(workspace)
  if (place !== null) daemon.store.savePlace({ ...place, wasOwner: true })
  await (await workspaceSpool(daemon, workspace)).prune()
  await forget(daemon, id)
  return NOTHING
}

async function ask(daemon: Daemon, workspace: WorkspaceId, id: HandoffId): Promise<Carried> {
  const work = await daemon.gateway.record(workspace)
  const item = work.items.find(({ handoff }) => handoff.id === id)
  if (item !== undefined) return { completions: news(daemon, item, true), failure: null }
  const row = work.workspaces.find((each) => each.id === workspace)
  if (row === undefined) return NOTHING
  return completed(heardOf(row))
}

/** `decamp restore`: the code of a checkpoint, or a saved state, back into this directory or into a fresh one. */
import { join } from "node:path"
import { applyBackup } from "../checkpoint/apply-backup.ts"
import { applyCode } from "../checkpoint/apply.ts"
import { backupCode } from "../checkpoint/backup.ts"
import { readBase, restoreBase } from "../checkpoint/base.ts"
import { captureCode } from "../checkpoint/capture.ts"
import type { Repository } from "../checkpoint/code.ts"
import { readSaved } from "../checkpoint/left.ts"
import { openIfThere } from "../checkpoint/nested.ts"
import { listSaved } from "../checkpoint/prune.ts"
import { verifyCode } from "../checkpoint/verify.ts"
import type { StepListener } from "../lib/steps.ts"
import type { BlobSink, BlobSource } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import type { CheckpointId } from "../protocol/ids.ts"
import type { RestoreRequest } from "../protocol/local-api.ts"
import { codeBlobs, type CodePart } from "../protocol/manifest.ts"
import { contentDigest } from "../protocol/manifest-digest.ts"
import type { RestoreOutput } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import { scopeOf, waitForQuiet } from "./agents.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { fetchManifest } from "./manifests.ts"
import type { Tally } from "./move-output.ts"
import { checkDisk } from "./preflight.ts"
import type { Runtime } from "./runtime.ts"
import { alone, bringObjects, bringPacks, findState } from "./states.ts"
import type { Place } from "./store/host-store.ts"
import { isAbsentOrEmpty } from "./target-leg.ts"
import { undoable, type Change } from "./unfinished.ts"
import { locateWorkspace, refuseOpenHandoff, userGateway } from "./workspace.ts"

const SESSIONS_STAY = "only the code was restored: the agents' sessions stay as they are"

interface Work {
  readonly daemon: Daemon
  readonly repository: Repository
  readonly place: Place
  readonly tally: Tally
  readonly steps: StepListener
  readonly signal: AbortSignal
}

interface Restored {
  readonly isEqual: boolean
  readonly saved: string | null
}

/**
 * Brings a checkpoint's code or a saved state back. In place the state before is saved first; the checkpoint that the directory is at
 * stays recorded: what was restored counts as work of this directory, which no later pull overwrites unseen.
 * @throws {AppError} no_workspace, not_found, usage, handoff_open, session_busy, damaged_data, no_space, not_writable
 */
export async function restore(
  daemon: Daemon,
  runtime: Runtime,
  request: RestoreRequest,
  tally: Tally,
  signal: AbortSignal,
): Promise<RestoreOutput> {
  const { place, repository, notices } = await locateWorkspace(daemon, request)
  tally.notices.push(...notices)
  const view = await userGateway(daemon).workspace(place.workspace)
  const named = await findState(daemon, view, repository, request.what)
  const { into } = request
  if (into === null) refuseOpenHandoff(view)
  else await refuseInUse(into)
  const work: Work = { daemon, repository, place, tally, steps: telling(tally), signal }
  const restored = await alone(runtime, place.workspace, async () => {
    if (into === null) await refuseTurns(work)
    return named.kind === "checkpoint"
      ? await restoreCheckpoint(work, named.id, into)
      : await restoreSaved(work, named.ref, into)
  })
  return {
    schema: OUTPUT_SCHEMA,
    result: restored.isEqual ? "nothing_to_do" : "done",
    workspace: { id: view.workspace.id, name: view.workspace.name },
    restored: named,
    directory: into ?? repository.topLevel,
    backup: restored.saved,
    notices: tally.notices,
    bytesReceived: tally.bytesReceived,
    timing: tally.timing,
  }
}

/** What an apply has to say stands in the answer, which a script reads too. */
function telling(tally: Tally): StepListener {
  return (event) => {
    if (event.type === "notice" || event.type === "warning") tally.notices.push(event.text)
    else tally.steps(event)
  }
}

async function refuseInUse(into: string): Promise<void> {
  if (await isAbsentOrEmpty(into)) return
  throw new AppError("usage", `--into ${into}: the directory exists and is not empty`, {
    hint: "name a fresh directory",
  })
}

async function refuseTurns({ daemon, repository, place, steps, signal }: Work): Promise<void> {
  const notice = (text: string): void => steps({ type: "notice", text })
  await waitForQuiet(daemon.agents, await scopeOf(repository, place.env), { waitMs: 0, signal, notice })
}

async function restoreCheckpoint(work: Work, checkpoint: CheckpointId, into: string | null): Promise<Restored> {
  const { daemon, repository, place, tally, steps } = work
  const count = (bytes: number): number => (tally.bytesReceived += bytes)
  const manifest = await fetchManifest(daemon, place.workspace, checkpoint, "user", count)
  const used = new Set(codeBlobs(manifest.code))
  const bytes = manifest.blobs.reduce((sum, { id, plainSize }) => sum + (used.has(id) ? plainSize : 0), 0)
  await checkDisk(into ?? repository.topLevel, bytes)
  const directory = into ?? repository.topLevel
  const bring = into === null ? bringObjects : bringPacks
  const brought = await bring(daemon, manifest, directory, steps)
  const { code } = manifest
  const restored =
    into === null ? await inPlace(work, code, brought.source) : await afresh(work, code, into, brought.source)
  tally.bytesReceived += brought.bytesReceived()
  if (!restored.isEqual && manifest.sessions.length > 0) tally.notices.push(SESSIONS_STAY)
  return restored
}

async function inPlace(work: Work, code: CodePart, source: BlobSource): Promise<Restored> {
  const { daemon, repository, place, steps, signal } = work
  await using scratch = await scratchOf(daemon, "restore")
  if (await isAt(repository, code, scratch.path)) return { isEqual: true, saved: null }
  const { topLevel: directory } = repository
  if (signal.aborted) throw new AppError("interrupted", "nothing was changed yet")
  const backup = await backupCode({ directory, code, atMs: daemon.nowMs(), scratch: scratch.path, steps })
  await undoable(daemon, place.workspace, { kind: "checkpoint", backup, code }, steps, async () => {
    await applyCode({ directory, code, source, scratch: scratch.path, steps, backup })
    await verifyCode({ directory, code, scratch: scratch.path, steps })
    await settleBase(directory, code.nested, true)
  })
  return { isEqual: false, saved: backup.kind === "repository" ? backup.ref : null }
}

async function afresh(work: Work, code: CodePart, directory: string, source: BlobSource): Promise<Restored> {
  const { daemon, place, steps } = work
  await using scratch = await scratchOf(daemon, "restore")
  const backup = await backupCode({ directory, code, atMs: daemon.nowMs(), scratch: scratch.path, steps })
  await undoable(daemon, place.workspace, { kind: "checkpoint", backup, code }, steps, async () => {
    await applyCode({ directory, code, source, scratch: scratch.path, steps, backup })
    await verifyCode({ directory, code, scratch: scratch.path, steps })
    await settleBase(directory, code.nested, false)
  })
  return { isEqual: false, saved: null }
}

/** Whether the directory has this very code: then nothing is written, not even a backup. */
async function isAt(repository: Repository, code: CodePart, scratch: string): Promise<boolean> {
  const now = await captureCode({
    repository,
    previous: code,
    sink: NO_SINK,
    scratch,
    steps: () => {},
    dryRun: true,
  })
  // A clone may track another remote: that is not what a checkpoint is restored for.
  const { upstream, originUrl } = code
  return contentDigest({ ...now.code, upstream, originUrl }, [], []) === contentDigest(code, [], [])
}

const NO_SINK: BlobSink = {
  put() {
    throw new AppError("internal", "a dry run stores nothing")
  },
}

async function restoreSaved(work: Work, ref: string, into: string | null): Promise<Restored> {
  const { daemon, repository, place, steps, signal } = work
  if (signal.aborted) throw new AppError("interrupted", "nothing was changed yet")
  await using scratch = await scratchOf(daemon, "restore")
  const directory = into ?? repository.topLevel
  const { nested } = await readSaved(repository, ref)
  const change: Change =
    into === null
      ? { kind: "saved", directory, refs: (await listSaved(repository)).map((each) => each.ref) }
      : { kind: "aside", directory }
  const { saved } = await undoable(daemon, place.workspace, change, steps, async () => {
    const applied = await applyBackup({ repository, ref, into, scratch: scratch.path, steps })
    await settleBase(directory, nested, into === null)
    return applied
  })
  return { isEqual: into === null && saved === null, saved }
}

/**
 * A restore leaves the record of the checkpoint that a directory is at as it was, and none in a fresh one; what an apply noted for its
 * own proof has done its duty.
 */
async function settleBase(
  directory: string,
  nested: readonly { readonly path: string }[],
  isKept: boolean,
): Promise<void> {
  for (const each of [directory, ...nested.map(({ path }) => join(directory, path))]) {
    const repository = await openIfThere(each)
    if (repository !== null) await restoreBase(repository, isKept ? await readBase(repository) : null)
  }
}

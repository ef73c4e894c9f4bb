/** `decamp log`, `decamp diff` and `decamp prune`: looking back, and taking old saved states away. */
import { readBase } from "../checkpoint/base.ts"
import type { Repository } from "../checkpoint/code.ts"
import {
  compareStates,
  holdsState,
  stateOfBackup,
  stateOfCode,
  type CodeState,
  type FileChange,
} from "../checkpoint/diff.ts"
import { listSaved, removeSaved, type SavedState } from "../checkpoint/prune.ts"
import { step } from "../lib/steps.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { CheckpointView, WorkspaceView } from "../protocol/gateway-api.ts"
import type { WorkspaceId } from "../protocol/ids.ts"
import type { DiffRequest, PruneRequest } from "../protocol/local-api.ts"
import type { DiffOutput, LogOutput, PruneOutput } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import { scratchOf, type Daemon } from "./daemon.ts"
import { fetchManifest } from "./manifests.ts"
import type { Tally } from "./move-output.ts"
import type { Runtime } from "./runtime.ts"
import { alone, bringObjects, findState, type NamedState } from "./states.ts"
import { locate, locateWorkspace, userGateway, type Caller } from "./workspace.ts"

/** An answer lists so many files and characters of their names at most: it has to fit into one line of the stream. */
const FILES_LISTED_MAX = 20_000
const NAMES_LENGTH_MAX = 4_000_000

/**
 * Checkpoints of the workspace, newest first, and what is saved in its directory here.
 * @throws {AppError} no_workspace, unknown_workspace, not_a_repository
 */
export async function log(daemon: Daemon, request: Caller & { readonly workspace: string | null }): Promise<LogOutput> {
  const user = userGateway(daemon)
  const { view, repository } = await locateNamed(daemon, request)
  const [listed, base, backups] = await Promise.all([
    user.checkpoints(view.workspace.id),
    repository === null ? null : readBase(repository),
    repository === null ? [] : listSaved(repository),
  ])
  const head = view.workspace.headCheckpoint
  return {
    schema: OUTPUT_SCHEMA,
    workspace: { id: view.workspace.id, name: view.workspace.name },
    directory: repository?.topLevel ?? null,
    checkpoints: listed.checkpoints.map((each) => logged(each, base?.checkpoint ?? null, head)),
    isCut: listed.isCut,
    backups: [...backups],
  }
}

/** The workspace, and its repository here; null when it never was here, or its directory is gone. */
async function locateNamed(
  daemon: Daemon,
  request: Caller & { readonly workspace: string | null },
): Promise<{ readonly view: WorkspaceView; readonly repository: Repository | null }> {
  const user = userGateway(daemon)
  if (request.workspace === null) {
    const { place, repository } = await locateWorkspace(daemon, request)
    return { view: await user.workspace(place.workspace), repository }
  }
  const view = await user.workspace(request.workspace)
  const place = daemon.store.place(view.workspace.id)
  if (place === null) return { view, repository: null }
  try {
    return { view, repository: (await locate(daemon, place)).repository }
  } catch (error) {
    if (toAppError(error).code === "not_a_repository") return { view, repository: null }
    throw error
  }
}

function logged(view: CheckpointView, here: string | null, head: string | null): LogOutput["checkpoints"][number] {
  const { id, parent, kind, epoch, createdAtMs } = view.checkpoint
  return {
    id,
    parent,
    kind,
    epoch,
    host: view.creatorName,
    createdAtMs,
    isHere: id === here,
    isHead: id === head,
    storedBytes: view.storedBytes,
    newBytes: view.newBytes,
    sessions: view.sessionCount,
    sessionsChanged: view.sessionsChanged,
    isPinned: view.isPinned,
  }
}

/**
 * What differs from one state to another, or to the directory as it is. Checkpoints whose files are not here are fetched: the
 * repository then has their objects, and nothing else changes.
 * @throws {AppError} no_workspace, not_found, usage
 */
export async function diff(daemon: Daemon, runtime: Runtime, request: DiffRequest, tally: Tally): Promise<DiffOutput> {
  const { place, repository, notices } = await locateWorkspace(daemon, request)
  tally.notices.push(...notices)
  const view = await userGateway(daemon).workspace(place.workspace)
  const from = await findState(daemon, view, repository, request.from)
  const to = request.to === null ? null : await findState(daemon, view, repository, request.to)
  const difference = await alone(runtime, place.workspace, async () => {
    const before = await codeState(daemon, repository, place.workspace, from, tally)
    const after = to === null ? null : await codeState(daemon, repository, place.workspace, to, tally)
    return await step(tally.steps, "compare", async () => {
      await using scratch = await scratchOf(daemon, "diff")
      return await compareStates(repository, before, after, scratch.path)
    })
  })
  return {
    schema: OUTPUT_SCHEMA,
    workspace: { id: view.workspace.id, name: view.workspace.name },
    from,
    to: to ?? { kind: "directory", directory: repository.topLevel },
    files: listedFiles(difference.files),
    fileCount: difference.files.length,
    head: difference.head,
    branch: difference.branch,
    notices: tally.notices,
    bytesReceived: tally.bytesReceived,
    timing: tally.timing,
  }
}

async function codeState(
  daemon: Daemon,
  repository: Repository,
  workspace: WorkspaceId,
  named: NamedState,
  tally: Tally,
): Promise<CodeState> {
  if (named.kind === "backup") return await stateOfBackup(repository, named.ref)
  const manifest = await fetchManifest(daemon, workspace, named.id, "user", (bytes) => (tally.bytesReceived += bytes))
  if (!(await holdsState(repository, manifest.code))) {
    const brought = await bringObjects(daemon, manifest, repository.topLevel, tally.steps)
    tally.bytesReceived += brought.bytesReceived()
  }
  return stateOfCode(manifest.code)
}

function listedFiles(files: readonly FileChange[]): FileChange[] {
  let length = 0
  const end = files.findIndex(({ path }, at) => {
    length += path.length
    return at >= FILES_LISTED_MAX || length > NAMES_LENGTH_MAX
  })
  return end === -1 ? [...files] : files.slice(0, end)
}

/**
 * Removes saved states of the directory that are older than an age. What an unfinished hand-off would put back stays.
 * @throws {AppError} usage with the list of what there is, when no age is given; no_workspace
 */
export async function prune(daemon: Daemon, request: PruneRequest): Promise<PruneOutput> {
  const { repository } = await locate(daemon, request)
  const saved = await listSaved(repository)
  if (request.olderThanMs === null) throw withoutAge(repository.topLevel, saved)
  const before = daemon.nowMs() - request.olderThanMs
  const old = saved.filter(({ createdAtMs }) => createdAtMs < before)
  const needed = neededRefs(daemon)
  const removed = old.filter(({ ref }) => !needed.has(ref))
  const refs = removed.map(({ ref }) => ref)
  if (!request.dryRun) await removeSaved(repository, refs)
  return {
    schema: OUTPUT_SCHEMA,
    result: removed.length === 0 ? "nothing_to_do" : request.dryRun ? "planned" : "done",
    directory: repository.topLevel,
    removed,
    inUse: old.filter(({ ref }) => needed.has(ref)),
    remaining: saved.length - removed.length,
  }
}

function withoutAge(directory: string, saved: readonly SavedState[]): AppError {
  if (saved.length === 0) {
    return new AppError("usage", `prune needs --older-than, and ${directory} has no backups to remove`, {
      hint: "for example decamp prune --older-than 30d",
    })
  }
  const { length } = saved
  return new AppError(
    "usage",
    `prune needs --older-than: ${directory} has ${length} backup${length === 1 ? "" : "s"}`,
    {
      hint: "for example decamp prune --older-than 30d (d days, h hours, w weeks); --dry-run removes nothing",
      details: { backups: saved },
    },
  )
}

/** Refs that an unfinished hand-off would restore from. */
function neededRefs(daemon: Daemon): ReadonlySet<string> {
  const backups = daemon.store.legs().map((id) => daemon.store.leg(id).backup)
  return new Set(backups.flatMap((backup) => (backup?.kind === "repository" ? [backup.ref] : [])))
}

/** Bringing sessions into Codex's home: compared with what is here, written so that it can be taken back, read back. */
import { mkdir } from "node:fs/promises"
import { dirname, join } from "node:path"
import { AppError, toAppError } from "../../protocol/errors.ts"
import type { SessionEntry } from "../../protocol/manifest.ts"
import type { ImportedSession, SessionImport, SessionImportRequest } from "../agent.ts"
import { boundText, portableText, type Binding } from "../transcript/bound-text.ts"
import { readCarried, writeCarried, type Carried } from "../transcript/carried.ts"
import { compareWith, type Parting } from "../transcript/compare.ts"
import type { Layout } from "../transcript/contents.ts"
import { forkedId, forkedName, renameIds } from "./fork.ts"
import { markFenced, recordArrival } from "./fence-arrival.ts"
import { isHousekeeping } from "./housekeeping.ts"
import type { CodexUndoStep } from "./undo.ts"
import { checkMeta } from "./meta.ts"
import { applySettings, arrivingGoal, keepSettings, type Setting } from "./goals.ts"
import { readHeader, type SessionHeader } from "./header.ts"
import { readRow, writeRow } from "./index-row.ts"
import { titleOf } from "./listing.ts"
import { addLines, nameLine, readNames } from "./names.ts"
import { placesOf, readRolloutName, renamedRollout, type CodexPlaces } from "./places.ts"
import { allRollouts, rolloutsOfScope, type Rollout } from "./rollouts.ts"
import type { ThreadLocks } from "./thread-locks.ts"
import { bindingOf, digestOf, layoutNow, type CodexMemory } from "./store.ts"
import { openUndo, type UndoLog } from "../transcript/undo-steps.ts"
import { copyTranscript, extendTranscript, placeTranscript, type Arriving } from "../transcript/writing.ts"

interface Local {
  readonly rollout: Rollout
  readonly layout: Layout
  readonly digest: string
}

interface Plan {
  readonly entry: SessionEntry
  readonly header: SessionHeader
  readonly local: Local | null
  readonly parting: Parting | null
  /** Under which what is here will be kept, null when it need not be. */
  readonly forkId: string | null
}

interface Context {
  readonly memory: CodexMemory
  readonly request: SessionImportRequest
  readonly installed: string
  readonly locks: ThreadLocks
  readonly places: CodexPlaces
  readonly binding: Binding
  readonly names: ReadonlyMap<string, string>
  readonly here: ReadonlyMap<string, Rollout>
}

/**
 * Imports all sessions of a request. One that can't be brought in fails alone.
 * @param installed what the Codex here prints for its version, "" when there is none
 */
export async function importSessions(
  memory: CodexMemory,
  request: SessionImportRequest,
  installed: string,
  locks: ThreadLocks,
): Promise<SessionImport> {
  const { scope } = request
  const places = placesOf(scope.env)
  const { aliases } = await rolloutsOfScope(places, memory.rollouts, scope)
  const all = await allRollouts(places, memory.rollouts)
  const context: Context = {
    memory,
    request,
    installed,
    locks,
    places,
    binding: await bindingOf(scope, aliases),
    names: await readNames(places),
    here: new Map(all.map((rollout) => [rollout.id, rollout])),
  }
  const outcomes = new Map<string, ImportedSession>()
  const plans: Plan[] = []
  for (const entry of request.sessions) {
    const judged = await attempt(entry.id, async () => await judge(context, entry))
    if ("outcome" in judged) outcomes.set(entry.id, judged)
    else plans.push(judged)
  }
  const undo = await openUndo(request.undoDirectory)
  // A copy names the copies of its relatives, so all new ids are known before the first is written.
  const forks = new Map(plans.flatMap(({ entry, forkId }) => (forkId === null ? [] : [[entry.id, forkId] as const])))
  for (const plan of plans) {
    outcomes.set(plan.entry.id, await attempt(plan.entry.id, async () => await writeLocked(context, plan, forks, undo)))
  }
  const refused = await settle(context, plans, outcomes)
  const sessions = request.sessions.flatMap(({ id }) => outcomes.get(id) ?? [])
  return { path: "rollouts", sessions: sessions.map((each) => withReason(each, refused.get(each.id))) }
}

/** Has Codex take over names and goals of what was written: at once, or when the fence is lifted. */
async function settle(
  { request, binding, names }: Context,
  plans: readonly Plan[],
  outcomes: ReadonlyMap<string, ImportedSession>,
): Promise<ReadonlyMap<string, string>> {
  const settings: Setting[] = []
  for (const { entry, header, local, forkId } of plans) {
    const { id } = entry
    if (outcomes.get(id)?.outcome === "failed") continue
    const name = header.name === names.get(id) ? null : header.name
    const goal = await arrivingGoal(request.part, request.source, id, boundText(binding)).catch(() => null)
    if (name !== null || goal !== null) settings.push({ id, name, goal })
    if (forkId !== null && local !== null) {
      settings.push({ id: forkId, name: forkedName(titleOf(local.rollout, names)), goal: null })
    }
  }
  if (request.fence === undefined) return await applySettings(request.scope, settings)
  await keepSettings(request.fence, settings)
  return new Map()
}

function withReason(imported: ImportedSession, refused: string | undefined): ImportedSession {
  if (refused === undefined) return imported
  const goal = `its goal could not be set: ${refused.slice(0, 200)}`
  return { ...imported, reason: imported.reason === undefined ? goal : `${imported.reason}; ${goal}` }
}

async function attempt<T>(id: string, work: () => Promise<T>): Promise<T | ImportedSession> {
  try {
    return await work()
  } catch (error) {
    return { id, outcome: "failed", reason: toAppError(error).message.slice(0, 500) }
  }
}

/** Compares what arrives with what is here: an outcome when nothing is to be written, else what is. */
async function judge(context: Context, entry: SessionEntry): Promise<Plan | ImportedSession> {
  const { request, names, memory, binding } = context
  const { id } = entry
  const rollout = context.here.get(id)
  if (rollout === undefined) {
    if (readRolloutName(`rollout-2026-01-01T00-00-00-${id}.jsonl`) === null) {
      return { id, outcome: "failed", reason: "its id is not one of codex's" }
    }
    const header = await readHeader(request.source, entry.blobs[0], id)
    return { entry, header, local: null, parting: null, forkId: null }
  }
  const layout = await layoutNow(memory, request.scope, rollout, binding)
  const digest = digestOf(rollout, names.get(id), layout)
  if (digest === entry.digest) return { id, outcome: "unchanged" }
  const base = request.base.get(id)
  const kept = { id, outcome: "kept", reason: "it went on here and not at the other side" } as const
  if (base === entry.digest) return kept
  const header = await readHeader(request.source, entry.blobs[0], id)
  const parting = await compareWith(
    { path: rollout.path, layout },
    { source: request.source, chunks: entry.blobs.slice(1) },
    { toPortable: portableText(binding), toBound: boundText(binding), isHousekeeping },
  )
  // Where nothing happened here since, what arrives replaces it, whatever it is.
  const isNewer = base === digest || parting.here !== "turns"
  if (!isNewer && parting.arriving !== "turns") return kept
  const forkId = isNewer ? null : forkedId(id, digest)
  return { entry, header, local: { rollout, layout, digest }, parting, forkId }
}

/** Writes while nobody else can: Codex's own lock of a session that is here is held meanwhile. */
async function writeLocked(
  context: Context,
  plan: Plan,
  forks: ReadonlyMap<string, string>,
  undo: UndoLog,
): Promise<ImportedSession> {
  const { places, locks } = context
  const { id } = plan.entry
  if (plan.local === null || locks.isHeld(places, id)) return await write(context, plan, forks, undo)
  if (!(await locks.hold(places, id))) {
    throw new AppError("session_busy", "it is open in codex here", { hint: "leave it there, and try again" })
  }
  try {
    return await write(context, plan, forks, undo)
  } finally {
    locks.release(places, id)
  }
}

async function write(
  context: Context,
  plan: Plan,
  forks: ReadonlyMap<string, string>,
  undo: UndoLog,
): Promise<ImportedSession> {
  const { entry, local, parting, forkId } = plan
  const { id } = entry
  const { scope, source } = context.request
  const arriving: Arriving = {
    source,
    chunks: entry.blobs.slice(1),
    toBound: boundText(context.binding),
    checkFirst: (line) => checkMeta(id, line, context.installed),
    updatedAtMs: entry.updatedAtMs,
  }
  const key = { env: scope.env, agent: "codex", id } as const
  const before = await readCarried(key)
  let carried: Carried
  if (local === null || parting === null) {
    const path = await placeOf(context, plan)
    carried = await placeTranscript(path, arriving, undo)
    await mendRow(context, entry, path, undo)
  } else {
    if (forkId !== null) await keepFork(context, { ...plan, local, forkId }, forks, undo)
    carried = await extendTranscript({ path: local.rollout.path, layout: local.layout }, parting, arriving, undo)
  }
  await undo.note({ do: "carried", id, before })
  await writeCarried(key, carried)
  await takeName(context, plan, undo)
  if (forkId === null) return { id, outcome: "moved" }
  const reason = `both sides went on; what was here is kept as ${forkId}`
  return { id, outcome: "forked", forkId, reason }
}

/** Where a session that is new here goes: with a fence it appears archived, which Codex refuses to go on with. */
async function placeOf({ request, places }: Context, { entry, header }: Plan): Promise<string> {
  const isArchived = request.part.shared.some(({ name }) => name === `archived/${entry.id}`)
  if (isArchived) return join(places.archived, header.file)
  if (request.fence !== undefined) {
    await recordArrival(request.fence, entry.id)
    return join(places.archived, header.file)
  }
  return join(places.sessions, readRolloutName(header.file)?.folder ?? "", header.file)
}

/** A row of the index from before, when the session was here once, must not lead Codex elsewhere. */
async function mendRow({ request, places }: Context, entry: SessionEntry, path: string, undo: UndoLog): Promise<void> {
  const { topLevel } = request.scope
  const before = await readRow(places, entry.id)
  if (before === null) return
  const isArchived = dirname(path) === places.archived
  const row = {
    rollout_path: path,
    cwd: entry.directory.split("/").includes("..") ? topLevel : join(topLevel, entry.directory),
    archived: isArchived ? 1 : 0,
    archived_at: isArchived ? (before.archived_at ?? Math.floor(Date.now() / 1000)) : null,
  }
  if (row.rollout_path === before.rollout_path && row.cwd === before.cwd && row.archived === before.archived) return
  await noteOwn(undo, { of: "row", id: entry.id, before })
  await writeRow(places, entry.id, row)
}

/** Keeps what is here as a session of its own, beside the one that it was. */
async function keepFork(
  context: Context,
  { local, forkId }: Plan & { readonly local: Local; readonly forkId: string },
  forks: ReadonlyMap<string, string>,
  undo: UndoLog,
): Promise<void> {
  const { rollout, layout } = local
  const { fence } = context.request
  // With a fence the copy arrives like everything else; without one it lies where the session does.
  const folder = fence === undefined ? dirname(rollout.path) : context.places.archived
  const to = join(folder, renamedRollout(rollout.name, forkId))
  if (fence !== undefined) await recordArrival(fence, forkId)
  else if (rollout.archived === "fence") await markFenced(context.places, forkId)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await copyTranscript({ path: rollout.path, layout }, to, (lines) => renameIds(lines, forks), undo)
  const title = forkedName(titleOf(rollout, context.names))
  const line = nameLine(forkId, title, rollout.tail.lastAtMs)
  await noteOwn(undo, { of: "names", lines: [line] })
  await addLines(context.places, [line])
}

/** The side that went on has the say about the name. */
async function takeName({ places, names }: Context, { entry, header }: Plan, undo: UndoLog): Promise<void> {
  if (header.name === null || header.name === names.get(entry.id)) return
  const line = nameLine(entry.id, header.name, entry.updatedAtMs)
  await noteOwn(undo, { of: "names", lines: [line] })
  await addLines(places, [line])
}

async function noteOwn(undo: UndoLog, step: CodexUndoStep): Promise<void> {
  await undo.note({ do: "own", step })
}

/**
 * Bringing sessions into opencode's store: staged and checked beside it, then one short write transaction per session, verified by
 * reading back. Only for stores whose newest migration is known (schemas.ts); ADR docs/decisions/0003-opencode-write-path.md.
 */
import type { Database } from "bun:sqlite"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { privateFolder } from "../../lib/files.ts"
import { AppError, toAppError } from "../../protocol/errors.ts"
import type { SessionEntry } from "../../protocol/manifest.ts"
import type { FenceRequest, ImportedSession, SessionImportRequest } from "../agent.ts"
import type { Binding } from "./binding.ts"
import { digestOf, parkUndo } from "./chunks.ts"
import type { DigestMemory } from "./digest-memory.ts"
import { placeMarks, recordFence } from "./fence-journal.ts"
import { standingFences, writeOverFences } from "./fence-triggers.ts"
import { copySession, freshIds, ownedIds } from "./fork.ts"
import { ensureProject, hasProject, mergeSession, placeAhead, removeAhead, sessionStamp } from "./merge.ts"
import { placesOf } from "./places.ts"
import type { ArrivedTrees } from "./snapshot-import.ts"
import { namedTrees } from "./snapshot-trees.ts"
import { createStage, stageSession, type Destination } from "./stage.ts"
import { layoutOf, readSessions, sessionsOfScope, type StoredSession, type StoreLayout } from "./store.ts"
import { dropFromUndo, recordUndo, restoreSession } from "./undo-record.ts"
import { attach, writeTransaction } from "./writing.ts"

interface Plan {
  readonly entry: SessionEntry
  /** Where what is here will be kept, null when it need not be. */
  readonly forkId: string | null
  /** Digest of what is here, "" when the session is not. */
  readonly localDigest: string
  readonly exists: boolean
  readonly stamp: string
}

/** Imports all sessions of a request into an open store; `trees` are what undo in them goes back to. */
export async function importSessions(
  db: Database,
  request: SessionImportRequest,
  destination: Destination,
  trees: Omit<ArrivedTrees, "discard">,
  memory: DigestMemory,
): Promise<ImportedSession[]> {
  const layout = layoutOf(db)
  const outcomes = new Map<string, ImportedSession>()
  const { fence } = request
  const directories = await directoriesOf(db, request)
  const context = { db, layout, directories, destination, memory, fence: null }
  const plans = reading(db, () => judge(context, request, outcomes))
  if (plans.length > 0) {
    const file = join(await privateFolder(request.undoDirectory), "stage.db")
    await removeStage(file)
    await attach(db, file, "stage")
    try {
      db.run("PRAGMA stage.journal_mode = OFF")
      db.run("PRAGMA stage.synchronous = OFF")
      createStage(db, layout)
      const staged = await stageAll(context, plans, request, outcomes)
      if (staged.length > 0) {
        const undo = await switchUndo(db, staged, trees)
        const record = await recordUndo(db, layout, request.undoDirectory, {
          existed: staged.filter(({ exists }) => exists).map(({ entry }) => entry.id),
          absent: staged.flatMap(({ entry, exists, forkId }) => [
            ...(exists ? [] : [entry.id]),
            ...(forkId === null ? [] : [forkId]),
          ]),
          projectAdded: hasProject(db, destination.projectId) ? null : destination.projectId,
          filesAdded: [...trees.filesAdded],
        })
        await trees.place()
        const writing = { ...context, fence: fence === undefined ? null : await expectArrivals(fence, staged) }
        for (const plan of staged) {
          outcomes.set(plan.entry.id, { ...undo.get(plan.entry.id), ...(await write(writing, plan, record)) })
        }
        const failed = staged.filter(
          ({ entry, exists }) =>
            outcomes.get(entry.id)?.outcome === "failed" &&
            (exists || removeAhead(db, layout, entry.id, (work) => transactOver(writing, work))),
        )
        await dropFromUndo(record, new Set(failed.flatMap(idsOf)))
        if (fence !== undefined) {
          await placeMarks(fence, staged.filter((plan) => !failed.includes(plan)).flatMap(idsOf), false)
        }
      }
    } finally {
      db.run("DETACH stage")
      await removeStage(file)
    }
  }
  return request.sessions.flatMap(({ id }) => outcomes.get(id) ?? [])
}

interface Context {
  readonly db: Database
  readonly layout: StoreLayout
  readonly directories: readonly string[]
  readonly destination: Destination
  readonly memory: DigestMemory
  /** Under which fence sessions arrive; null: none is set, and none may stand. */
  readonly fence: { readonly key: string; readonly words: string } | null
}

/** Puts down that sessions will arrive fenced. */
async function expectArrivals(fence: FenceRequest, staged: readonly Plan[]): Promise<Context["fence"]> {
  const database = placesOf(fence.scope.env).database ?? ""
  return { key: await recordFence(fence, database, staged.flatMap(idsOf)), words: fence.words }
}

function idsOf({ entry, forkId }: Plan): string[] {
  return forkId === null ? [entry.id] : [entry.id, forkId]
}

/** A write transaction beside what fences stand. */
function transactOver({ db, fence }: Context, work: (check: () => void) => void): void {
  if (fence === null) writeTransaction(db, work)
  else writeOverFences(db, work)
}

async function directoriesOf(db: Database, request: SessionImportRequest): Promise<readonly string[]> {
  return [request.scope.topLevel, ...(await sessionsOfScope(db, request.scope)).aliases]
}

async function removeStage(file: string): Promise<void> {
  for (const end of ["", "-journal", "-wal", "-shm"]) await rm(`${file}${end}`, { force: true })
}

/** Runs `read` in one read transaction. */
function reading<T>(db: Database, read: () => T): T {
  db.run("BEGIN")
  try {
    return read()
  } finally {
    db.run("ROLLBACK")
  }
}

/** Compares what arrives with what is here; answers what must be written, and puts the other outcomes down. */
function judge(context: Context, request: SessionImportRequest, outcomes: Map<string, ImportedSession>): Plan[] {
  const { db } = context
  const here = new Map(
    readSessions(
      db,
      request.sessions.map(({ id }) => id),
    ).map((session) => [session.id, session]),
  )
  const plans: Plan[] = []
  const fences = request.fence === undefined ? standingFences(db) : []
  for (const entry of request.sessions) {
    const { id } = entry
    if (!/^ses_[0-9A-Za-z]{1,100}$/.test(id)) {
      outcomes.set(id, { id, outcome: "failed", reason: "its id is not one of opencode's" })
      continue
    }
    if (fences.some(({ named }) => named.has(id))) {
      outcomes.set(id, { id, outcome: "failed", reason: "it is fenced here: this host does not own its workspace" })
      continue
    }
    const local = here.get(id)
    if (local === undefined) {
      plans.push({ entry, forkId: null, localDigest: "", exists: false, stamp: sessionStamp(db, id) })
      continue
    }
    const stamp = sessionStamp(db, id)
    const binding = bindingOf(context, local)
    const digest = rememberedDigest(context, local, binding)
    const base = request.base.get(id)
    if (digest === entry.digest) outcomes.set(id, { id, outcome: "unchanged" })
    else if (base === entry.digest) {
      outcomes.set(id, { id, outcome: "kept", reason: "it went on here and not at the other side" })
    } else {
      const forkId = base === digest ? null : freshIds(new Set([id]), digest).rename(id)
      plans.push({ entry, forkId, localDigest: digest, exists: true, stamp })
    }
  }
  return plans
}

/** Digest of what is here; call it in a read transaction. */
function rememberedDigest({ db, layout, memory }: Context, session: StoredSession, binding: Binding): string {
  const known = memory.recall(db, layout, session, binding)
  if (known !== null) return known
  const digest = digestOf(db, layout, session, binding)
  memory.remember(db, layout, session, binding, digest)
  return digest
}

function bindingOf(context: Context, session: StoredSession): Binding {
  return { directories: context.directories, projectId: session.projectId, toolOutput: context.destination.toolOutput }
}

async function stageAll(
  context: Context,
  plans: readonly Plan[],
  request: SessionImportRequest,
  outcomes: Map<string, ImportedSession>,
): Promise<Plan[]> {
  const staged: Plan[] = []
  for (const plan of plans) {
    const { entry } = plan
    try {
      await stageSession(context.db, context.layout, entry, request.source, context.destination)
      staged.push(plan)
    } catch (error) {
      outcomes.set(entry.id, { id: entry.id, outcome: "failed", reason: reasonOf(error) })
    }
  }
  return staged
}

/**
 * Whether undo works in each session that has something to undo. Steps up to the last whose tree is missing are made harmless
 * (opencode removes trees after a week, so the old ones may be missing at the source already); later steps can be undone.
 */
async function switchUndo(
  db: Database,
  staged: readonly Plan[],
  trees: Pick<ArrivedTrees, "whole">,
): Promise<ReadonlyMap<string, Undo>> {
  const ids = staged.map(({ entry }) => entry.id)
  const needed = namedTrees(db, ids, "stage").filter(({ isNeeded }) => isNeeded)
  const whole = await trees.whole([...new Set(needed.map(({ tree }) => tree))])
  const undo = new Map<string, Undo>()
  for (const [session, steps] of Map.groupBy(needed, (each) => each.session)) {
    const last = steps.findLastIndex(({ tree }) => !whole.has(tree))
    const older = steps.slice(0, last + 1)
    parkUndo(
      db,
      session,
      older.flatMap(({ part }) => part ?? []),
    )
    if (older.length === 0) undo.set(session, { undo: "available" })
    else if (older.length === steps.length) undo.set(session, { undo: "unavailable" })
    else
      undo.set(session, {
        undo: "available",
        reason: `the ${older.length} oldest steps can't be undone: their trees are gone`,
      })
  }
  return undo
}

interface Undo {
  readonly undo: "available" | "unavailable"
  readonly reason?: string
}

/** Writes one session, reads it back, and puts back what was there when it does not verify. */
async function write(context: Context, plan: Plan, record: string): Promise<ImportedSession> {
  const { db, layout } = context
  const { id, digest } = plan.entry
  try {
    if (!plan.exists) placeAhead(db, layout, id, (work) => transactOver(context, work))
    const isVerified = transact(context, plan)
    if (!isVerified) {
      await restoreSession(db, layout, record, { id, existed: plan.exists, forkId: plan.forkId })
      throw new AppError(
        "damaged_data",
        `session ${id} read back from opencode's store is not what arrived (${digest})`,
      )
    }
  } catch (error) {
    return { id, outcome: "failed", reason: reasonOf(error) }
  }
  if (plan.forkId === null) return { id, outcome: "moved" }
  return {
    id,
    outcome: "forked",
    forkId: plan.forkId,
    reason: `both sides went on; what was here is kept as ${plan.forkId}`,
  }
}

/** The transaction, and after it the reading back: that needs no lock. False: what is there is not what was to be written. */
function transact(context: Context, plan: Plan): boolean {
  const { db, layout, destination } = context
  const { id, digest } = plan.entry
  let written = ""
  const work = (check: () => void): void => {
    if (
      plan.exists ? sessionStamp(db, id) !== plan.stamp : readSessions(db, [id]).some((session) => session.id === id)
    ) {
      throw new AppError("session_busy", `session ${id} was written to by opencode meanwhile`)
    }
    ensureProject(db, { id: destination.projectId, worktree: destination.topLevel })
    if (plan.forkId !== null) {
      copySession(db, layout, id, freshIds(ownedIds(db, id), plan.localDigest), check)
    }
    mergeSession(db, layout, id, check)
    written = sessionStamp(db, id)
  }
  if (context.fence === null) writeTransaction(db, work)
  else writeOverFences(db, work, { ...context.fence, ids: idsOf(plan) })
  // An opencode that went on with the session at once: what it added is not ours to judge.
  return reading(db, () => sessionStamp(db, id) !== written || verifies(context, id, digest))
}

function onlySession(db: Database, id: string): StoredSession {
  const found = readSessions(db, [id]).find((session) => session.id === id)
  if (found === undefined) throw new AppError("internal", `session ${id} is not in opencode's store`)
  return found
}

/**
 * Compares the digest of what is in the store now with the one that was announced. Where a record names this host's directory
 * without meaning the workspace, the two can't agree: then the rows are compared with those that arrived.
 */
function verifies(context: Context, id: string, announced: string): boolean {
  const { db, layout } = context
  const session = onlySession(db, id)
  const binding = bindingOf(context, session)
  const written = digestOf(db, layout, session, binding)
  if (written !== announced && written !== digestOf(db, layout, session, binding, "stage")) return false
  // The next hand-off needs no second look.
  context.memory.remember(db, layout, session, binding, written)
  return true
}

/** Why a session failed, without its contents: a parser's own text would show some. */
function reasonOf(error: unknown): string {
  if (error instanceof SyntaxError || error instanceof z.ZodError || error instanceof TypeError) {
    return "its contents are not in the format of a session"
  }
  return toAppError(error).message.slice(0, 500)
}

/** Taking sessions out of opencode's store: one read transaction, no process, one chunk in memory at a time. */
import type { Database } from "bun:sqlite"
import { relative } from "node:path"
import type { BlobSink } from "../../protocol/blob.ts"
import { blobIdSchema, type BlobId } from "../../protocol/ids.ts"
import type { NotTravelling, SessionEntry } from "../../protocol/manifest.ts"
import type { AgentScope, SessionProblem } from "../agent.ts"
import type { Binding } from "./binding.ts"
import { brokenSessions, chunkId, chunkIdsOf, chunksOf, requireReadable, sessionDigest } from "./chunks.ts"
import type { DigestMemory } from "./digest-memory.ts"
import { placesOf } from "./places.ts"
import { namedOutputs, type NamedOutput } from "./tool-outputs.ts"
import { namedTrees, type NamedTree } from "./snapshot-trees.ts"
import { layoutOf, providerOf, sessionsOfScope, type StoredSession, type StoreLayout } from "./store.ts"

export interface ExportedSessions {
  readonly schemaStamp: string
  readonly sessions: readonly SessionEntry[]
  readonly skipped: readonly SessionProblem[]
  readonly notTravelling: readonly NotTravelling[]
  /** Long tool outputs that the sessions name, as they were in the same read. */
  readonly outputs: readonly NamedOutput[]
  /** Git trees that the sessions name, as they were in the same read. */
  readonly trees: readonly NamedTree[]
}

/**
 * Exports the scope's sessions; one whose digest is known is answered by its known entry.
 * @throws {AppError} agent_version when the store is not one that can be read
 */
export async function exportSessions(
  db: Database,
  scope: AgentScope,
  sink: BlobSink,
  known: ReadonlyMap<string, SessionEntry>,
  { only, memory }: { readonly only?: ReadonlySet<string>; readonly memory: DigestMemory },
): Promise<ExportedSessions> {
  db.run("BEGIN")
  try {
    const layout = layoutOf(db)
    requireReadable(layout)
    const { toolOutput } = placesOf(scope.env)
    const found = await sessionsOfScope(db, scope)
    const { sessions, archived } = chosenSessions(found.sessions, scope, known, only)
    const directories = [scope.topLevel, ...found.aliases]
    const entries = new Map<string, SessionEntry>()
    const fresh: StoredSession[] = []
    for (const session of sessions) {
      const binding = { directories, projectId: session.projectId, toolOutput }
      const entry = knownEntry({ db, layout, session, binding, memory }, known)
      if (entry === null) fresh.push(session)
      else entries.set(session.id, entry)
    }
    const broken = brokenSessions(
      db,
      fresh.map(({ id }) => id),
    )
    for (const session of fresh) {
      if (broken.has(session.id)) continue
      const binding = { directories, projectId: session.projectId, toolOutput }
      const stored = new Set<string>(known.get(session.id)?.blobs)
      const blobs = await putChunks(chunksOf(db, layout, session, binding), sink, stored)
      const entry = entryOf(session, scope, blobs)
      memory.remember(db, layout, session, binding, entry.digest)
      entries.set(session.id, entry)
    }
    return {
      schemaStamp: layout.stamp,
      sessions: sessions.flatMap(({ id }) => entries.get(id) ?? []),
      skipped: [...broken].map(([id, reason]) => ({ id, reason })),
      notTravelling: [...archived, ...leftBehind(db, layout, sessions)],
      ...memory.names(db, [...entries.keys()], (ids) => ({
        outputs: namedOutputs(db, ids, toolOutput),
        trees: namedTrees(db, ids),
      })),
    }
  } finally {
    db.run("ROLLBACK")
  }
}

/** Archived sessions stay with their children unless they are asked for, or have travelled before. */
function chosenSessions(
  found: readonly StoredSession[],
  scope: AgentScope,
  known: ReadonlyMap<string, SessionEntry>,
  only: ReadonlySet<string> | undefined,
): { readonly sessions: readonly StoredSession[]; readonly archived: readonly NotTravelling[] } {
  if (only !== undefined) return { sessions: found.filter(({ id }) => only.has(id)), archived: [] }
  const roots = found.filter(({ archivedAtMs, id }) => archivedAtMs !== null && !known.has(id))
  if (scope.withArchived === true || roots.length === 0) return { sessions: found, archived: [] }
  const staying = new Set(roots.map(({ id }) => id))
  for (let before = -1; before !== staying.size;) {
    before = staying.size
    for (const { id, parentId } of found)
      if (parentId !== null && staying.has(parentId) && !known.has(id)) staying.add(id)
  }
  const reason = "it is archived; archived sessions go along with --archived"
  return {
    sessions: found.filter(({ id }) => !staying.has(id)),
    archived: roots.map(({ id }) => ({ kind: "session", path: id, reason })),
  }
}

interface Reading {
  readonly db: Database
  readonly layout: StoreLayout
  readonly session: StoredSession
  readonly binding: Binding
  readonly memory: DigestMemory
}

/** The session's known entry while nothing in it has changed. */
function knownEntry(reading: Reading, known: ReadonlyMap<string, SessionEntry>): SessionEntry | null {
  const { db, layout, session, binding, memory } = reading
  const entry = known.get(session.id)
  if (entry === undefined) return null
  const remembered = memory.recall(db, layout, session, binding)
  if (remembered !== null) return remembered === entry.digest ? entry : null
  const ids: string[] = []
  for (const id of chunkIdsOf(db, layout, session, binding)) {
    if (entry.blobs[ids.length] !== id) return null
    ids.push(id)
  }
  if (sessionDigest(ids) !== entry.digest) return null
  memory.remember(db, layout, session, binding, entry.digest)
  return entry
}

/** Puts the chunks that the session's known entry does not name already. */
async function putChunks(chunks: Iterable<Uint8Array>, sink: BlobSink, stored: ReadonlySet<string>): Promise<BlobId[]> {
  const ids: BlobId[] = []
  for (const chunk of chunks) {
    const id = stored.size === 0 ? null : blobIdSchema.parse(chunkId(chunk))
    if (id !== null && stored.has(id)) ids.push(id)
    else ids.push((await sink.put(once(chunk), { compress: true })).id)
  }
  return ids
}

async function* once(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
  yield chunk
}

function entryOf(session: StoredSession, scope: AgentScope, blobs: BlobId[]): SessionEntry {
  const directory = relative(scope.topLevel, session.directory)
  return {
    agent: "opencode",
    id: session.id,
    parentId: session.parentId,
    title: session.title,
    createdAtMs: session.createdAtMs,
    updatedAtMs: session.updatedAtMs,
    directory: directory.startsWith("..") ? "" : directory,
    wasRunning: session.isUnfinished,
    digest: sessionDigest(blobs),
    blobs,
    newestMessageAtMs: session.newestMessageAtMs,
    provider: providerOf(session.model),
  }
}

function leftBehind(db: Database, layout: StoreLayout, sessions: readonly StoredSession[]): NotTravelling[] {
  const left: NotTravelling[] = []
  for (const session of sessions) {
    if (session.shareUrl !== null && session.shareUrl !== undefined) {
      left.push({ kind: "session", path: session.id, reason: "its share link and the secret for it stay on this host" })
    }
  }
  const ids = JSON.stringify(sessions.map(({ id }) => id))
  for (const table of layout.unknownTables) {
    const rows = db
      .query<{ id: string; n: number }, [string]>(
        `SELECT session_id AS id, count(*) AS n FROM "${table}"
         WHERE session_id IN (SELECT value FROM json_each(?1)) GROUP BY session_id`,
      )
      .all(ids)
    for (const { id, n } of rows) {
      left.push({
        kind: "session",
        path: id,
        reason: `${n} records in opencode's table ${table}, which decamp does not know`,
      })
    }
  }
  return left
}

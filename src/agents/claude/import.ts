/** Bringing sessions into Claude Code's home: compared with what is here, written so that it can be taken back, read back. */
import { join } from "node:path"
import { AppError, toAppError } from "../../protocol/errors.ts"
import type { SessionEntry } from "../../protocol/manifest.ts"
import type { ImportedSession, SessionImport, SessionImportRequest } from "../agent.ts"
import { boundText, portableText, type Binding } from "../transcript/bound-text.ts"
import { compareWith, type Parting, type TextRules } from "../transcript/compare.ts"
import { openUndo, type UndoLog } from "../transcript/undo-steps.ts"
import { checkVersion } from "./arriving-version.ts"
import { markArrival } from "./fence-arrival.ts"
import { copySession, forkedId } from "./fork.ts"
import { readArriving, type ArrivingPiece } from "./header.ts"
import { isHousekeeping } from "./housekeeping.ts"
import { titleOf } from "./listing.ts"
import { TRANSCRIPT, type SessionPlace } from "./pieces.ts"
import { isSessionId, placesOf, projectName } from "./places.ts"
import { removePiece, writePiece } from "./piece-writing.ts"
import { bindingOf, layOut, type ClaudeMemory, type LaidSession } from "./store.ts"
import { transcriptAt, transcriptsOfScope, type Transcript } from "./transcripts.ts"

interface Local {
  readonly transcript: Transcript
  readonly laid: LaidSession
}

interface Plan {
  readonly entry: SessionEntry
  readonly place: SessionPlace
  readonly rules: TextRules
  readonly pieces: readonly ArrivingPiece[]
  readonly local: Local | null
  /** Nothing happened here since: files that did not arrive were removed at the other side. */
  readonly isReplaced: boolean
  /** Under which what is here will be kept, null when it need not be. */
  readonly forkId: string | null
}

interface Context {
  readonly memory: ClaudeMemory
  readonly request: SessionImportRequest
  readonly installed: string
  readonly aliases: readonly string[]
  /** Sessions of the scope by their ids. */
  readonly here: ReadonlyMap<string, Transcript>
}

/**
 * Imports all sessions of a request. One that can't be brought in fails alone.
 * @param installed what the Claude Code here prints for its version, "" when there is none
 */
export async function importSessions(
  memory: ClaudeMemory,
  request: SessionImportRequest,
  installed: string,
): Promise<SessionImport> {
  const { scope } = request
  const { aliases, transcripts } = await transcriptsOfScope(placesOf(scope.env), memory.transcripts, scope)
  const here = new Map(transcripts.map((transcript) => [transcript.id, transcript]))
  const context = { memory, request, installed, aliases, here }
  const undo = await openUndo(request.undoDirectory)
  const sessions: ImportedSession[] = []
  for (const entry of request.sessions) {
    try {
      const judged = await judge(context, entry)
      sessions.push("outcome" in judged ? judged : await write(context, judged, undo))
    } catch (error) {
      sessions.push({ id: entry.id, outcome: "failed", reason: toAppError(error).message.slice(0, 500) })
    }
  }
  return { path: "transcripts", sessions }
}

function rulesOf(binding: Binding): TextRules {
  return { toPortable: portableText(binding), toBound: boundText(binding), isHousekeeping }
}

/** Compares what arrives with what is here: an outcome when nothing is to be written, else what is. */
async function judge(context: Context, entry: SessionEntry): Promise<Plan | ImportedSession> {
  const { memory, request, aliases } = context
  const { id } = entry
  const { scope, source } = request
  if (!isSessionId(id)) return { id, outcome: "failed", reason: "its id is not one of Claude Code's" }
  if (entry.directory.startsWith("/") || entry.directory.split("/").includes("..")) {
    return { id, outcome: "failed", reason: "its directory leads out of the workspace" }
  }
  const places = placesOf(scope.env)
  const project = projectName(join(scope.topLevel, entry.directory))
  // Where it lies already it stays: the folder of a directory that has two spellings may be named after either.
  const path = context.here.get(id)?.path ?? join(places.projects, project, `${id}.jsonl`)
  const rules = rulesOf(await bindingOf(scope, aliases, entry.directory))
  const transcript = await transcriptAt(path, memory.transcripts)
  const place = { places, id, transcript: path, slug: transcript?.ends.slug ?? "" }
  const base = { entry, place, rules, isReplaced: false, forkId: null }
  if (transcript === null) {
    const pieces = await readArriving(source, entry)
    await checkVersion(source, pieces, context.installed)
    return { ...base, pieces, local: null }
  }
  const laid = await layOut(memory, scope, place, await bindingOf(scope, aliases, entry.directory))
  if (laid.digest === entry.digest) return { id, outcome: "unchanged" }
  const known = request.base.get(id)
  const kept = { id, outcome: "kept", reason: "it went on here and not at the other side" } as const
  if (known === entry.digest) return kept
  const pieces = await readArriving(source, entry)
  await checkVersion(source, pieces, context.installed)
  const parting = await partingOf(context, { place, rules }, laid, pieces)
  const isReplaced = known === laid.digest
  const isNewer = isReplaced || parting.here !== "turns"
  if (!isNewer && parting.arriving !== "turns") return kept
  return {
    ...base,
    pieces,
    local: { transcript, laid },
    isReplaced,
    forkId: isNewer ? null : forkedId(id, laid.digest),
  }
}

async function partingOf(
  { request }: Context,
  { place, rules }: Pick<Plan, "place" | "rules">,
  laid: LaidSession,
  pieces: readonly ArrivingPiece[],
): Promise<Parting> {
  const layout = laid.pieces.find(({ name }) => name === TRANSCRIPT)?.layout
  if (layout === null || layout === undefined) throw new AppError("internal", `session ${place.id} has no transcript`)
  const chunks = pieces.find(({ name }) => name === TRANSCRIPT)?.blobs ?? []
  return await compareWith({ path: place.transcript, layout }, { source: request.source, chunks }, rules)
}

async function write(context: Context, plan: Plan, undo: UndoLog): Promise<ImportedSession> {
  const { fence } = context.request
  const unmark = fence === undefined ? null : await markArrival(fence, plan.entry.id, undo)
  // What was here and is kept beside what arrives is held just as that is.
  if (fence !== undefined && plan.forkId !== null) await markArrival(fence, plan.forkId, undo)
  try {
    return await writePieces(context, plan, undo)
  } catch (error) {
    if (plan.local === null) await unmark?.()
    throw error
  }
}

async function writePieces(context: Context, plan: Plan, undo: UndoLog): Promise<ImportedSession> {
  const { entry, place, local, forkId, rules } = plan
  const { scope, source } = context.request
  const { id } = entry
  if (local !== null && forkId !== null) {
    await copySession({ place, pieces: local.laid.pieces, title: titleOf(local.transcript) }, forkId, undo)
  }
  const here = new Map(local?.laid.pieces.map((piece) => [piece.name, piece]))
  // The transcript makes the session: it comes when all that it names is there.
  for (const piece of plan.pieces.toReversed()) {
    const target = { scope, place, source, rules, updatedAtMs: entry.updatedAtMs }
    await writePiece(target, piece, here.get(piece.name) ?? null, undo)
    here.delete(piece.name)
  }
  if (plan.isReplaced) for (const piece of here.values()) await removePiece(piece, undo)
  if (forkId === null) return { id, outcome: "moved", undo: "available" }
  const reason = `both sides went on; what was here is kept as ${forkId}`
  return { id, outcome: "forked", forkId, reason, undo: "available" }
}

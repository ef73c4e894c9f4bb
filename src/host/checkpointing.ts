/** Taking a checkpoint of a directory: sessions and code into a spool, then manifest and blobs into the store. */
import { join } from "node:path"
import { captureCode } from "../checkpoint/capture.ts"
import type { Repository } from "../checkpoint/code.ts"
import { uploadBlobs } from "../client/blob-transfer.ts"
import { privateFolder } from "../lib/files.ts"
import { step, type StepListener } from "../lib/steps.ts"
import type { BlobRef } from "../protocol/blob.ts"
import { AppError } from "../protocol/errors.ts"
import { newCheckpointId, type CheckpointId } from "../protocol/ids.ts"
import {
  codeBlobs,
  type AgentPart,
  type Manifest,
  type NotTravelling,
  type SessionEntry,
} from "../protocol/manifest.ts"
import { contentDigest } from "../protocol/manifest-digest.ts"
import type { SessionOutcome } from "../protocol/output.ts"
import { MANIFEST_SCHEMA } from "../protocol/version.ts"
import { openSpool, type Spool } from "../storage/spool.ts"
import { scopeOf } from "./agents.ts"
import { scratchOf, workspaceFolder, type Daemon } from "./daemon.ts"
import { knownManifestOf } from "./manifests.ts"
import type { Place } from "./store/host-store.ts"

export interface TakeRequest {
  readonly place: Place
  readonly repository: Repository
  readonly epoch: number
  /** Newest checkpoint of the workspace at the gateway. */
  readonly head: CheckpointId | null
  readonly kind: "live" | "sealed"
  readonly leaveSessions: boolean
  readonly allBranches?: boolean
  /** Sessions that the user archived in their agent too. */
  readonly archived?: boolean
  /** Sessions whose turn was interrupted for this, as `agent id`: they want to go on. */
  readonly interrupted?: readonly string[]
  readonly dryRun?: boolean
  /** Take nothing over from the last checkpoint. */
  readonly isFromNothing?: boolean
}

export interface Taken {
  readonly manifest: Manifest
  /** The newest checkpoint already says all this: nothing to upload. Live ones only. */
  readonly isNothingNew: boolean
  readonly outcomes: readonly SessionOutcome[]
  readonly notTravelling: readonly NotTravelling[]
  /** What a person must know before the move. */
  readonly notices: readonly string[]
  /** Plain bytes that are new, before compression. */
  readonly newBytes: number
}

export interface Sessions {
  readonly agents: readonly AgentPart[]
  readonly sessions: readonly SessionEntry[]
  readonly outcomes: readonly SessionOutcome[]
  readonly notTravelling: readonly NotTravelling[]
}

/** Opens the spool of one workspace. Blobs in it are named by content: a left-over of an interrupted run is a head start. */
export async function workspaceSpool(daemon: Daemon, workspace: string): Promise<Spool> {
  return await openSpool(await privateFolder(join(workspaceFolder(daemon, workspace), "spool")))
}

/** Captures code and sessions. Nothing leaves the machine; the repository gets objects and `refs/decamp/*` only. */
export async function takeCheckpoint(daemon: Daemon, request: TakeRequest, steps: StepListener): Promise<Taken> {
  const { place, repository } = request
  await using scratch = await scratchOf(daemon, "capture")
  const spool =
    request.dryRun === true
      ? await openSpool(await privateFolder(join(scratch.path, "spool")))
      : await workspaceSpool(daemon, place.workspace)
  const previous = request.isFromNothing === true ? null : await knownManifestOf(daemon, place.workspace, request.head)
  const sessions = await step(steps, "capture sessions", async () =>
    request.leaveSessions
      ? await sessionsThatStay(daemon, request)
      : await exportSessions(daemon, request, previous, spool),
  )
  const captured = await captureCode({
    repository,
    previous: previous?.code ?? null,
    sink: spool.sink,
    scratch: scratch.path,
    steps,
    packSizes: new Map(previous?.blobs.map(({ id, storedSize }) => [id, storedSize])),
    dryRun: request.dryRun === true,
    allBranches: request.allBranches === true,
  })
  const digest = contentDigest(captured.code, sessions.agents, sessions.sessions)
  const isNothingNew = request.kind === "live" && previous?.contentDigest === digest
  const manifest: Manifest = {
    schema: MANIFEST_SCHEMA,
    workspace: place.workspace,
    checkpoint: newCheckpointId(),
    parent: request.head,
    epoch: request.epoch,
    kind: request.kind,
    createdAtMs: daemon.nowMs(),
    creator: { host: daemon.identity.host, incarnation: daemon.identity.incarnation },
    contentDigest: digest,
    code: captured.code,
    agents: [...sessions.agents],
    sessions: [...sessions.sessions],
    blobs: [],
    encryption: null,
  }
  const blobs = request.dryRun === true ? [] : blobsOf(manifest, [...spool.refs(), ...(previous?.blobs ?? [])])
  return {
    manifest: isNothingNew && previous !== null ? previous : { ...manifest, blobs },
    isNothingNew,
    outcomes: sessions.outcomes,
    notTravelling: [...captured.notTravelling, ...sessions.notTravelling],
    notices: captured.notices,
    newBytes: captured.newBytes + spool.refs().reduce((sum, ref) => sum + ref.plainSize, 0),
  }
}

async function exportSessions(
  daemon: Daemon,
  request: TakeRequest,
  previous: Manifest | null,
  spool: Spool,
): Promise<Sessions> {
  const found = await scopeOf(request.repository, request.place.env)
  const scope = { ...found, withArchived: request.archived === true }
  const agents: AgentPart[] = []
  const sessions: SessionEntry[] = []
  const outcomes: SessionOutcome[] = []
  const notTravelling: NotTravelling[] = []
  for (const agent of daemon.agents.all) {
    const known = new Map(
      previous?.sessions.filter((entry) => entry.agent === agent.name).map((entry) => [entry.id, entry]),
    )
    const part = previous?.agents.find((each) => each.agent === agent.name) ?? null
    if ((await agent.sessions(scope)).length === 0) continue
    const installed = await daemon.agents.installation(agent, request.place.env)
    const taken = await agent.export(scope, spool.sink, { part, sessions: known })
    agents.push(
      installed === null
        ? taken.part
        : { ...taken.part, version: installed.version, schemaStamp: installed.schemaStamp },
    )
    const configured = (await agent.providers(request.place.env)) ?? []
    const wasInterrupted = (id: string): boolean => request.interrupted?.includes(`${agent.name} ${id}`) === true
    const entries = taken.sessions.map((entry) => withoutOwnProvider(entry, configured))
    sessions.push(...entries.map((entry) => (wasInterrupted(entry.id) ? { ...entry, wasRunning: true } : entry)))
    notTravelling.push(...taken.notTravelling)
    for (const entry of taken.sessions) {
      const outcome = known.get(entry.id)?.digest === entry.digest ? "unchanged" : "moved"
      outcomes.push({ agent: agent.name, id: entry.id, title: entry.title, outcome })
    }
    for (const { id, reason } of taken.skipped) {
      outcomes.push({ agent: agent.name, id, title: "", outcome: "skipped", reason })
      notTravelling.push({ kind: "session", path: id, reason })
    }
  }
  return {
    agents: agents.filter((part) => sessions.some((entry) => entry.agent === part.agent)),
    sessions,
    outcomes,
    notTravelling,
  }
}

/** A provider that only the repository's configuration or the agent itself defines works at the target too: it need not be set up there. */
function withoutOwnProvider(entry: SessionEntry, configured: readonly string[]): SessionEntry {
  return entry.provider === null || configured.includes(entry.provider) ? entry : { ...entry, provider: null }
}

async function sessionsThatStay(daemon: Daemon, request: TakeRequest): Promise<Sessions> {
  const scope = await scopeOf(request.repository, request.place.env)
  const reason = "stays by choice (--leave-sessions)"
  const found = await Promise.all(
    daemon.agents.all.map(async (agent) =>
      (await agent.sessions(scope)).map((session) => ({ agent: agent.name, id: session.id, title: session.title })),
    ),
  )
  const outcomes = found.flat().map((session) => ({ ...session, outcome: "kept" as const, reason }))
  return {
    agents: [],
    sessions: [],
    outcomes,
    notTravelling: outcomes.map(({ id }) => ({ kind: "session", path: id, reason })),
  }
}

/** The refs of exactly those blobs that the manifest names. */
function blobsOf(manifest: Manifest, known: readonly BlobRef[]): BlobRef[] {
  const byId = new Map(known.map((ref) => [ref.id, ref]))
  const named = new Set([
    ...codeBlobs(manifest.code),
    ...manifest.sessions.flatMap((session) => session.blobs),
    ...manifest.agents.flatMap((part) => part.shared.flatMap((shared) => shared.blobs)),
  ])
  return [...named].map((id) => {
    const ref = byId.get(id)
    if (ref === undefined) throw new AppError("internal", `blob ${id} was captured but is not in the spool`)
    return ref
  })
}

export interface Context {
  readonly steps: StepListener
  readonly signal: AbortSignal
}

/**
 * Captures and uploads; the caller then tells the gateway. What the last checkpoint brought is not sent again, unless the store has
 * lost it (a damaged blob is removed there): then everything is captured once more, from nothing.
 * @returns the checkpoint and the bytes sent; 0 when nothing is new
 */
export async function takeAndUpload(
  daemon: Daemon,
  request: TakeRequest,
  context: Context,
): Promise<{ readonly taken: Taken; readonly bytesSent: number }> {
  const taken = await takeCheckpoint(daemon, request, context.steps)
  if (taken.isNothingNew) return { taken, bytesSent: 0 }
  const bytesSent = await uploadCheckpoint(daemon, taken.manifest, context)
  if (bytesSent !== null) return { taken, bytesSent }
  context.steps({ type: "notice", text: "the store has lost a part of the last checkpoint: everything is sent again" })
  const whole = await takeCheckpoint(daemon, { ...request, isFromNothing: true }, context.steps)
  const sent = await uploadCheckpoint(daemon, whole.manifest, context)
  if (sent === null)
    throw new AppError("damaged_data", `checkpoint ${whole.manifest.checkpoint} names blobs that are nowhere`)
  return { taken: whole, bytesSent: sent }
}

/** Uploads what the store lacks, the manifest last. Answers the bytes sent; null: a blob is neither in the store nor here. */
async function uploadCheckpoint(daemon: Daemon, manifest: Manifest, context: Context): Promise<number | null> {
  const spool = await workspaceSpool(daemon, manifest.workspace)
  const body = new TextEncoder().encode(JSON.stringify(manifest))
  return await step(context.steps, "send", async () => {
    const request = {
      workspace: manifest.workspace,
      incarnation: manifest.creator.incarnation,
      epoch: manifest.epoch,
      checkpoint: manifest.checkpoint,
      manifestSize: body.byteLength,
      manifestSha256: new Bun.CryptoHasher("sha256").update(body).digest("hex"),
      blobs: manifest.blobs.map(({ id, storedSize, storedSha256 }) => ({ id, storedSize, storedSha256 })),
    }
    const first = await daemon.gateway.planBlobs(request)
    for (const { id } of first.missing) if ((await spool.file(id)) === null) return null
    let isAsked = false
    const plan = async (): Promise<typeof first> => {
      if (isAsked) return await daemon.gateway.planBlobs(request)
      isAsked = true
      return first
    }
    const { steps: listener, signal } = context
    return await uploadBlobs(daemon.gateway.blobs, { plan, manifest: body, spool, listener, step: "send", signal })
  })
}

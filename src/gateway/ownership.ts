/** Carries out what the hand-off core decides: load, decide, write if nobody has written meanwhile; witness a flip before anybody hears of it. */
import { decide } from "../handoff/gateway.ts"
import { newRecord, ownerObject, type GatewayRecord } from "../handoff/record.ts"
import type { Answer, Decision, Request } from "../handoff/request.ts"
import { AppError } from "../protocol/errors.ts"
import type { HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import type { HandoffId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import type { Log } from "./app.ts"
import type { Inspected } from "./checkpoints.ts"
import { saveCounts } from "./history.ts"
import { writeOwnerObject } from "./owner-objects.ts"
import { refusalError } from "./refusals.ts"
import { restored } from "./restored.ts"
import { loadRecord, type Loaded, type Named } from "./store/loading.ts"
import { findHandoff, insertRecord, saveRecord } from "./store/records.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { endHold } from "./uploads.ts"

/** Another one has written between the reading and the writing: what was read then is judged. Each time somebody gets on. */
const TRIES_MAX = 20

export interface Ownership {
  /** Null for an unknown workspace. */
  load(tenant: TenantId, workspace: WorkspaceId, named?: Named): Promise<GatewayRecord | null>
  /** The same with its version, for {@link Ownership.judge}. */
  loadVersion(tenant: TenantId, workspace: WorkspaceId, named: Named): Promise<Loaded | null>
  find(tenant: TenantId, id: HandoffId): Promise<HandoffRow | null>
  /**
   * Judges one request and writes its effect. A flip is witnessed before this answers.
   * @param found what the store says of a checkpoint that the request brings; null: nothing was looked for
   * @param loaded what was just loaded with all that the request names: judged first, and written only when nobody wrote since
   * @throws {AppError} unknown_workspace; the refusal of the core
   */
  judge(
    tenant: TenantId,
    workspace: WorkspaceId,
    request: Request,
    found?: Inspected | null,
    loaded?: Loaded | null,
  ): Promise<Answer>
  /** What the core would say, without writing anything. */
  ask(tenant: TenantId, workspace: WorkspaceId, request: Request): Promise<Decision>
  /** Writes the owner object of a flipped row and records that it is there. */
  witness(tenant: TenantId, workspace: WorkspaceId, id: HandoffId): Promise<void>
  /** The first push of a directory: its host owns the workspace at epoch 1. */
  create(tenant: TenantId, workspace: WorkspaceRow): Promise<void>
}

export interface OwnershipParts {
  readonly db: GatewayDatabase
  readonly store: BlobStore
  readonly nowMs: () => number
  readonly log: Log
  /** Told of every hand-off that comes to another state here. */
  readonly onState?: (row: HandoffRow) => void
}

export function ownership(parts: OwnershipParts): Ownership {
  const { db, nowMs } = parts
  const load: Ownership["load"] = async (tenant, workspace, named) =>
    (await loadRecord(db, tenant, workspace, named))?.record ?? null
  const older = restored({
    store: parts.store,
    log: parts.log,
    load,
    async restore(tenant, workspace, request) {
      const { decision } = await decideAndWrite(parts, tenant, workspace, request)
      if (decision.kind === "refused") throw refusalError(decision)
    },
  })
  return {
    load,
    loadVersion: async (tenant, workspace, named) => await loadRecord(db, tenant, workspace, named),
    find: async (tenant, id) => await findHandoff(db, tenant, id),
    async ask(tenant, workspace, request) {
      if (request.request === "open") await older.check(tenant, workspace)
      const loaded = await loadRecord(db, tenant, workspace, namedIn(request))
      if (loaded === null) throw unknownWorkspace(workspace)
      return decide(loaded.record, request, { nowMs: nowMs() })
    },
    async judge(tenant, workspace, request, found = null, loaded = null) {
      let wasOlder = false
      if (request.request === "release" || request.request === "reclaim")
        wasOlder = await older.check(tenant, workspace)
      if (request.request === "flip" || request.request === "open") wasOlder = await older.checkOnce(tenant, workspace)
      // What was loaded is then the record of before.
      const written = await decideAndWrite(parts, tenant, workspace, request, found, wasOlder ? null : loaded)
      const { decision } = written
      if (decision.kind === "refused") throw refusalError(decision, found?.problem ?? null)
      if (request.request !== "flip") return decision.answer
      const { record } = await witness(parts, tenant, workspace, request.id, written.now)
      return answered(decide(record, request, { nowMs: nowMs() }))
    },
    async witness(tenant, workspace, id) {
      const loaded = await loadRecord(db, tenant, workspace, { handoff: id })
      if (loaded !== null) await witness(parts, tenant, workspace, id, loaded)
    },
    create: async (tenant, workspace) => await create(parts, tenant, workspace),
  }
}

interface Written {
  readonly decision: Decision
  /** The record as it is after it. */
  readonly now: Loaded
}

async function decideAndWrite(
  { db, nowMs, onState }: OwnershipParts,
  tenant: TenantId,
  workspace: WorkspaceId,
  request: Request,
  found: Inspected | null = null,
  known: Loaded | null = null,
): Promise<Written> {
  for (let tries = 1; ; tries += 1) {
    const first = tries === 1 ? known : null
    const loaded = first ?? (await loadRecord(db, tenant, workspace, namedIn(request)))
    if (loaded === null) throw unknownWorkspace(workspace)
    const decision = decide(loaded.record, request, { nowMs: nowMs() })
    if (decision.kind !== "accepted") return { decision, now: loaded }
    const brought = namedIn(request).checkpoint ?? null
    const counts = found?.counts ?? null
    const isSaved = await saveRecord(db, tenant, loaded, decision.record, async (transaction) => {
      if (brought === null || counts === null) return
      await saveCounts(transaction, tenant, workspace, brought, counts)
      await endHold(transaction, { tenant, workspace, checkpoint: brought }, nowMs())
    })
    if (isSaved) {
      const before = new Map(loaded.record.handoffs.map((row) => [row.id, row.state]))
      if (onState !== undefined) {
        for (const row of decision.record.handoffs.filter((each) => before.get(each.id) !== each.state)) onState(row)
      }
      return { decision, now: { record: decision.record, version: loaded.version + 1 } }
    }
    if (tries === TRIES_MAX) {
      throw new AppError("busy", `workspace ${workspace} is being changed by others again and again`, {
        hint: "try again in a moment",
      })
    }
  }
}

/** Answers the record as it is afterwards. */
async function witness(
  parts: OwnershipParts,
  tenant: TenantId,
  workspace: WorkspaceId,
  id: HandoffId,
  loaded: Loaded,
): Promise<Loaded> {
  const row = loaded.record.handoffs.find((each) => each.id === id)
  const object = row === undefined ? null : ownerObject(loaded.record, row)
  if (object === null || row?.witnessed === true) return loaded
  const found = await writeOwnerObject(parts.store, tenant, workspace, object)
  const request = { request: "witness", id, found } as const
  const { decision, now } = await decideAndWrite(parts, tenant, workspace, request, null, loaded)
  if (decision.kind === "refused") throw refusalError(decision)
  return now
}

async function create(parts: OwnershipParts, tenant: TenantId, workspace: WorkspaceRow): Promise<void> {
  await insertRecord(parts.db, tenant, newRecord(workspace))
  const { generation, epoch, ownerHost: host, ownerIncarnation: incarnation } = workspace
  const object = { generation, epoch, handoff: null, host, incarnation, checkpoint: null }
  await writeOwnerObject(parts.store, tenant, workspace.id, object)
  await parts.db
    .updateTable("owner_history")
    .set({ witnessed: 1 })
    .where("tenant", "=", tenant)
    .where("workspace", "=", workspace.id)
    .where("generation", "=", generation)
    .where("epoch", "=", epoch)
    .execute()
}

function answered(decision: Decision): Answer {
  if (decision.kind === "refused") throw refusalError(decision)
  return decision.answer
}

function namedIn(request: Request): Named {
  if (request.request === "adopt" || request.request === "restore") return {}
  if (request.request === "commit") return { checkpoint: request.checkpoint.id }
  if (request.request === "copying" || request.request === "sealed") {
    return { handoff: request.id, checkpoint: request.checkpoint.id }
  }
  return { handoff: request.id }
}

export function unknownWorkspace(name: string): AppError {
  return new AppError("unknown_workspace", `there is no workspace ${name}`, { hint: "decamp workspaces lists them" })
}

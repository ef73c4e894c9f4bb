/** Carries out what the hand-off core decides: load, decide, write if nobody has written meanwhile; witness a flip before anybody hears of it. */
import { z } from "zod"
import { decide } from "../handoff/gateway.ts"
import { newRecord, ownerObject, type GatewayRecord, type OwnerObject } from "../handoff/record.ts"
import type { Answer, Decision, Request } from "../handoff/request.ts"
import { AppError } from "../protocol/errors.ts"
import type { HandoffRow, WorkspaceRow } from "../protocol/handoff.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  hostIdSchema,
  incarnationSchema,
  type HandoffId,
  type TenantId,
  type WorkspaceId,
} from "../protocol/ids.ts"
import type { BlobStore } from "../storage/blob-store.ts"
import { ownerKey } from "../storage/keys.ts"
import type { Inspected } from "./checkpoints.ts"
import { saveCounts } from "./history.ts"
import { refusalError } from "./refusals.ts"
import { loadRecord, type Named } from "./store/loading.ts"
import { findHandoff, insertRecord, saveRecord } from "./store/records.ts"
import type { GatewayDatabase } from "./store/schema.ts"
import { endHold } from "./uploads.ts"

export const ownerObjectSchema = z.object({
  generation: z.int(),
  epoch: z.int(),
  handoff: handoffIdSchema.nullable(),
  host: hostIdSchema,
  incarnation: incarnationSchema,
  checkpoint: checkpointIdSchema.nullable(),
})
const OWNER_OBJECT_MAX = 4096
/** Another one has written between the reading and the writing: what was read then is judged. Each time somebody gets on. */
const TRIES_MAX = 20

export interface Ownership {
  /** Null for an unknown workspace. */
  load(tenant: TenantId, workspace: WorkspaceId, named?: Named): Promise<GatewayRecord | null>
  find(tenant: TenantId, id: HandoffId): Promise<HandoffRow | null>
  /**
   * Judges one request and writes its effect. A flip is witnessed before this answers.
   * @param found what the store says of a checkpoint that the request brings; null: nothing was looked for
   * @throws {AppError} unknown_workspace; the refusal of the core
   */
  judge(tenant: TenantId, workspace: WorkspaceId, request: Request, found?: Inspected | null): Promise<Answer>
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
  /** Told of every hand-off that comes to another state here. */
  readonly onState?: (row: HandoffRow) => void
}

export function ownership(parts: OwnershipParts): Ownership {
  const { db, nowMs } = parts
  return {
    load: async (tenant, workspace, named) => (await loadRecord(db, tenant, workspace, named))?.record ?? null,
    find: async (tenant, id) => await findHandoff(db, tenant, id),
    async ask(tenant, workspace, request) {
      const loaded = await loadRecord(db, tenant, workspace, namedIn(request))
      if (loaded === null) throw unknownWorkspace(workspace)
      return decide(loaded.record, request, { nowMs: nowMs() })
    },
    async judge(tenant, workspace, request, found = null) {
      const decision = await decideAndWrite(parts, tenant, workspace, request, found)
      if (decision.kind === "refused") throw refusalError(decision, found?.problem ?? null)
      if (request.request !== "flip") return decision.answer
      await witness(parts, tenant, workspace, request.id)
      return await answered(decideAndWrite(parts, tenant, workspace, request))
    },
    witness: async (tenant, workspace, id) => await witness(parts, tenant, workspace, id),
    create: async (tenant, workspace) => await create(parts, tenant, workspace),
  }
}

async function decideAndWrite(
  { db, nowMs, onState }: OwnershipParts,
  tenant: TenantId,
  workspace: WorkspaceId,
  request: Request,
  found: Inspected | null = null,
): Promise<Decision> {
  for (let tries = 1; ; tries += 1) {
    const loaded = await loadRecord(db, tenant, workspace, namedIn(request))
    if (loaded === null) throw unknownWorkspace(workspace)
    const decision = decide(loaded.record, request, { nowMs: nowMs() })
    if (decision.kind !== "accepted") return decision
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
      return decision
    }
    if (tries === TRIES_MAX) {
      throw new AppError("busy", `workspace ${workspace} is being changed by others again and again`, {
        hint: "try again in a moment",
      })
    }
  }
}

async function witness(parts: OwnershipParts, tenant: TenantId, workspace: WorkspaceId, id: HandoffId): Promise<void> {
  const record = (await loadRecord(parts.db, tenant, workspace, { handoff: id }))?.record ?? null
  const row = record?.handoffs.find((each) => each.id === id)
  const object = record === null || row === undefined ? null : ownerObject(record, row)
  if (object === null || row?.witnessed === true) return
  const found = await writeOwnerObject(parts.store, tenant, workspace, object)
  const decision = await decideAndWrite(parts, tenant, workspace, { request: "witness", id, found })
  if (decision.kind === "refused") throw refusalError(decision)
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

/** Create-only. Answers what the store holds now under the name, by whomever it was written. */
export async function writeOwnerObject(
  store: BlobStore,
  tenant: TenantId,
  workspace: WorkspaceId,
  object: OwnerObject,
): Promise<OwnerObject> {
  const key = ownerKey(tenant, workspace, object.generation, object.epoch)
  const bytes = new TextEncoder().encode(JSON.stringify(object))
  try {
    const { isNew } = await store.put(key, new Blob([bytes]).stream(), bytes.byteLength)
    if (isNew) return object
  } catch (error) {
    // Another content is there; the reading below says which.
    if (!(error instanceof AppError) || error.code !== "name_taken") throw error
  }
  const found = await store.get(key, { start: 0, end: OWNER_OBJECT_MAX })
  try {
    return ownerObjectSchema.parse(JSON.parse((await found?.content.text()) ?? ""))
  } catch (error) {
    const which = `the owner record ${object.generation}-${object.epoch} of ${workspace} in the store`
    throw new AppError("gateway_behind", `${which} can't be read`, { cause: error })
  }
}

async function answered(decision: Promise<Decision>): Promise<Answer> {
  const result = await decision
  if (result.kind === "refused") throw refusalError(result)
  return result.answer
}

function namedIn(request: Request): Named {
  if (request.request === "adopt") return {}
  if (request.request === "commit") return { checkpoint: request.checkpoint.id }
  if (request.request === "copying" || request.request === "sealed") {
    return { handoff: request.id, checkpoint: request.checkpoint.id }
  }
  return { handoff: request.id }
}

export function unknownWorkspace(name: string): AppError {
  return new AppError("unknown_workspace", `there is no workspace ${name}`, { hint: "decamp workspaces lists them" })
}

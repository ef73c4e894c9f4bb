/** `/host/*`: what a host may ask with its token. What isn't its affair is answered as an unknown id. */
import type { z } from "zod"
import { isSettled, visibleRow, visibleWorkspace, type GatewayRecord } from "../../handoff/record.ts"
import type { HostIdentity, OfferedCheckpoint } from "../../handoff/request.ts"
import {
  blobPlanRequestSchema,
  blobUrlsRequestSchema,
  checkpointStepRequestSchema,
  commitRequestSchema,
  damagedRequestSchema,
  hostReportRequestSchema,
  lineageRequestSchema,
  plainStepRequestSchema,
  type blobPlanAnswerSchema,
  type HandoffAnswer,
  type HostWork,
} from "../../protocol/gateway-api.ts"
import type { HandoffRow, WorkspaceRow } from "../../protocol/handoff.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  workspaceIdSchema,
  type CheckpointId,
  type WorkspaceId,
} from "../../protocol/ids.ts"
import { AppError } from "../../protocol/errors.ts"
import { idOf, type Asked, type AskingHost, type Route } from "../app.ts"
import type { Inspected } from "../checkpoints.ts"
import { isAncestor } from "../history.ts"
import type { Added } from "../limits.ts"
import { notFound } from "../refusals.ts"
import type { Services } from "../services.ts"
import {
  handoffsOfHost,
  newestGeneration,
  openHandoffsOfHost,
  savePlace,
  workspacesEverOwned,
} from "../store/records.ts"
import type { Loaded } from "../store/loading.ts"
import { holdUpload } from "../uploads.ts"
import { visibleWorkspaces } from "../views.ts"
import { shown } from "./user.ts"

const PLAIN_STEPS = ["staged", "live", "done", "release", "undone"] as const

export function hostRoutes(services: Services): readonly Route<AskingHost>[] {
  return [...workRoutes(services), ...checkpointRoutes(services), ...stepRoutes(services)]
}

function workRoutes(services: Services): readonly Route<AskingHost>[] {
  return [
    { method: "GET", path: "/work", answer: async ({ who }) => await workOf(services, who) },
    {
      method: "GET",
      path: "/record/:workspace",
      async answer({ who, params }) {
        const workspace = idOf(workspaceIdSchema, params["workspace"])
        return await recordOf(services, who, workspace)
      },
    },
    {
      method: "POST",
      path: "/report",
      async answer({ who, json }) {
        const { workspace, directory, sessionCount } = await json(hostReportRequestSchema)
        await refuseStranger(services, who, workspace)
        const said = { directory: directory.slice(0, 4096), sessionCount }
        await savePlace(services.db, who.tenant, { workspace, host: who.host }, said)
      },
    },
  ]
}

/**
 * What is unfinished for a host, and the newest row of each workspace: a source that missed the word of a hand-off that is closed
 * here finds it there.
 */
async function workOf(services: Services, who: AskingHost): Promise<HostWork> {
  const { db } = services
  const rows = await openHandoffsOfHost(db, who.tenant, who.host)
  const owned = await workspacesEverOwned(db, who.tenant, who.host)
  const ids = [...new Set([...rows.map((row) => row.workspace), ...owned])]
  return await workWith(services, who, rows, await visibleWorkspaces(db, who.tenant, ids))
}

/** The same of one workspace. @throws {AppError} not_found for one that isn't this host's affair, as refuseStranger says it */
async function recordOf(services: Services, who: AskingHost, workspace: WorkspaceId): Promise<HostWork> {
  const { db, ownership } = services
  const rows = await handoffsOfHost(db, who.tenant, who.host, workspace)
  if (rows.length === 0 && !(await workspacesEverOwned(db, who.tenant, who.host, workspace)).has(workspace)) {
    throw notFound()
  }
  const record = await ownership.load(who.tenant, workspace)
  return await workWith(services, who, rows, record === null ? [] : [visibleWorkspace(record)])
}

async function workWith(
  { db, hosts, nowMs }: Services,
  who: AskingHost,
  rows: readonly HandoffRow[],
  workspaces: WorkspaceRow[],
): Promise<HostWork> {
  const newest = new Map(rows.map((row) => [row.workspace, row]))
  const items = rows.filter((row) => !isSettled(row) || newest.get(row.workspace) === row)
  const byId = new Map(workspaces.map((workspace) => [workspace.id, workspace]))
  const names = new Map((await hosts.everyone(who.tenant)).map((host) => [host.host, host.name]))
  return {
    generation: await newestGeneration(db, who.tenant),
    nowMs: nowMs(),
    workspaces,
    items: items.flatMap((row) => {
      const workspace = byId.get(row.workspace)
      const [sourceName, targetName] = [names.get(row.source) ?? row.source, names.get(row.target) ?? row.target]
      return workspace === undefined ? [] : [{ workspace, handoff: visibleRow(row), sourceName, targetName }]
    }),
  }
}

function checkpointRoutes(services: Services): readonly Route<AskingHost>[] {
  const { checkpoints, ownership } = services
  return [
    {
      method: "POST",
      path: "/checkpoints/commit",
      async answer({ who, json }) {
        const request = await json(commitRequestSchema)
        const loaded = await ownership.loadVersion(who.tenant, request.workspace, { checkpoint: request.checkpoint })
        if (!isOwnerIn(loaded?.record ?? null, who)) await refuseStranger(services, who, request.workspace)
        const given = { ...request, id: request.checkpoint }
        const { offered, found } = await offer(services, who, given, loaded?.record ?? null)
        const by = { host: who.host, incarnation: request.incarnation }
        const commit = { request: "commit", by, epoch: request.epoch, checkpoint: offered } as const
        const { workspace } = await ownership.judge(
          who.tenant,
          request.workspace,
          commit,
          found,
          unswept(found, loaded),
        )
        return { head: workspace.headCheckpoint, workspace }
      },
    },
    {
      method: "POST",
      path: "/checkpoints/:id/urls",
      async answer({ who, params, json }) {
        const { workspace, blobs } = await json(blobUrlsRequestSchema)
        const checkpoint = idOf(checkpointIdSchema, params["id"])
        if (!(await mayRead(services, who, workspace, checkpoint))) throw notFound()
        return await checkpoints.urls(who.tenant, workspace, checkpoint, blobs)
      },
    },
    {
      method: "POST",
      path: "/checkpoints/lineage",
      async answer({ who, json }) {
        const asked = await json(lineageRequestSchema)
        await refuseStranger(services, who, asked.workspace)
        return { isAncestor: await isAncestor(services, who.tenant, asked) }
      },
    },
    {
      method: "POST",
      path: "/blobs/plan",
      answer: async ({ who, json }) => await planBlobs(services, who, await json(blobPlanRequestSchema)),
    },
  ]
}

async function planBlobs(
  services: Services,
  who: AskingHost,
  request: z.infer<typeof blobPlanRequestSchema>,
): Promise<z.infer<typeof blobPlanAnswerSchema>> {
  const { ownership, checkpoints, limits, db, nowMs } = services
  const record = await ownership.load(who.tenant, request.workspace)
  if (!isOwnerIn(record, who)) await refuseStranger(services, who, request.workspace)
  const workspace = record === null ? null : visibleWorkspace(record)
  const isOwner = workspace?.ownerHost === who.host && workspace.ownerIncarnation === request.incarnation
  if (!isOwner || workspace.epoch !== request.epoch) {
    throw new AppError("stale_epoch", `${who.name} doesn't own the workspace under epoch ${request.epoch}`, {
      details: { ownerHost: workspace?.ownerHost, epoch: workspace?.epoch },
    })
  }
  const held = { tenant: who.tenant, workspace: request.workspace, checkpoint: request.checkpoint }
  const bytes = request.blobs.reduce((sum, { storedSize }) => sum + storedSize, request.manifestSize)
  await holdUpload(db, held, nowMs, bytes)
  const plan = await checkpoints.plan(who.tenant, request, workspace.headCheckpoint)
  await limits.store(who.tenant, request.checkpoint, addedBy(request, plan))
  return plan
}

/** What a plan will bring into the store. */
function addedBy(
  { blobs, manifestSize }: z.infer<typeof blobPlanRequestSchema>,
  { missing }: z.infer<typeof blobPlanAnswerSchema>,
): Added {
  const sizes = new Map(blobs.map(({ id, storedSize }) => [id, storedSize]))
  return {
    bytes: missing.reduce((sum, { id }) => sum + (sizes.get(id) ?? 0), manifestSize),
    objects: missing.length + 1,
  }
}

function stepRoutes(services: Services): readonly Route<AskingHost>[] {
  const { ownership } = services
  return [
    ...(["copying", "sealed"] as const).map((request) => ({
      method: "POST" as const,
      path: `/handoffs/:id/${request}`,
      async answer(asked: Asked<AskingHost>): Promise<HandoffAnswer> {
        const { who } = asked
        const body = await asked.json(checkpointStepRequestSchema)
        const { row, loaded } = await rowFor(services, asked, body.workspace, body.checkpoint)
        const kind = request === "sealed" ? "sealed" : "live"
        const given = { ...body, id: body.checkpoint, kind } as const
        const { offered, found } = await offer(services, who, given, loaded.record)
        const by = { host: who.host, incarnation: body.incarnation }
        const step = { request, id: row.id, by, epoch: body.epoch, checkpoint: offered }
        return shown(await ownership.judge(who.tenant, row.workspace, step, found, unswept(found, loaded)))
      },
    })),
    ...PLAIN_STEPS.map((request) => ({
      method: "POST" as const,
      path: `/handoffs/:id/${request}`,
      async answer(asked: Asked<AskingHost>): Promise<HandoffAnswer> {
        const { row, by, epoch, loaded } = await plainStep(services, asked)
        const step = { request, id: row.id, by, epoch }
        return shown(await ownership.judge(asked.who.tenant, row.workspace, step, null, loaded))
      },
    })),
    {
      method: "POST",
      path: "/handoffs/:id/damaged",
      async answer(asked) {
        const { workspace, blob } = await asked.json(damagedRequestSchema)
        const { row } = await rowFor(services, asked, workspace)
        if (row.target !== asked.who.host || row.checkpoint === null) throw notFound()
        return { isDropped: await services.checkpoints.dropDamaged(asked.who.tenant, workspace, row.checkpoint, blob) }
      },
    },
    {
      method: "POST",
      path: "/handoffs/:id/flip",
      async answer(asked) {
        const { row, by, epoch, loaded } = await plainStep(services, asked)
        const flip = { request: "flip", id: row.id, by, epoch } as const
        return shown(await ownership.judge(asked.who.tenant, row.workspace, flip, null, loaded))
      },
    },
  ]
}

async function plainStep(
  services: Services,
  asked: Asked<AskingHost>,
): Promise<RowFound & { by: HostIdentity; epoch: number }> {
  const body = await asked.json(plainStepRequestSchema)
  const found = await rowFor(services, asked, body.workspace)
  return { ...found, by: { host: asked.who.host, incarnation: body.incarnation }, epoch: body.epoch }
}

interface RowFound {
  readonly row: HandoffRow
  readonly loaded: Loaded
}

/** The row of the path, when the host is its source or target, with what it is judged by. @throws {AppError} not_found */
async function rowFor(
  { ownership }: Services,
  { who, params }: Asked<AskingHost>,
  workspace: WorkspaceId,
  checkpoint?: CheckpointId,
): Promise<RowFound> {
  const handoff = idOf(handoffIdSchema, params["id"])
  const named = checkpoint === undefined ? { handoff } : { handoff, checkpoint }
  const loaded = await ownership.loadVersion(who.tenant, workspace, named)
  const row = loaded?.record.handoffs.find((each) => each.id === handoff)
  if (loaded === null || row === undefined) throw notFound()
  if (row.source !== who.host && row.target !== who.host) throw notFound()
  return { row, loaded }
}

/** Whoever owns a workspace is no stranger to it. */
function isOwnerIn(record: GatewayRecord | null, who: AskingHost): boolean {
  return record !== null && visibleWorkspace(record).ownerHost === who.host
}

/** A host knows of a workspace that it owns, has owned, or is or was handed. @throws {AppError} not_found for every other one */
async function refuseStranger({ db }: Services, who: AskingHost, workspace: WorkspaceId): Promise<void> {
  if ((await workspacesEverOwned(db, who.tenant, who.host, workspace)).has(workspace)) return
  if ((await handoffsOfHost(db, who.tenant, who.host, workspace)).length === 0) throw notFound()
}

/** The owner may read every checkpoint, the target of a hand-off that isn't over the one that it receives. */
async function mayRead(
  { db, ownership }: Services,
  who: AskingHost,
  workspace: WorkspaceId,
  checkpoint: CheckpointId,
): Promise<boolean> {
  const record = await ownership.load(who.tenant, workspace, { checkpoint })
  if (record?.checkpoints.get(checkpoint)?.committed !== true) return false
  if (visibleWorkspace(record).ownerHost === who.host) return true
  const receives = (row: HandoffRow): boolean => {
    if (row.checkpoint !== checkpoint || row.target !== who.host) return false
    // The target restores its code from this checkpoint's record while it undoes.
    return row.state !== "done" && row.state !== "superseded" && !(row.state === "abandoned" && row.targetUndone)
  }
  // Of a record the unsettled ones are loaded.
  if (record.handoffs.some(receives)) return true
  return (await handoffsOfHost(db, who.tenant, who.host, workspace)).some(receives)
}

/** A checkpoint that was committed before is held by nobody: what is left of it is read again. */
function unswept(found: Inspected | null, loaded: Loaded | null): Loaded | null {
  return found === null ? null : loaded
}

/** What the store says of an offered checkpoint. One that is committed already was verified then. */
async function offer(
  { checkpoints, db, nowMs }: Services,
  who: AskingHost,
  given: Omit<OfferedCheckpoint, "blobsVerified"> & Pick<HostIdentity, "incarnation"> & { workspace: WorkspaceId },
  record: GatewayRecord | null,
): Promise<{ offered: OfferedCheckpoint; found: Inspected | null }> {
  const { id, epoch, parent, kind, workspace, incarnation } = given
  const isKnown = record?.checkpoints.get(id)?.committed === true
  const offered = { id, epoch, parent, kind }
  const creator = { host: who.host, incarnation }
  if (!isKnown) await holdUpload(db, { tenant: who.tenant, workspace, checkpoint: id }, nowMs)
  const found = isKnown ? null : await checkpoints.inspect(who.tenant, workspace, offered, creator)
  return { offered: { ...offered, blobsVerified: found === null || found.problem === null }, found }
}

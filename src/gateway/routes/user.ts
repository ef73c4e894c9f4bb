/** `/user/*`: what the user may ask. One table; a test walks it with a host's token. */
import type { z } from "zod"
import { AppError } from "../../protocol/errors.ts"
import {
  abandonRequestSchema,
  blobUrlsRequestSchema,
  createWorkspaceRequestSchema,
  findCheckpointsRequestSchema,
  lineageRequestSchema,
  openRequestSchema,
  reclaimRequestSchema,
  type HandoffAnswer,
  type WorkspaceView,
} from "../../protocol/gateway-api.ts"
import {
  checkpointIdSchema,
  handoffIdSchema,
  nameSchema,
  type HandoffId,
  type HostId,
  type TenantId,
} from "../../protocol/ids.ts"
import { PROTOCOL_VERSION } from "../../protocol/version.ts"
import { FIRST_GENERATION, visibleRow, visibleWorkspace } from "../../handoff/record.ts"
import type { Answer, HostIdentity } from "../../handoff/request.ts"
import { idOf, type Asked, type Route, type User } from "../app.ts"
import { freeName } from "../known-hosts.ts"
import { checkpointList, findCheckpoints, isAncestor } from "../history.ts"
import { openHandoff } from "../opening.ts"
import { unknownWorkspace } from "../ownership.ts"
import { accountRoutes } from "./account.ts"
import { garbageRoutes } from "./garbage.ts"
import { goingOnRoutes } from "./going-on.ts"
import { userHostRoutes } from "./hosts.ts"
import { notFound } from "../refusals.ts"
import type { Services } from "../services.ts"
import { workspaceViews } from "../views.ts"

export function userRoutes(services: Services): readonly Route<User>[] {
  return [
    ...accountRoutes(services),
    ...garbageRoutes(services),
    ...userHostRoutes(services),
    ...workspaceRoutes(services),
    ...goingOnRoutes(services),
    ...handoffRoutes(services),
  ]
}

function workspaceRoutes(services: Services): readonly Route<User>[] {
  const { checkpoints, ownership } = services
  return [
    {
      method: "GET",
      path: "/workspaces",
      answer: async ({ who }) => ({ workspaces: await viewsOf(services, who.tenant) }),
    },
    { method: "POST", path: "/workspaces", answer: async (asked) => await createWorkspace(services, asked) },
    {
      method: "GET",
      path: "/workspaces/:name",
      answer: async ({ who, params }) => await viewOf(services, who.tenant, idOf(nameSchema, params["name"])),
    },
    {
      method: "GET",
      path: "/workspaces/:name/checkpoints",
      async answer({ who, params }) {
        const { workspace } = await viewOf(services, who.tenant, idOf(nameSchema, params["name"]))
        return await checkpointList(services.db, who.tenant, workspace.id, await services.hosts.everyone(who.tenant))
      },
    },
    {
      method: "POST",
      path: "/checkpoints/find",
      async answer({ who, json }) {
        const { workspace, prefix } = await json(findCheckpointsRequestSchema)
        const hosts = await services.hosts.everyone(who.tenant)
        return { checkpoints: await findCheckpoints(services.db, who.tenant, workspace, prefix, hosts) }
      },
    },
    {
      method: "POST",
      path: "/checkpoints/lineage",
      async answer({ who, json }) {
        return { isAncestor: await isAncestor(services, who.tenant, await json(lineageRequestSchema)) }
      },
    },
    {
      method: "POST",
      path: "/checkpoints/:id/urls",
      async answer({ who, params, json }) {
        const { workspace, blobs } = await json(blobUrlsRequestSchema)
        const checkpoint = idOf(checkpointIdSchema, params["id"])
        const record = await ownership.load(who.tenant, workspace, { checkpoint })
        if (record?.checkpoints.get(checkpoint)?.committed !== true) throw notFound()
        return await checkpoints.urls(who.tenant, workspace, checkpoint, blobs)
      },
    },
  ]
}

function handoffRoutes(services: Services): readonly Route<User>[] {
  const { driver, ownership } = services
  const id = ({ params }: Asked<User>): HandoffId => idOf(handoffIdSchema, params["id"])
  return [
    {
      method: "POST",
      path: "/handoffs",
      answer: async ({ who, json, signal }) =>
        await openHandoff(services, who.tenant, await json(openRequestSchema), signal),
    },
    {
      method: "GET",
      path: "/handoffs/:id",
      answer: async (asked) => await handoffAnswer(services, asked.who.tenant, id(asked)),
    },
    {
      method: "POST",
      path: "/handoffs/:id/drive",
      async stream(asked, listener, signal) {
        await driver.drive(asked.who.tenant, id(asked), listener, signal)
        return await handoffAnswer(services, asked.who.tenant, id(asked))
      },
    },
    {
      method: "POST",
      path: "/handoffs/:id/abandon",
      async answer(asked) {
        const { workspace, closedBy } = await asked.json(abandonRequestSchema)
        const row = await ownership.find(asked.who.tenant, id(asked))
        const where = row?.workspace ?? workspace
        if (where === undefined || (row !== null && workspace !== undefined && workspace !== where)) throw notFound()
        const request = { request: "abandon", id: id(asked), closedBy: closedBy ?? "user" } as const
        return shown(await ownership.judge(asked.who.tenant, where, request))
      },
    },
    { method: "POST", path: "/handoffs/:id/reclaim", answer: async (asked) => await reclaim(services, asked) },
  ]
}

async function viewsOf(services: Services, tenant: TenantId, name?: string): Promise<WorkspaceView[]> {
  return await workspaceViews(services.db, tenant, await services.hosts.everyone(tenant), name)
}

async function viewOf(services: Services, tenant: TenantId, name: string): Promise<WorkspaceView> {
  const view = (await viewsOf(services, tenant, name))[0]
  if (view === undefined) throw unknownWorkspace(name)
  return view
}

async function createWorkspace(services: Services, { who, json }: Asked<User>): Promise<WorkspaceView> {
  const request = await json(createWorkspaceRequestSchema)
  const { tenant } = who
  const known = (await viewsOf(services, tenant)).find((view) => view.workspace.id === request.id)
  // The answer to the first request was lost.
  if (known !== undefined) return known
  const host = await services.hosts.find(tenant, request.host)
  if (host === null || host.isRemoved || host.incarnation !== request.incarnation) throw unknownHost(request.host)
  for (;;) {
    const taken = new Set((await viewsOf(services, tenant)).map((view) => view.workspace.name))
    const name = freeName(request.name, taken)
    try {
      await services.ownership.create(tenant, {
        id: request.id,
        name,
        ownerHost: request.host,
        ownerIncarnation: request.incarnation,
        epoch: 1,
        headCheckpoint: null,
        handoffSeq: 0,
        generation: FIRST_GENERATION,
        ownerSinceMs: services.nowMs(),
        behind: null,
      })
      return await viewOf(services, tenant, request.id)
    } catch (error) {
      const after = await viewsOf(services, tenant)
      const isThere = after.find((view) => view.workspace.id === request.id)
      if (isThere !== undefined) return isThere
      // Another first push took the name between the look and the write.
      if (!after.some((view) => view.workspace.name === name)) throw error
    }
  }
}

async function reclaim(services: Services, asked: Asked<User>): Promise<HandoffAnswer> {
  const { tenant } = asked.who
  const request = await asked.json(reclaimRequestSchema)
  const id = idOf(handoffIdSchema, asked.params["id"])
  const row = await services.ownership.find(tenant, id)
  if (row !== null && row.workspace !== request.workspace) throw notFound()
  const record = await services.ownership.load(tenant, request.workspace)
  if (record === null) throw unknownWorkspace(request.workspace)
  const owner = { host: record.workspace.ownerHost, incarnation: record.workspace.ownerIncarnation }
  const answer = await services.ownership.judge(tenant, request.workspace, {
    request: "reclaim",
    id,
    by: await identityOf(services, tenant, request.by),
    epoch: request.epoch,
    proof: request.proof,
    isConfirmed: await isConfirmed(services, tenant, owner, request.proof),
    openedBy: request.openedBy,
    lost: request.lost,
    protocol: PROTOCOL_VERSION,
  })
  return shown(answer)
}

async function isConfirmed(
  { hosts }: Services,
  tenant: TenantId,
  owner: HostIdentity,
  proof: z.infer<typeof reclaimRequestSchema>["proof"],
): Promise<boolean> {
  switch (proof) {
    case "fenced":
      return false // judged from the record alone
    case "attested":
      return true // the user's own word, sent over the user's own socket
    case "destroyed":
      return await hosts.isDestroyed(tenant, owner)
  }
}

async function identityOf({ hosts }: Services, tenant: TenantId, id: HostId): Promise<HostIdentity> {
  const host = await hosts.find(tenant, id)
  if (host === null || host.isRemoved) throw unknownHost(id)
  return { host: host.host, incarnation: host.incarnation }
}

function unknownHost(id: string): AppError {
  return new AppError("unknown_host", `host ${id} isn't known here`, { hint: "decamp hosts lists them" })
}

async function handoffAnswer({ ownership }: Services, tenant: TenantId, id: HandoffId): Promise<HandoffAnswer> {
  const found = await ownership.find(tenant, id)
  const record = found === null ? null : await ownership.load(tenant, found.workspace, { handoff: id })
  const row = record?.handoffs.find((each) => each.id === id)
  if (record === null || row === undefined) throw notFound()
  return { handoff: visibleRow(row), workspace: visibleWorkspace(record) }
}

/** The core's answer about one hand-off, as it crosses the wire. */
export function shown(answer: Answer): HandoffAnswer {
  if (answer.handoff === null) throw new AppError("internal", "an answer without its hand-off")
  return { handoff: answer.handoff, workspace: answer.workspace }
}

/** Opening a hand-off: both ends that can be called are asked first; nothing is written before both agree. */
import type { z } from "zod"
import type { OpenRequest } from "../handoff/request.ts"
import { AppError, toAppError } from "../protocol/errors.ts"
import type { openAnswerSchema, openRequestSchema, PreflightAnswer, PreflightRequest } from "../protocol/gateway-api.ts"
import type { HostId, TenantId, WorkspaceId } from "../protocol/ids.ts"
import { PROTOCOL_VERSION } from "../protocol/version.ts"
import type { KnownHost } from "./known-hosts.ts"
import { notFound, refusalError } from "./refusals.ts"
import type { Services } from "./services.ts"
import { unsettledHandoffs } from "./store/records.ts"

type Open = z.infer<typeof openRequestSchema>
type Opened = z.infer<typeof openAnswerSchema>

/** @throws {AppError} handoff_open, not_owner, stale_epoch, unknown_host, unreachable, and what a preflight refuses with */
export async function openHandoff(
  services: Services,
  tenant: TenantId,
  request: Open,
  signal: AbortSignal,
): Promise<Opened> {
  const { ownership } = services
  const row = await ownership.find(tenant, request.id)
  if (row !== null && row.workspace !== request.workspace) throw notFound()
  const [source, target] = [
    await hostOf(services, tenant, request.source),
    await hostOf(services, tenant, request.target),
  ]
  const asked: OpenRequest = {
    request: "open",
    id: request.id,
    kind: request.kind,
    source: { host: source.host, incarnation: source.incarnation },
    target: { host: target.host, incarnation: target.incarnation },
    epoch: request.epoch,
    openedBy: request.openedBy,
    protocol: PROTOCOL_VERSION,
  }
  // What is refused anyway is refused before anybody waits for turns to end; a repeat gets its row.
  const foreseen = await ownership.ask(tenant, request.workspace, asked)
  if (foreseen.kind === "refused") {
    if (foreseen.code === "gateway_behind") await sayWhose(services, source)
    throw await named(services, tenant, refusalError(foreseen))
  }
  if (foreseen.kind === "repeat" && foreseen.answer.handoff !== null) {
    const { handoff, workspace } = foreseen.answer
    return { handoff, workspace, notices: [], sourcePreflight: null, targetPreflight: null }
  }
  await services.limits.open(tenant)
  await tellUndone(services, tenant, request.workspace)
  const { preflight } = request
  const first = await preflightOf(services, source, { ...preflight, arriving: null }, signal)
  const second = await preflightOf(services, target, { ...preflight, leaving: null }, signal)
  try {
    const answer = await ownership.judge(tenant, request.workspace, {
      ...asked,
      source: first?.host ?? asked.source,
      target: second?.host ?? asked.target,
    })
    if (answer.handoff === null) throw new AppError("internal", "an answer without its hand-off")
    return {
      handoff: answer.handoff,
      workspace: answer.workspace,
      notices: [...(first?.answer?.notices ?? []), ...(second?.answer?.notices ?? [])],
      sourcePreflight: first?.answer ?? null,
      targetPreflight: second?.answer ?? null,
    }
  } catch (error) {
    throw await named(services, tenant, toAppError(error))
  }
}

async function hostOf({ hosts }: Services, tenant: TenantId, id: HostId): Promise<KnownHost> {
  const host = await hosts.find(tenant, id)
  if (host !== null && !host.isRemoved) return host
  throw new AppError("unknown_host", `host ${id} isn't known here`, { hint: "decamp hosts lists them" })
}

/** A host that was given to another gateway says to which, and that is what a person must know. @throws {AppError} other_gateway */
async function sayWhose({ hosts }: Services, owner: KnownHost): Promise<void> {
  if (owner.root === null) return
  await hosts.reach(owner).catch((error: unknown) => {
    if (toAppError(error).code === "other_gateway") throw error
  })
}

/**
 * What an undone hand-off has left to be told is told first: a target that has not heard of it would take its own half-written copy for
 * work that nobody has seen. A host that is away is told by its preflight that it is.
 */
async function tellUndone({ db, driver }: Services, tenant: TenantId, workspace: WorkspaceId): Promise<void> {
  const rows = (await unsettledHandoffs(db, tenant)).map(({ row }) => row)
  for (const row of rows.filter((each) => each.workspace === workspace && each.state === "abandoned")) {
    await driver.drive(tenant, row.id, () => {}, new AbortController().signal).catch(() => {})
  }
}

interface Asked {
  readonly host: { readonly host: HostId; readonly incarnation: KnownHost["incarnation"] }
  /** Null when there was nothing to ask. */
  readonly answer: PreflightAnswer | null
}

/** Null for a laptop: it checks itself before it asks. A host that is called is asked who it is in any case. */
async function preflightOf(
  { hosts }: Services,
  host: KnownHost,
  request: PreflightRequest,
  signal: AbortSignal,
): Promise<Asked | null> {
  if (host.root === null) return null
  const { client, hello } = await hosts.reach(host)
  const isNothing = request.arriving === null && request.leaving === null
  const answer = isNothing ? null : await client.preflight(request, signal)
  return { host: { host: hello.host, incarnation: hello.incarnation }, answer }
}

/** The core knows hosts by id; a person knows them by name. */
async function named({ hosts }: Services, tenant: TenantId, error: AppError): Promise<AppError> {
  const id = error.details?.["ownerHost"]
  if (typeof id !== "string") return error
  const owner = (await hosts.everyone(tenant)).find((host) => host.host === id)
  if (owner === undefined) return error
  const details = { ...error.details, ownerName: owner.name }
  return new AppError(error.code, error.message.replaceAll(id, owner.name), { hint: error.hint, cause: error, details })
}

/** The gateway as the user and as a host see it. Shapes: protocol/gateway-api.ts. */
import { blobFetcher, type BlobFetcher } from "./blob-fetcher.ts"
import { planInPieces, urlsInPieces } from "./in-pieces.ts"
import { z } from "zod"
import {
  type abandonRequestSchema,
  blobPlanAnswerSchema,
  type blobPlanRequestSchema,
  blobUrlsAnswerSchema,
  checkpointListSchema,
  lineageAnswerSchema,
  type blobUrlsRequestSchema,
  type checkpointStepRequestSchema,
  commitAnswerSchema,
  type commitRequestSchema,
  type createWorkspaceRequestSchema,
  type findCheckpointsRequestSchema,
  type lineageRequestSchema,
  damagedAnswerSchema,
  type damagedRequestSchema,
  gatewayHelloSchema,
  handoffAnswerSchema,
  type hostReportRequestSchema,
  hostWorkSchema,
  openAnswerSchema,
  type openRequestSchema,
  type plainStepRequestSchema,
  preflightAnswerSchema,
  type preflightRequestSchema,
  type reclaimRequestSchema,
  workspaceViewSchema,
  type CheckpointList,
  type CheckpointView,
  type HandoffAnswer,
  type HostWork,
  type WorkspaceView,
} from "../protocol/gateway-api.ts"
import type { CheckpointId, HandoffId, WorkspaceId } from "../protocol/ids.ts"
import { goingOnApi, type GoingOnApi } from "./going-on-client.ts"
import { hostsApi, type HostsApi } from "./hosts-client.ts"
import { callJson, postStream, type Fetcher, type StepListener } from "./http.ts"

/** What a user may ask of the gateway. Throws the {@link AppError} that the gateway answers, or `unreachable`. */
export interface UserApi extends GoingOnApi, HostsApi {
  readonly fetcher: Fetcher
  hello(): Promise<z.infer<typeof gatewayHelloSchema>>
  /** Asks a host that can be called for its preflight, outside of any hand-off (`--dry-run`). */
  preflight(
    host: string,
    request: z.input<typeof preflightRequestSchema>,
    signal?: AbortSignal,
  ): Promise<z.infer<typeof preflightAnswerSchema>>
  workspaces(): Promise<WorkspaceView[]>
  createWorkspace(request: z.input<typeof createWorkspaceRequestSchema>): Promise<WorkspaceView>
  /** By id or name. @throws {AppError} unknown_workspace */
  workspace(idOrName: string): Promise<WorkspaceView>
  /** Newest first, with a cap. @throws {AppError} unknown_workspace */
  checkpoints(idOrName: string): Promise<CheckpointList>
  /** Checkpoints of a workspace whose id begins so; as many as are told at most. */
  findCheckpoints(request: z.input<typeof findCheckpointsRequestSchema>): Promise<CheckpointView[]>
  /** Whether one checkpoint is another, or one of its ancestors. */
  isAncestor(request: z.input<typeof lineageRequestSchema>): Promise<boolean>
  /** Waits for turns to end as long as `preflight.leaving.waitMs` says. */
  open(request: z.input<typeof openRequestSchema>, signal?: AbortSignal): Promise<z.infer<typeof openAnswerSchema>>
  handoff(id: HandoffId): Promise<HandoffAnswer>
  /**
   * Makes the gateway say every word it can to hosts that can be called, until the row waits for somebody else or is closed. Step
   * events of the hosts, and a `state` event for each state, go to the listener. Aborting ends it after the word being said.
   */
  drive(id: HandoffId, listener: StepListener, signal?: AbortSignal): Promise<HandoffAnswer>
  /** @throws {AppError} already_owned after the flip */
  abandon(id: HandoffId, request?: z.input<typeof abandonRequestSchema>): Promise<HandoffAnswer>
  reclaim(id: HandoffId, request: z.input<typeof reclaimRequestSchema>): Promise<HandoffAnswer>
  checkpointUrls(
    checkpoint: CheckpointId,
    request: z.input<typeof blobUrlsRequestSchema>,
  ): Promise<z.infer<typeof blobUrlsAnswerSchema>>
}

type CheckpointStep = z.input<typeof checkpointStepRequestSchema>
type PlainStep = z.input<typeof plainStepRequestSchema>
export type PlainStepName = "staged" | "flip" | "live" | "done" | "release" | "undone"

/** What a host may ask with its token. An id that isn't its affair is answered as an unknown one. */
export interface HostApi {
  /** Requests to the addresses of blobs. */
  readonly blobs: BlobFetcher
  /** Everything unfinished in which this host is source or target. */
  work(): Promise<HostWork>
  /** The same for one workspace, closed hand-offs included when the source hasn't been told. */
  record(workspace: WorkspaceId): Promise<HostWork>
  commit(request: z.input<typeof commitRequestSchema>): Promise<z.infer<typeof commitAnswerSchema>>
  planBlobs(request: z.input<typeof blobPlanRequestSchema>): Promise<z.infer<typeof blobPlanAnswerSchema>>
  checkpointUrls(
    checkpoint: CheckpointId,
    request: z.input<typeof blobUrlsRequestSchema>,
  ): Promise<z.infer<typeof blobUrlsAnswerSchema>>
  /**
   * Whether one checkpoint of a workspace is another, or one of its ancestors; `descendant` null: the newest one.
   * @throws {AppError} not_found when this host never owned the workspace and takes part in no hand-off of it
   */
  isAncestor(request: z.input<typeof lineageRequestSchema>): Promise<boolean>
  /** copying, sealed: by the source. */
  checkpointStep(id: HandoffId, name: "copying" | "sealed", request: CheckpointStep): Promise<HandoffAnswer>
  /**
   * staged, live, undone by the target; done, release by the source. `flip` by a laptop that is the target (the gateway does it for
   * the others): the owner object is written before it answers.
   */
  plainStep(id: HandoffId, name: PlainStepName, request: PlainStep): Promise<HandoffAnswer>
  /** By the target: a blob is damaged in the store. True: it was, and is gone, so that the source sends it again. */
  reportDamaged(id: HandoffId, request: z.input<typeof damagedRequestSchema>): Promise<boolean>
  report(request: z.input<typeof hostReportRequestSchema>): Promise<void>
}

const nothingSchema = z.object({})
const checkpointsFoundSchema = checkpointListSchema.pick({ checkpoints: true })
const workspaceListSchema = z.object({ workspaces: z.array(workspaceViewSchema) })

/** A local host is set up and started, or a preflight waits for turns: longer than an ordinary request. */
const SLOW_MS = 120_000
const DAY_MS = 24 * 3_600_000

export function userApi(fetcher: Fetcher): UserApi {
  const get = async <T>(path: string, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "GET", path, answer })
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>, timeoutMs?: number): Promise<T> =>
    await callJson(fetcher, {
      method: "POST",
      path,
      body,
      answer,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    })
  const waiting = async <T>(path: string, body: unknown, answer: z.ZodType<T>, signal?: AbortSignal): Promise<T> =>
    await callJson(fetcher, {
      method: "POST",
      path,
      body,
      answer,
      timeoutMs: DAY_MS,
      ...(signal === undefined ? {} : { signal }),
    })
  return {
    fetcher,
    hello: async () => await get("/user/hello", gatewayHelloSchema),
    preflight: async (host, request, signal) =>
      await waiting(`/user/hosts/${encodeURIComponent(host)}/preflight`, request, preflightAnswerSchema, signal),
    workspaces: async () => (await get("/user/workspaces", workspaceListSchema)).workspaces,
    createWorkspace: async (request) => await post("/user/workspaces", request, workspaceViewSchema),
    workspace: async (idOrName) => await get(`/user/workspaces/${encodeURIComponent(idOrName)}`, workspaceViewSchema),
    checkpoints: async (idOrName) =>
      await get(`/user/workspaces/${encodeURIComponent(idOrName)}/checkpoints`, checkpointListSchema),
    findCheckpoints: async (request) =>
      (await post("/user/checkpoints/find", request, checkpointsFoundSchema)).checkpoints,
    isAncestor: async (request) => (await post("/user/checkpoints/lineage", request, lineageAnswerSchema)).isAncestor,
    open: async (request, signal) => await waiting("/user/handoffs", request, openAnswerSchema, signal),
    handoff: async (id) => await get(`/user/handoffs/${id}`, handoffAnswerSchema),
    drive: async (id, listener, signal) =>
      await postStream(fetcher, `/user/handoffs/${id}/drive`, {}, handoffAnswerSchema, listener, signal),
    abandon: async (id, request = {}) => await post(`/user/handoffs/${id}/abandon`, request, handoffAnswerSchema),
    reclaim: async (id, request) => await post(`/user/handoffs/${id}/reclaim`, request, handoffAnswerSchema, SLOW_MS),
    checkpointUrls: async (checkpoint, request) =>
      await urlsInPieces(
        request,
        async (piece) => await post(`/user/checkpoints/${checkpoint}/urls`, piece, blobUrlsAnswerSchema),
      ),
    ...goingOnApi(fetcher),
    ...hostsApi(fetcher),
  }
}

/** @param storeUrl what absolute addresses of blobs begin with, as this host knows it; null: all are paths of the gateway */
export function hostApi(fetcher: Fetcher, storeUrl: string | null = null): HostApi {
  const get = async <T>(path: string, answer: z.ZodType<T>): Promise<T> =>
    await callJson(fetcher, { method: "GET", path, answer })
  const post = async <T>(path: string, body: unknown, answer: z.ZodType<T>): Promise<T> =>
    // Verifying a checkpoint lists the store and witnessing writes to it.
    await callJson(fetcher, { method: "POST", path, body, answer, timeoutMs: SLOW_MS })
  const stepTo = async (id: HandoffId, name: string, request: unknown): Promise<HandoffAnswer> =>
    await post(`/host/handoffs/${id}/${name}`, request, handoffAnswerSchema)
  return {
    blobs: blobFetcher(fetcher, storeUrl),
    work: async () => await get("/host/work", hostWorkSchema),
    record: async (workspace) => await get(`/host/record/${workspace}`, hostWorkSchema),
    commit: async (request) => await post("/host/checkpoints/commit", request, commitAnswerSchema),
    planBlobs: async (request) =>
      await planInPieces(request, async (piece) => await post("/host/blobs/plan", piece, blobPlanAnswerSchema)),
    checkpointUrls: async (checkpoint, request) =>
      await urlsInPieces(
        request,
        async (piece) => await post(`/host/checkpoints/${checkpoint}/urls`, piece, blobUrlsAnswerSchema),
      ),
    isAncestor: async (request) => (await post("/host/checkpoints/lineage", request, lineageAnswerSchema)).isAncestor,
    checkpointStep: stepTo,
    plainStep: stepTo,
    reportDamaged: async (id, request) =>
      (await post(`/host/handoffs/${id}/damaged`, request, damagedAnswerSchema)).isDropped,
    async report(request) {
      await post("/host/report", request, nothingSchema)
    },
  }
}

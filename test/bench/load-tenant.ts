/** One user of a gateway under load: two laptops, some workspaces. Every request is made by the clients that daemons use, every content is checked. */
import { blobFetcher, type BlobFetcher } from "../../src/client/blob-fetcher.ts"
import { downloadBlobs, downloadText, uploadBlobs } from "../../src/client/blob-transfer.ts"
import { hostApi, userApi, type HostApi, type UserApi } from "../../src/client/gateway-client.ts"
import type { Fetcher } from "../../src/client/http.ts"
import type { BlobRef } from "../../src/protocol/blob.ts"
import {
  newCheckpointId,
  newHandoffId,
  newHostId,
  newIncarnation,
  newWorkspaceId,
  oidSchema,
  type CheckpointId,
  type HostId,
  type Incarnation,
  type WorkspaceId,
} from "../../src/protocol/ids.ts"
import { MANIFEST_MAX_BYTES, manifestSchema, type Manifest } from "../../src/protocol/manifest.ts"
import { MANIFEST_SCHEMA } from "../../src/protocol/version.ts"
import type { Spool } from "../../src/storage/spool.ts"
import type { Clock } from "./load-figures.ts"

export interface Door {
  readonly user: Fetcher
  readonly host: (token: string) => Fetcher
  /** Where absolute addresses of contents lie; null: at the gateway. */
  readonly storeUrl: string | null
}

interface LoadHost {
  readonly host: HostId
  readonly incarnation: Incarnation
  readonly name: string
  readonly api: HostApi
  readonly blobs: BlobFetcher
}

/** What the gateway must say in the end. */
interface LoadWorkspace {
  readonly id: WorkspaceId
  owner: LoadHost
  epoch: number
  head: CheckpointId | null
  /** What its newest checkpoint consists of. */
  blobs: readonly BlobRef[]
  /** Until when nothing is known for sure: a request of its is under way. */
  isMoving: boolean
}

export interface Tenant {
  readonly user: UserApi
  readonly hosts: readonly [LoadHost, LoadHost]
  readonly workspaces: readonly LoadWorkspace[]
}

export interface TenantParts {
  readonly door: Door
  readonly clock: Clock
  readonly name: string
  readonly workspaces: number
}

/** Registers the laptops and makes the workspaces; half of them begin on either. */
export async function makeTenant({ door, clock, name, workspaces }: TenantParts): Promise<Tenant> {
  const user = userApi(measured(door.user, clock, "user"))
  const register = async (which: string): Promise<LoadHost> => {
    const identity = { host: newHostId(), incarnation: newIncarnation() }
    const answer = await user.registerHost({ ...identity, name: `${name}-${which}` })
    const fetcher = measured(door.host(answer.token), clock, "host")
    const blobs = blobFetcher(fetcher, door.storeUrl)
    return { ...identity, name: answer.name, api: hostApi(fetcher), blobs: measuredBlobs(blobs, clock) }
  }
  const hosts = [await register("a"), await register("b")] as const
  const made: LoadWorkspace[] = []
  for (let n = 0; n < workspaces; n++) {
    const id = newWorkspaceId()
    const owner = hosts[n % 2 === 0 ? 0 : 1]
    await user.createWorkspace({ id, name: `${name}-${n}`, host: owner.host, incarnation: owner.incarnation })
    made.push({ id, owner, epoch: 1, head: null, blobs: [], isMoving: false })
  }
  return { user, hosts, workspaces: made }
}

/** Requests by route, ids taken out; the time is that until the answer begins. */
function measured(fetcher: Fetcher, clock: Clock, who: string): Fetcher {
  return async (path, init = {}) => {
    // Contents that the gateway itself serves are counted by measuredBlobs.
    if (path.startsWith("/blobs/")) return await fetcher(path, init)
    const route = (path.split("?")[0] ?? "")
      .replace(/\/user\/workspaces\/[^/]+/, "/user/workspaces/:name")
      .replaceAll(/\b(?:ws|cp|ho|h)_[0-9a-f]{12,}/g, ":id")
    return await timedAnswer(clock, `${init.method ?? "GET"} ${route}`, async () => await fetcher(path, init), who)
  }
}

function measuredBlobs(blobs: BlobFetcher, clock: Clock): BlobFetcher {
  return async (url, init = {}) =>
    await timedAnswer(clock, `${init.method ?? "GET"} content`, async () => await blobs(url, init), "store")
}

async function timedAnswer(clock: Clock, name: string, ask: () => Promise<Response>, who: string): Promise<Response> {
  const startedAt = performance.now()
  try {
    const response = await ask()
    clock.record(name, performance.now() - startedAt, !response.ok)
    return response
  } catch (error) {
    clock.record(name, performance.now() - startedAt, true)
    clock.fail(`${who} ${name}: ${String(error)}`)
    throw error
  }
}

export interface Worker {
  readonly tenant: Tenant
  readonly clock: Clock
  readonly content: (bytes: number) => Uint8Array
  /** 0 ≤ x < 1. */
  readonly random: () => number
  /** Of whoever sends, and of whoever receives. */
  readonly spools: { readonly out: Spool; readonly in: Spool }
}

/** `decamp push`: what is new goes into the store, and a live checkpoint becomes the head. */
export async function push(worker: Worker, workspace: LoadWorkspace): Promise<void> {
  const startedAt = performance.now()
  await worker.tenant.user.workspace(workspace.id)
  const { owner, epoch, head } = workspace
  const manifest = await send(worker, workspace, "live")
  await owner.api.commit({
    ...as(owner, workspace),
    checkpoint: manifest.checkpoint,
    parent: head,
    kind: "live",
    epoch,
  })
  workspace.head = manifest.checkpoint
  workspace.blobs = manifest.blobs
  await report(owner, workspace)
  worker.clock.record("decamp push, whole", performance.now() - startedAt)
}

/** `decamp push --migrate` to the other laptop, and what that one does when it hears of it. */
export async function handOver(worker: Worker, workspace: LoadWorkspace): Promise<void> {
  const startedAt = performance.now()
  const { user, hosts } = worker.tenant
  const { owner: source, epoch, head: parent } = workspace
  const target = source === hosts[0] ? hosts[1] : hosts[0]
  await user.workspace(workspace.id)
  const id = newHandoffId()
  await user.open({
    id,
    workspace: workspace.id,
    kind: "push",
    source: source.host,
    target: target.host,
    epoch,
    openedBy: source.name,
    preflight: { workspace: workspace.id, arriving: null, leaving: null },
  })
  const { checkpoint } = await send(worker, workspace, "sealed")
  await source.api.checkpointStep(id, "sealed", { ...as(source, workspace), checkpoint, parent })
  await target.api.record(workspace.id)
  const received = await receive(worker, target, workspace, checkpoint)
  await target.api.plainStep(id, "staged", as(target, workspace))
  const flipped = await target.api.plainStep(id, "flip", as(target, workspace))
  if (flipped.workspace.ownerHost !== target.host)
    throw new Error(`${id}: the flip made ${flipped.workspace.ownerHost} owner`)
  await target.api.plainStep(id, "live", as(target, workspace))
  Object.assign(workspace, { owner: target, epoch: epoch + 1, head: checkpoint, blobs: received.blobs })
  await report(target, workspace)
  await source.api.record(workspace.id)
  await source.api.plainStep(id, "done", { ...as(source, workspace), epoch })
  worker.clock.record("hand-off, whole", performance.now() - startedAt)
}

function as(
  by: LoadHost,
  workspace: LoadWorkspace,
): { workspace: WorkspaceId; incarnation: Incarnation; epoch: number } {
  return { workspace: workspace.id, incarnation: by.incarnation, epoch: workspace.epoch }
}

async function report(by: LoadHost, workspace: LoadWorkspace): Promise<void> {
  const directory = `/home/somebody/src/${workspace.id}`
  await by.api.report({ workspace: workspace.id, incarnation: by.incarnation, directory, sessionCount: 3 })
}

/** A pack and a session that grew, beside at most so many older blobs, as a folded chain has. */
const KEPT_BLOBS = 10

async function send(worker: Worker, workspace: LoadWorkspace, kind: "live" | "sealed"): Promise<Manifest> {
  const { owner, epoch, head } = workspace
  const { random, content, spools } = worker
  const sizes = [2000 * 100 ** random(), 1000 * 30 ** random()]
  const fresh: BlobRef[] = []
  for (const size of sizes) fresh.push(await spools.out.sink.put(new Blob([content(Math.round(size))]).stream()))
  const manifest = manifestOf(owner, workspace, kind, [...workspace.blobs.slice(-KEPT_BLOBS), ...fresh])
  const body = new TextEncoder().encode(JSON.stringify(manifest))
  const asked = {
    ...as(owner, workspace),
    epoch,
    checkpoint: manifest.checkpoint,
    manifestSize: body.byteLength,
    manifestSha256: Bun.SHA256.hash(body, "hex"),
    blobs: [...manifest.blobs],
  }
  await uploadBlobs(owner.blobs, {
    plan: async () => await owner.api.planBlobs(asked),
    manifest: body,
    spool: spools.out,
    listener: () => {},
    step: "send",
  })
  await spools.out.prune()
  if (head !== manifest.parent) throw new Error("two works on one workspace")
  return manifest
}

async function receive(
  worker: Worker,
  target: LoadHost,
  { id: workspace }: LoadWorkspace,
  checkpoint: CheckpointId,
): Promise<Manifest> {
  const spool = worker.spools.in
  const first = await target.api.checkpointUrls(checkpoint, { workspace, blobs: [] })
  const manifest = manifestSchema.parse(
    JSON.parse(await downloadText(target.blobs, first.manifest, MANIFEST_MAX_BYTES)),
  )
  // What it has since the hand-off before is not asked for again.
  const refs = manifest.blobs.slice(-2)
  const { source } = await downloadBlobs(target.blobs, {
    refs,
    urls: async (blobs) => await target.api.checkpointUrls(checkpoint, { workspace, blobs: [...blobs] }),
    spool,
    listener: () => {},
    step: "receive",
  })
  for (const ref of refs) {
    let size = 0
    for await (const part of source.open(ref.id)) size += part.byteLength
    if (size !== ref.plainSize) throw new Error(`${ref.id}: ${size} bytes came, not ${ref.plainSize}`)
  }
  await spool.prune()
  return manifest
}

function manifestOf(by: LoadHost, workspace: LoadWorkspace, kind: "live" | "sealed", blobs: BlobRef[]): Manifest {
  const oid = oidSchema.parse("1".repeat(40))
  return {
    schema: MANIFEST_SCHEMA,
    workspace: workspace.id,
    checkpoint: newCheckpointId(),
    parent: workspace.head,
    epoch: workspace.epoch,
    kind,
    createdAtMs: Date.now(),
    creator: { host: by.host, incarnation: by.incarnation },
    contentDigest: "0".repeat(64),
    code: {
      objectFormat: "sha1",
      head: oid,
      rootCommit: oid,
      branch: "main",
      upstream: null,
      originUrl: null,
      indexTree: oid,
      worktreeTree: oid,
      snapshot: oid,
      stateTree: null,
      heldBranches: [],
      carried: [],
      lfs: [],
      allBranches: false,
      nested: [],
      packs: blobs.map((ref) => ({ blob: ref.id, snapshot: oid })),
    },
    agents: [],
    sessions: [],
    blobs,
    encryption: null,
  }
}

/** Compares what the gateway says of every workspace with what was done; answers the differences. */
export async function differences({ user, workspaces }: Tenant): Promise<string[]> {
  const views = new Map((await user.workspaces()).map((view) => [view.workspace.id, view]))
  return workspaces.flatMap((workspace) => {
    const view = views.get(workspace.id)
    const said = [view?.workspace.ownerHost, view?.workspace.epoch, view?.workspace.headCheckpoint].join(" ")
    const done = [workspace.owner.host, workspace.epoch, workspace.head].join(" ")
    const isOpen = view?.handoff !== null && view?.handoff !== undefined
    return said === done && !isOpen ? [] : [`${workspace.id}: the gateway has ${said}, done was ${done}`]
  })
}

/** Gateways in this process for tests, and laptops that talk to them as daemons would. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { uploadBlobs } from "../../src/client/blob-transfer.ts"
import { hostApi, userApi, type HostApi, type UserApi } from "../../src/client/gateway-client.ts"
import { inProcessFetcher, unixFetcher } from "../../src/client/http.ts"
import { startGateway, type Gateway, type GatewayOptions } from "../../src/gateway/start.ts"
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
import type { Manifest } from "../../src/protocol/manifest.ts"
import { openSpool, type Spool } from "../../src/storage/spool.ts"
import { MANIFEST_SCHEMA } from "../../src/protocol/version.ts"

const made = new Set<string>()

const running = new Set<Gateway>()

/** Ends every gateway that {@link begin} started; for afterEach. */
export async function endAll(): Promise<void> {
  for (const gateway of running) await gateway.stop()
  running.clear()
}

/** Removes every folder; for afterAll. */
export async function removeAll(): Promise<void> {
  for (const path of made) await rm(path, { recursive: true, force: true })
  made.clear()
}

/** A fresh folder. */
export async function folder(name: string): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), `decamp-${name}-`))
  made.add(path)
  return path
}

export async function freshSpool(): Promise<Spool> {
  return await openSpool(await folder("spool"))
}

export async function begin(options: Partial<GatewayOptions> = {}): Promise<Gateway & { stateDir: string }> {
  const stateDir = options.stateDir ?? (await folder("gateway"))
  const gateway = await startGateway({ selfArgv: ["false"], ...options, stateDir })
  running.add(gateway)
  return { ...gateway, stateDir }
}
export async function end(gateway: Gateway & { stateDir: string }): Promise<void> {
  await gateway.stop()
  for (const each of running) if (each.hostSocket === gateway.hostSocket) running.delete(each)
}

export interface Laptop {
  readonly host: HostId
  readonly incarnation: Incarnation
  readonly name: string
  readonly token: string
  readonly api: HostApi
}
export async function laptop(gateway: Gateway, name = "anna"): Promise<Laptop> {
  const identity = { host: newHostId(), incarnation: newIncarnation() }
  const registered = await userApi(inProcessFetcher(gateway.user)).registerHost({ ...identity, name })
  const api = hostApi(unixFetcher(gateway.hostSocket, { token: registered.token }))
  return { ...identity, ...registered, api }
}
export const userOf = (gateway: Gateway): UserApi => userApi(inProcessFetcher(gateway.user))

export function manifestOf(
  by: Laptop,
  workspace: WorkspaceId,
  blobs: BlobRef[],
  change: Partial<Manifest> = {},
): Manifest {
  const oid = oidSchema.parse("1".repeat(40))
  return {
    schema: MANIFEST_SCHEMA,
    workspace,
    checkpoint: newCheckpointId(),
    parent: null,
    epoch: 1,
    kind: "live",
    createdAtMs: 1,
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
    ...change,
  }
}

/** In hex. */
export function sha256Of(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex")
}

/** Captures some bytes as a blob and uploads them under a manifest. */
export async function upload(by: Laptop, workspace: WorkspaceId, content: string, change: Partial<Manifest> = {}) {
  const spool = await freshSpool()
  const ref = await spool.sink.put(new Blob([content]).stream())
  const manifest = manifestOf(by, workspace, [ref], change)
  const body = new TextEncoder().encode(JSON.stringify(manifest))
  const plan = await by.api.planBlobs({
    workspace,
    incarnation: by.incarnation,
    epoch: manifest.epoch,
    checkpoint: manifest.checkpoint,
    manifestSize: body.byteLength,
    manifestSha256: sha256Of(body),
    blobs: [ref],
  })
  await uploadBlobs(by.api.blobs, { plan: async () => plan, manifest: body, spool, listener: () => {}, step: "send" })
  return { manifest, ref, plan }
}
export const step = (by: Laptop, workspace: WorkspaceId, epoch = 1) => ({
  workspace,
  incarnation: by.incarnation,
  epoch,
})

export async function workspaceOf(gateway: Gateway, owner: Laptop, name = "shop"): Promise<WorkspaceId> {
  const id = newWorkspaceId()
  await userOf(gateway).createWorkspace({ id, name, host: owner.host, incarnation: owner.incarnation })
  return id
}
export const openTo = (workspace: WorkspaceId, source: Laptop, target: Laptop, epoch = 1) => ({
  id: newHandoffId(),
  workspace,
  kind: "push" as const,
  source: source.host,
  target: target.host,
  epoch,
  openedBy: source.name,
  preflight: { workspace, arriving: null, leaving: null },
})

/** Moves a workspace between two laptops as their daemons would. */
export async function move(
  gateway: Gateway,
  workspace: WorkspaceId,
  from: Laptop,
  to: Laptop,
  epoch: number,
  parent: CheckpointId | null,
) {
  const opened = await userOf(gateway).open(openTo(workspace, from, to, epoch))
  const id = opened.handoff.id
  const { manifest } = await upload(from, workspace, `epoch ${epoch}`, { kind: "sealed", epoch, parent })
  const { checkpoint } = manifest
  await from.api.checkpointStep(id, "sealed", { ...step(from, workspace, epoch), checkpoint, parent })
  await to.api.plainStep(id, "staged", step(to, workspace, epoch))
  const flipped = await to.api.plainStep(id, "flip", step(to, workspace, epoch))
  await to.api.plainStep(id, "live", step(to, workspace, epoch))
  const done = await from.api.plainStep(id, "done", step(from, workspace, epoch))
  return { id, checkpoint, flipped, done }
}
